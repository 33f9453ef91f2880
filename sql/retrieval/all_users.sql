-- Everybody who is in the users query or has an interaction, by the ids of the queries, as text: both
-- need not have the same type.
SELECT user_id::text AS name FROM tterec.source_users WHERE user_id IS NOT NULL
UNION
SELECT user_id::text FROM tterec.source_interactions WHERE user_id IS NOT NULL
ORDER BY name
