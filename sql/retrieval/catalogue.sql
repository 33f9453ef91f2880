-- What lists show of every item that has a vector: one row each, as `catalogue_vectors` has it, also
-- where the items query returns an item twice.
SELECT DISTINCT ON (v.item_id) c.isbn, c.title
FROM tterec.item_vectors_@generation@ v JOIN tterec.catalogue c ON c.item_id = v.item_id
WHERE true AND v.item_id @among@
ORDER BY v.item_id, c.isbn, c.title
