-- The most popular items as of the live generation.
SELECT c.item_id, c.isbn, c.title, p.score
FROM tterec.item_popularity p JOIN tterec.catalogue c ON c.item_id = p.item_id
WHERE p.generation = %(generation)s AND p.item_id NOT IN (SELECT unnest(%(excluded)s::bigint[]))
    AND p.item_id @among@
ORDER BY p.score DESC, p.item_id
LIMIT %(k)s
