-- The same by a scan of all vectors: 0 + ... is an order that the index does not know.
SELECT v.item_id, c.isbn, c.title, v.embedding
FROM tterec.item_vectors_@generation@ v JOIN tterec.catalogue c ON c.item_id = v.item_id
WHERE v.item_id NOT IN (SELECT unnest(%(excluded)s::bigint[])) AND v.item_id @among@
ORDER BY 0 + (v.embedding OPERATOR(@extension@.<#>) %(vector)s::@extension@.vector), v.item_id
LIMIT %(k)s
