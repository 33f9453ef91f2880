-- What the second stage looks at, with the embedding of each item and what speaks for it: the
-- items nearest to the user's vector, and those that the items met, the most telling first, speak
-- for most; without the excluded, which ascend.
WITH candidates AS MATERIALIZED (
    SELECT array_agg(item_id) AS ids
    FROM unnest(%(near)s::bigint[] || tterec.leads_@generation@(
        %(met)s::bigint[], %(near)s::bigint[], %(excluded)s::bigint[])) AS c (item_id)
    WHERE true AND item_id @among@
)
SELECT v.item_id, c.isbn, c.title, v.embedding, e.weights
FROM (
    -- Each by its own pass over the index, as in tterec.scored_@generation@.
    SELECT item_id, embedding
    FROM tterec.item_vectors_@generation@
    WHERE item_id = ANY ((SELECT ids FROM candidates)::bigint[])
    OFFSET 0
) v JOIN (
    SELECT item_id, weights
    FROM tterec.item_evidence_@generation@
    WHERE item_id = ANY ((SELECT ids FROM candidates)::bigint[])
    OFFSET 0
) e ON e.item_id = v.item_id
    JOIN tterec.catalogue c ON c.item_id = v.item_id
