-- The embeddings of a feature's tokens.
SELECT token, embedding
FROM tterec.profile_tokens_@generation@
WHERE name = %(feature)s AND token = ANY (%(tokens)s::text[])
