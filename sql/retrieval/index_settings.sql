-- For this transaction: how far the index looks, and that it looks further where rows are filtered.
SELECT set_config('hnsw.ef_search', %(ef_search)s::text, true),
    set_config('hnsw.iterative_scan', 'strict_order', true)
