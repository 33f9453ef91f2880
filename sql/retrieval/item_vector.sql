-- An item's embedding.
SELECT embedding
FROM tterec.item_vectors_@generation@
WHERE item_id = %(item_id)s
