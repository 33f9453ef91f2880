-- For this transaction: how far the index looks, and, but where once will do, that it looks further
-- where rows are filtered.
-- It has the order: without filters there is never a reason to sort all vectors.
SELECT set_config('hnsw.ef_search',
        tterec.search_width(%(ef_search)s, %(k)s, %(excluded)s)::text, true),
    set_config('hnsw.iterative_scan', CASE WHEN %(once)s THEN 'off' ELSE 'strict_order' END, true),
    CASE WHEN %(sorted)s THEN set_config('enable_sort', 'off', true) END
