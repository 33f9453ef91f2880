-- The profile part of users' vectors, where they have one.
SELECT user_id, embedding
FROM tterec.user_vectors_@generation@
WHERE user_id = ANY (%(user_ids)s::bigint[])
