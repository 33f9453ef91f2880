-- The second stage of the whole catalogue.
SELECT item_id, weights, leads, traits
FROM tterec.item_evidence_@generation@
ORDER BY place
