-- The same where most of what is near by is excluded; the excluded ascend.
SELECT v.item_id, c.isbn, c.title, v.embedding
FROM tterec.beyond_@generation@(
        %(vector)s::@extension@.vector, %(excluded)s::bigint[], %(k)s) found
    CROSS JOIN unnest(found.ids) AS near (item_id)
    JOIN tterec.item_vectors_@generation@ v ON v.item_id = near.item_id
    JOIN tterec.catalogue c ON c.item_id = v.item_id
