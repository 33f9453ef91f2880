-- The ids behind users' names, each as it was given, in a shop with text ids.
WITH asked AS MATERIALIZED (
    SELECT %(names)s::text[] AS given, tterec.spelled_names(%(names)s::text[]) AS spelled
)
SELECT one.given, k.user_id
FROM asked a, unnest(a.given, a.spelled) AS one (given, spelled)
    JOIN tterec.user_keys k ON k.key = one.spelled
