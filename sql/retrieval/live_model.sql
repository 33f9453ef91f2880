-- The live generation and what serving needs of it; the schema of the type vector. No row where
-- no generation is live.
SELECT m.generation, m.dim, m.normalised, m.max_history, m.history_weights, m.default_profile,
    m.ef_search, quote_ident(n.nspname), m.ranker
FROM tterec.active_model a
    JOIN tterec.models m ON m.generation = a.generation
    CROSS JOIN pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
