-- The ids behind users' names in a shop with text ids.
SELECT key, user_id
FROM tterec.user_keys
WHERE key = ANY (%(names)s::text[])
