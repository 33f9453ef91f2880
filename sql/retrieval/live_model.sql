-- The live generation and what serving needs of it; the schema of the type vector. No row where
-- no generation is live. A generation's number may come again in a database that was restored,
-- the moment it was made at does not.
SELECT m.generation, m.dim, m.normalised, m.max_history, m.history_weights, m.default_profile,
    m.ef_search, quote_ident(n.nspname), m.ranker,
    extract(epoch FROM m.created_at)::text || '/' || m.revision
FROM tterec.active_model a
    JOIN tterec.models m ON m.generation = a.generation
    CROSS JOIN pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
