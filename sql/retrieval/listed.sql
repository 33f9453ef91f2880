-- What lists show of items; nothing of those that have left the catalogue.
SELECT item_id, isbn, title
FROM tterec.catalogue
WHERE item_id = ANY (%(item_ids)s::bigint[])
