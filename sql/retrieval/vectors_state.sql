-- Which vectors these are: the cluster, the database, when the generation was made, and the mark
-- of its last change in place.
SELECT s.system_identifier::text, d.oid::bigint, extract(epoch FROM m.created_at)::text,
    (SELECT value FROM tterec.schema_state WHERE key = 'vectors_' || m.generation)
FROM pg_control_system() s, pg_database d, tterec.models m
WHERE d.datname = current_database() AND m.generation = %(generation)s
