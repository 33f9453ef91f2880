-- The user tower's columns.
SELECT c.name, c.kind, c.mean, c.scale, c.weights, c.buckets
FROM tterec.profile_columns c
WHERE c.generation = %(generation)s
ORDER BY c.name COLLATE "C"
