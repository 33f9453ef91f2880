-- Users' interactions, each user's most telling first: newest, then highest rated, then by id.
SELECT user_id, item_id, rating
FROM tterec.interactions
WHERE user_id = ANY (%(user_ids)s::bigint[])
ORDER BY user_id, rated_at DESC NULLS LAST, rating DESC NULLS LAST, item_id
