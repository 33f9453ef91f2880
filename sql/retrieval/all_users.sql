-- Everybody who is in the users query or has an interaction, under the id that the queries use.
SELECT user_id FROM tterec.source_users WHERE user_id IS NOT NULL
UNION
SELECT user_id FROM tterec.source_interactions WHERE user_id IS NOT NULL
ORDER BY user_id
