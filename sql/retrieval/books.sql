-- The items behind ISBNs.
SELECT isbn, item_id
FROM tterec.catalogue
WHERE isbn = ANY (%(isbns)s::text[])
