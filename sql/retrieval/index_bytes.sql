-- How large the HNSW index of a generation is.
SELECT sum(pg_relation_size(i.indexrelid))::bigint
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'tterec.item_vectors_@generation@'::regclass AND a.amname = 'hnsw'
