-- Every item's embedding.
SELECT item_id, embedding FROM tterec.item_vectors_@generation@ ORDER BY item_id
