-- What lists show of some items, those of them that are in the catalogue, and their vectors.
SELECT v.item_id, c.isbn, c.title, v.embedding
FROM tterec.item_vectors_@generation@ v JOIN tterec.catalogue c ON c.item_id = v.item_id
WHERE v.item_id = ANY (%(item_ids)s::bigint[])
