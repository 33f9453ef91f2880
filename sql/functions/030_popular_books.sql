-- The most popular books, without the excluded: of the live generation, as it was published, or
-- counted now where no generation is live.
CREATE OR REPLACE FUNCTION tterec.popular_without(k int, excluded bigint[])
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    live int := (SELECT generation FROM tterec.active_model);
BEGIN
    IF live IS NULL THEN
        RETURN QUERY
            SELECT row_number() OVER ()::int, ranked.*, NULL::real, 'popular'
            FROM (
                SELECT p.item_id, c.isbn, c.title, p.score
                FROM tterec.popularity() p JOIN tterec.catalogue c ON c.item_id = p.item_id
                WHERE p.item_id <> ALL (popular_without.excluded)
                ORDER BY p.score DESC, p.item_id
                LIMIT tterec.checked_k(popular_without.k)
            ) ranked;
    ELSE
        RETURN QUERY
            SELECT row_number() OVER ()::int, ranked.*, NULL::real, 'popular'
            FROM (
                SELECT p.item_id, c.isbn, c.title, p.score
                FROM tterec.item_popularity p JOIN tterec.catalogue c ON c.item_id = p.item_id
                WHERE p.generation = live AND p.item_id <> ALL (popular_without.excluded)
                ORDER BY p.score DESC, p.item_id
                LIMIT tterec.checked_k(popular_without.k)
            ) ranked;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION tterec.popular_books(k int DEFAULT 10)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
AS $$ SELECT * FROM tterec.popular_without(k, '{}') $$;

COMMENT ON FUNCTION tterec.popular_books(int) IS
    'The k most popular books. Example: SELECT * FROM tterec.popular_books(5)';
