-- For this transaction: how far the index looks, and that it looks further where rows are filtered;
-- whether the other index is the one to ask.
-- It has the order: without filters there is never a reason to sort all vectors.
SELECT set_config('hnsw.ef_search',
        tterec.search_width(%(ef_search)s, %(k)s, %(excluded)s)::text, true),
    set_config('hnsw.iterative_scan', 'strict_order', true),
    CASE WHEN %(sorted)s THEN set_config('enable_sort', 'off', true) END,
    tterec.met_most(%(excluded)s, %(k)s)
