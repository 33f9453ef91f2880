-- The items behind ISBNs, each as it was given.
WITH asked AS MATERIALIZED (
    SELECT %(isbns)s::text[] AS given, tterec.spelled_isbns(%(isbns)s::text[]) AS spelled
)
SELECT one.given, c.item_id
FROM asked a, unnest(a.given, a.spelled) AS one (given, spelled)
    JOIN tterec.catalogue c
        ON c.isbn = one.spelled AND c.isbn = ANY ((SELECT spelled FROM asked)::text[])
