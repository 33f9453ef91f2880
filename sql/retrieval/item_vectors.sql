-- Items' embeddings; none for items that are newer than the generation.
SELECT item_id, embedding
FROM tterec.item_vectors_@generation@
WHERE item_id = ANY (%(item_ids)s::bigint[])
