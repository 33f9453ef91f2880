-- The one definition of popularity, of every item of the catalogue: a rating mean, shrunk towards
-- the mean of all ratings as if each item had 50 such ratings more, so that a few tens cannot
-- outshine hundreds of nines; where nothing was ever rated, the number of interactions on a scale
-- of 0 to 10. `@extension@` in these files is the schema of the type vector.
CREATE OR REPLACE FUNCTION tterec.popularity()
RETURNS TABLE (item_id bigint, interactions int, ratings int, mean_rating real, score real)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 100000 COST 100000
SET search_path = pg_catalog, pg_temp
AS $$
    WITH counted AS (
        SELECT i.item_id, count(*) AS interactions, count(i.rating) AS ratings,
            coalesce(sum(i.rating::float8), 0) AS total
        FROM tterec.interactions i
        GROUP BY i.item_id
    ), filled AS (
        SELECT c.item_id, coalesce(n.interactions, 0) AS interactions,
            coalesce(n.ratings, 0) AS ratings, coalesce(n.total, 0) AS total
        FROM tterec.catalogue c LEFT JOIN counted n ON n.item_id = c.item_id
    ), overall AS (
        -- Of the catalogue's items alone, as what is counted again later is drawn to.
        SELECT sum(total) / nullif(sum(ratings), 0) AS mean, 50::float8 AS prior
        FROM filled
    )
    SELECT f.item_id, f.interactions::int, f.ratings::int, (f.total / nullif(f.ratings, 0))::real,
        CASE
            WHEN o.mean IS NULL THEN 10 * f.interactions / (f.interactions + o.prior)
            ELSE (f.total + o.prior * o.mean) / (f.ratings + o.prior)
        END::real
    FROM filled f CROSS JOIN overall o
$$;

COMMENT ON FUNCTION tterec.popularity() IS
    'Popularity of every item of the catalogue: interactions, ratings, their mean, shrunk score.';
