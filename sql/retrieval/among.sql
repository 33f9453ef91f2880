-- Which items pass the filters: what follows an item id in a condition; whether they are few.
SELECT a.condition, a.few
FROM tterec.filters(%(only_isbns)s::text[], %(without_isbns)s::text[], %(author)s::text,
        %(publisher)s::text, %(min_year)s::int, %(max_year)s::int, %(min_ratings)s::int) f,
    LATERAL tterec.among(f, %(wanted)s::bigint) a
WHERE f IS NOT NULL
