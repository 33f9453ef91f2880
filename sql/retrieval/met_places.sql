-- Where the items met stand in the sparse vectors of evidence, from 0.
SELECT item_id, place - 1
FROM tterec.item_evidence_@generation@
WHERE item_id = ANY (%(met)s::bigint[])
