-- A user's interactions: the most telling, and the ids of all.
SELECT items, ratings, met
FROM tterec.history_of(%(user_id)s::bigint)
