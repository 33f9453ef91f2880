-- Items and what is known of them. item_id is the id; isbn, where there is such a column, is the
-- name by which people ask for the item; title is shown in lists. Every other column, title too,
-- becomes a feature of the item tower, by its type.
SELECT book_id AS item_id, isbn, title, author, publisher, year
FROM tterec.books
