-- History vectors of items; none for items that are newer than the generation.
SELECT item_id, embedding
FROM tterec.history_vectors_@generation@
WHERE item_id = ANY (%(item_ids)s::bigint[])
