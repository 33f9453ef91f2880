-- The most popular books, without the excluded, and of those that pass the filters: of the live
-- generation, as it was published, or counted now where no generation is live.
CREATE OR REPLACE FUNCTION tterec.popular_without(
    k int, excluded bigint[], filters jsonb DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    live int := (SELECT generation FROM tterec.active_model);
    wanted int := tterec.checked_k(k);
BEGIN
    IF filters IS NOT NULL THEN
        RETURN QUERY EXECUTE format($text$
            SELECT row_number() OVER ()::int, ranked.*, NULL::real, 'popular'
            FROM (
                SELECT p.item_id, c.isbn, c.title, p.score
                FROM %s p JOIN tterec.catalogue c ON c.item_id = p.item_id
                WHERE p.item_id NOT IN (SELECT unnest($1)) AND p.item_id %s
                ORDER BY p.score DESC, p.item_id
                LIMIT $2
            ) ranked
            $text$,
            CASE
                WHEN live IS NULL THEN 'tterec.popularity()'
                ELSE format('(SELECT * FROM tterec.item_popularity WHERE generation = %s)', live)
            END,
            (SELECT condition FROM tterec.among(filters, wanted)))
            USING excluded, wanted;
    ELSIF live IS NULL THEN
        RETURN QUERY
            SELECT row_number() OVER ()::int, ranked.*, NULL::real, 'popular'
            FROM (
                SELECT p.item_id, c.isbn, c.title, p.score
                FROM tterec.popularity() p JOIN tterec.catalogue c ON c.item_id = p.item_id
                WHERE p.item_id NOT IN (SELECT unnest(popular_without.excluded))
                ORDER BY p.score DESC, p.item_id
                LIMIT wanted
            ) ranked;
    ELSE
        RETURN QUERY
            SELECT row_number() OVER ()::int, ranked.*, NULL::real, 'popular'
            FROM (
                SELECT p.item_id, c.isbn, c.title, p.score
                FROM tterec.item_popularity p JOIN tterec.catalogue c ON c.item_id = p.item_id
                WHERE p.generation = live AND p.item_id NOT IN (SELECT unnest(popular_without.excluded))
                ORDER BY p.score DESC, p.item_id
                LIMIT wanted
            ) ranked;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION tterec.popular_books(
    k int DEFAULT 10, only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL,
    author text DEFAULT NULL, publisher text DEFAULT NULL, min_year int DEFAULT NULL,
    max_year int DEFAULT NULL, min_ratings int DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
AS $$
    SELECT * FROM tterec.popular_without(k, '{}', tterec.filters(
        only_isbns, without_isbns, author, publisher, min_year, max_year, min_ratings))
$$;

COMMENT ON FUNCTION tterec.popular_books IS
    'The k most popular books. Example: SELECT * FROM tterec.popular_books(5, min_year => 1990)';
