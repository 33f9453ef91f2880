-- After a query by the index.
SET LOCAL enable_sort TO DEFAULT
