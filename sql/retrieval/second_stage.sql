-- What the second stage looks at, with the embedding of each item and what speaks for it: the
-- items nearest to the user's vector, and those that the items met, the most telling first, speak
-- for most: the first few of them, of those that can say something.
WITH candidates AS MATERIALIZED (
    (
        SELECT unnest(%(near)s::bigint[]) AS item_id
        UNION
        SELECT unnest(asked.leads)
        FROM (
            SELECT e.leads
            FROM (
                SELECT m.item_id, min(m.n) AS n
                FROM unnest(%(met)s::bigint[]) WITH ORDINALITY AS m (item_id, n)
                GROUP BY m.item_id
            ) met JOIN tterec.item_evidence_@generation@ e ON e.item_id = met.item_id
            ORDER BY met.n
            LIMIT %(leaders)s
        ) asked
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
