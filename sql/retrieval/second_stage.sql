-- What the second stage looks at, with the embedding of each item and what speaks for it: the
-- items nearest to the user's vector, and those that the items met speak for most.
WITH candidates AS MATERIALIZED (
    (
        SELECT unnest(%(near)s::bigint[]) AS item_id
        UNION
        SELECT unnest(e.leads)
        FROM tterec.item_evidence_@generation@ e
        WHERE e.item_id = ANY (%(met)s::bigint[])
    )
    -- By a hash: thousands may be excluded.
    EXCEPT
    SELECT unnest(%(excluded)s::bigint[])
)
SELECT c.item_id, k.isbn, k.title, v.embedding, e.weights
FROM candidates c
    JOIN tterec.item_vectors_@generation@ v ON v.item_id = c.item_id
    JOIN tterec.item_evidence_@generation@ e ON e.item_id = c.item_id
    JOIN tterec.catalogue k ON k.item_id = c.item_id
WHERE true AND c.item_id @among@
