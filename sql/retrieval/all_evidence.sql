-- The second stage of the whole catalogue.
SELECT item_id, weights, leads, traits, place
FROM tterec.item_evidence_@generation@
ORDER BY item_id
