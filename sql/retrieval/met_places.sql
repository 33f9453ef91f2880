-- Where the items met stand in the sparse vectors of evidence, from 1, and their traits. No
-- place: the item came after the training.
SELECT item_id, place, traits
FROM tterec.item_evidence_@generation@
WHERE item_id = ANY (%(met)s::bigint[])
