-- Users and what is known of them. user_id, then any further columns: each becomes a feature of
-- the user tower, by its type (number, text, text[], real[] or vector, boolean, date).
SELECT user_id, age, location
FROM tterec.users
