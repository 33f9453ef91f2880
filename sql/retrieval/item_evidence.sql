-- What speaks for an item, and how much.
SELECT weights
FROM tterec.item_evidence_@generation@
WHERE item_id = %(item_id)s
