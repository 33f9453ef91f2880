-- Every item of the catalogue that has a vector.
SELECT v.item_id, v.embedding
FROM tterec.item_vectors_@generation@ v
WHERE EXISTS (SELECT FROM tterec.catalogue c WHERE c.item_id = v.item_id)
    AND v.item_id @among@
ORDER BY v.item_id
