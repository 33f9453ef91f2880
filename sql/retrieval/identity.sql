-- Which database this is, on whatever address; a replica is the one that it copies.
SELECT s.system_identifier::text || '-' || d.oid
FROM pg_control_system() s, pg_database d
WHERE d.datname = current_database()
