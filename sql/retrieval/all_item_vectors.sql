-- Every item vector, whether or not the item is in the catalogue now.
SELECT item_id, embedding
FROM tterec.item_vectors_@generation@
ORDER BY item_id
