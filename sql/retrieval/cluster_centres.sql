-- A generation's clusters by one method.
SELECT centre
FROM tterec.clusters
WHERE generation = %(generation)s AND method = %(method)s
ORDER BY cluster
