-- Every history vector.
SELECT item_id, embedding
FROM tterec.history_vectors_@generation@
ORDER BY item_id
