-- A user's interactions, the most telling first: newest, then highest rated, then by id.
SELECT user_id, item_id, rating
FROM tterec.user_interactions
WHERE user_id = %(user_id)s::bigint
ORDER BY rated_at DESC NULLS LAST, rating DESC NULLS LAST, item_id
