-- The items of every cluster of a generation by one method.
SELECT item_id, cluster
FROM tterec.item_clusters
WHERE generation = %(generation)s AND method = %(method)s
ORDER BY item_id
