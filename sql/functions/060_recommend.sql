-- What other programs call. The caller's rights apply (SECURITY INVOKER), nothing is written, and
-- the caller's settings are as before on return. What the filters mean stands in 025_filters.sql.

-- The list of a user with this history, and who has met these (`met`), as tterec.history_of has them;
-- user_id is NULL where the user has no number.
CREATE OR REPLACE FUNCTION tterec.recommend_after(
    user_id bigint, items bigint[], ratings real[], met bigint[], k int, exclude_rated boolean,
    filters jsonb, strategy text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted int := tterec.checked_k(k);
    embedded record;
    excluded bigint[] := CASE WHEN exclude_rated IS DISTINCT FROM false THEN met ELSE '{}' END;
BEGIN
    IF strategy IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tterec.by_strategy(
            strategy, items, ratings, wanted, excluded, filters);
        RETURN;
    END IF;
    SELECT * INTO embedded FROM tterec.embed(user_id, items, ratings);
    IF embedded.vector IS NULL THEN
        RETURN QUERY SELECT * FROM tterec.popular_without(wanted, excluded, filters);
    ELSIF embedded.history > 0 AND embedded.ranker IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tterec.ranked(
            embedded.generation, embedded.vector, wanted, excluded, items, ratings,
            embedded.ef_search, filters);
    ELSE
        RETURN QUERY SELECT * FROM tterec.nearest(
            embedded.generation, embedded.vector, wanted, excluded, embedded.ef_search,
            CASE WHEN embedded.history > 0 THEN 'history' ELSE 'profile' END, filters);
    END IF;
END
$$;

-- The list of a user as of now, by number, and by name where users have one; one that was
-- precomputed serves with filters, where it may.
CREATE OR REPLACE FUNCTION tterec.recommend_live(
    user_id bigint, name text, k int, exclude_rated boolean, only_isbns text[],
    without_isbns text[], author text, publisher text, min_year int, max_year int,
    min_ratings int, strategy text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    history record;
    filters jsonb := tterec.filters(
        only_isbns, without_isbns, author, publisher, min_year, max_year, min_ratings);
BEGIN
    IF filters IS NOT NULL AND strategy IS NULL AND exclude_rated IS DISTINCT FROM false THEN
        RETURN QUERY SELECT * FROM tterec.listed_among(user_id, coalesce(k, 10), filters);
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF name IS NULL THEN
        SELECT * INTO history FROM tterec.history_of(recommend_live.user_id);
    ELSE
        SELECT * INTO history FROM tterec.history_of(recommend_live.name);
    END IF;
    RETURN QUERY SELECT * FROM tterec.recommend_after(
        user_id, history.items, history.ratings, history.met, k, exclude_rated, filters, strategy);
END
$$;

-- A precomputed list where it is right and long enough, else the live path. These are inlined into
-- the caller's query: PL/pgSQL would take half of what a list gains.
CREATE OR REPLACE FUNCTION tterec.recommend(
    user_id bigint, k int DEFAULT 10, exclude_rated boolean DEFAULT true,
    only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL, author text DEFAULT NULL,
    publisher text DEFAULT NULL, min_year int DEFAULT NULL, max_year int DEFAULT NULL,
    min_ratings int DEFAULT NULL, strategy text DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE ROWS 10
AS $$
    WITH listed AS MATERIALIZED (
        SELECT l.*
        FROM tterec.listed(user_id, coalesce(k, 10)) l
        WHERE strategy IS NULL AND coalesce(exclude_rated, true)
            AND pg_catalog.num_nonnulls(only_isbns, without_isbns, author, publisher, min_year,
                max_year, min_ratings) OPERATOR(pg_catalog.=) 0
    )
    SELECT l.* FROM listed l
    WHERE (SELECT pg_catalog.count(*) FROM listed) OPERATOR(pg_catalog.=) greatest(coalesce(k, 10), 1)
    UNION ALL
    SELECT r.*
    FROM tterec.recommend_live(user_id, NULL, k, exclude_rated, only_isbns, without_isbns, author,
        publisher, min_year, max_year, min_ratings, strategy) r
    WHERE (SELECT pg_catalog.count(*) FROM listed)
        OPERATOR(pg_catalog.<>) greatest(coalesce(k, 10), 1)
$$;

COMMENT ON FUNCTION tterec.recommend(
    bigint, int, boolean, text[], text[], text, text, int, int, int, text) IS
    'The k best books for a user. Example: SELECT * FROM tterec.recommend(123, min_year => 1990)';

CREATE OR REPLACE FUNCTION tterec.recommend(
    user_id text, k int DEFAULT 10, exclude_rated boolean DEFAULT true,
    only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL, author text DEFAULT NULL,
    publisher text DEFAULT NULL, min_year int DEFAULT NULL, max_year int DEFAULT NULL,
    min_ratings int DEFAULT NULL, strategy text DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE ROWS 10
AS $$
    WITH listed AS MATERIALIZED (
        SELECT l.*
        FROM tterec.listed(tterec.user_id_of(user_id), coalesce(k, 10)) l
        WHERE strategy IS NULL AND coalesce(exclude_rated, true)
            AND pg_catalog.num_nonnulls(only_isbns, without_isbns, author, publisher, min_year,
                max_year, min_ratings) OPERATOR(pg_catalog.=) 0
    )
    SELECT l.* FROM listed l
    WHERE (SELECT pg_catalog.count(*) FROM listed) OPERATOR(pg_catalog.=) greatest(coalesce(k, 10), 1)
    UNION ALL
    SELECT r.*
    FROM tterec.recommend_live(tterec.user_id_of(user_id), user_id, k, exclude_rated, only_isbns,
        without_isbns, author, publisher, min_year, max_year, min_ratings, strategy) r
    WHERE (SELECT pg_catalog.count(*) FROM listed)
        OPERATOR(pg_catalog.<>) greatest(coalesce(k, 10), 1)
$$;

COMMENT ON FUNCTION tterec.recommend(
    text, int, boolean, text[], text[], text, text, int, int, int, text) IS
    'The k best books for a user with a text id. Example: SELECT * FROM tterec.recommend(''anna'')';

CREATE OR REPLACE FUNCTION tterec.user_vector(user_id bigint) RETURNS @extension@.vector
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.vector
    FROM tterec.history_of(user_id) h, LATERAL tterec.embed(user_id, h.items, h.ratings) e
$$;

COMMENT ON FUNCTION tterec.user_vector(bigint) IS
    'A user''s vector as of now; NULL for an unknown user. Its inner products are similarities.';

CREATE OR REPLACE FUNCTION tterec.user_vector(user_id text) RETURNS @extension@.vector
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.vector
    FROM tterec.history_of(user_id) h,
        LATERAL tterec.embed(tterec.user_id_of(user_id), h.items, h.ratings) e
$$;

COMMENT ON FUNCTION tterec.user_vector(text) IS
    'The vector of a user with a text id. Example: SELECT tterec.user_vector(''anna'')';

CREATE OR REPLACE FUNCTION tterec.recommend_for_books(
    isbns text[], ratings real[] DEFAULT NULL, k int DEFAULT 10,
    only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL, author text DEFAULT NULL,
    publisher text DEFAULT NULL, min_year int DEFAULT NULL, max_year int DEFAULT NULL,
    min_ratings int DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted int := tterec.checked_k(k);
    given record;
    embedded record;
    filters jsonb := tterec.filters(
        only_isbns, without_isbns, author, publisher, min_year, max_year, min_ratings);
BEGIN
    IF cardinality(recommend_for_books.ratings) <> cardinality(isbns) THEN
        RAISE EXCEPTION '% isbns but % ratings; pass one rating an isbn, NULL where there is none',
            cardinality(isbns), cardinality(recommend_for_books.ratings)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM unnest(recommend_for_books.ratings) r WHERE NOT r BETWEEN 0 AND 10) THEN
        RAISE EXCEPTION 'a rating is not between 0 and 10; pass NULL for a book without rating'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A book named twice counts once, with its higher rating.
    SELECT coalesce(array_agg(b.item_id ORDER BY b.rating DESC NULLS LAST, b.item_id), '{}') AS items,
        coalesce(array_agg(b.rating ORDER BY b.rating DESC NULLS LAST, b.item_id), '{}') AS ratings,
        coalesce(array_agg(b.item_id ORDER BY b.item_id), '{}') AS met
    INTO given
    FROM (
        SELECT c.item_id::bigint, max(g.rating) AS rating
        FROM unnest(tterec.spelled_isbns(isbns), recommend_for_books.ratings) AS g (isbn, rating)
            JOIN tterec.catalogue c ON c.isbn = g.isbn
        GROUP BY c.item_id
    ) b;
    SELECT * INTO embedded FROM tterec.embed(NULL, given.items, given.ratings);
    IF embedded.vector IS NULL THEN
        RETURN QUERY SELECT * FROM tterec.popular_without(wanted, given.items, filters);
    ELSE
        RETURN QUERY SELECT * FROM tterec.ranked(
            embedded.generation, embedded.vector, wanted, given.met, given.items,
            given.ratings, embedded.ef_search, filters);
    END IF;
END
$$;

COMMENT ON FUNCTION tterec.recommend_for_books IS
    'The k best books for a reader of these. Example: SELECT * FROM tterec.recommend_for_books(ARRAY[''0439064864''], ARRAY[9])';

-- PL/pgSQL, unlike SQL, cannot have an argument named as a column of the result.
CREATE OR REPLACE FUNCTION tterec.similar_to(book text, k int, filters jsonb DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    wanted int := tterec.checked_k(k);
    asked bigint := tterec.item_id_of(book);
    model record;
    embedding @extension@.vector;
BEGIN
    SELECT m.generation, m.ef_search INTO model
    FROM tterec.active_model a JOIN tterec.models m ON m.generation = a.generation;
    IF FOUND THEN
        EXECUTE format('SELECT embedding FROM tterec.item_vectors_%s WHERE item_id = $1',
            model.generation) INTO embedding USING asked;
    END IF;
    IF embedding IS NULL THEN  -- the book is newer than the live generation
        RETURN QUERY SELECT * FROM tterec.popular_without(wanted, ARRAY[asked], filters);
    ELSE
        RETURN QUERY SELECT * FROM tterec.nearest(
            model.generation, embedding, wanted, ARRAY[asked], model.ef_search, 'history',
            filters);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION tterec.similar_books(
    isbn text, k int DEFAULT 10,
    only_isbns text[] DEFAULT NULL, without_isbns text[] DEFAULT NULL, author text DEFAULT NULL,
    publisher text DEFAULT NULL, min_year int DEFAULT NULL, max_year int DEFAULT NULL,
    min_ratings int DEFAULT NULL)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE ROWS 10
AS $$
    SELECT * FROM tterec.similar_to(isbn, k, tterec.filters(
        only_isbns, without_isbns, author, publisher, min_year, max_year, min_ratings))
$$;

COMMENT ON FUNCTION tterec.similar_books IS
    'The k books nearest to a book. Example: SELECT * FROM tterec.similar_books(''0439064864'')';
