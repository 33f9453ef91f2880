-- The first k of a user's precomputed list by similarity alone that pass the filters, if it is right.
SELECT (row_number() OVER (ORDER BY one.place))::int, c.item_id, c.isbn, c.title, one.score,
    one.score, l.source
FROM tterec.fresh_list(%(user_id)s::bigint) l,
    unnest(l.items, l.scores) WITH ORDINALITY AS one (item_id, score, place)
    JOIN tterec.catalogue c ON c.item_id = one.item_id
WHERE l.similarities IS NULL AND one.item_id @among@
ORDER BY one.place
LIMIT %(k)s
