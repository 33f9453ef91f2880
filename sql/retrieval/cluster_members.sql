-- The items of one cluster.
SELECT item_id
FROM tterec.item_clusters
WHERE generation = %(generation)s AND method = %(method)s AND cluster = %(cluster)s
