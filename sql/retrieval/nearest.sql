-- The items of the catalogue nearest to a vector, by the index, which has the order by the distance
-- alone: equal ones are all fetched, and sorted by id afterwards.
SELECT item_id, isbn, title, embedding
FROM (
    SELECT v.item_id, c.isbn, c.title, v.embedding,
        v.embedding OPERATOR(@extension@.<#>) %(vector)s::@extension@.vector AS distance
    FROM tterec.item_vectors_@generation@ v JOIN tterec.catalogue c ON c.item_id = v.item_id
    WHERE v.item_id NOT IN (SELECT unnest(%(excluded)s::bigint[])) AND v.item_id @among@
    ORDER BY v.embedding OPERATOR(@extension@.<#>) %(vector)s::@extension@.vector
    FETCH FIRST (%(k)s) ROWS WITH TIES
) found
ORDER BY distance, item_id
LIMIT %(k)s
