-- Why a book stands where it stands: its score for a user, and what that is made of.

-- The score that tterec.recommend orders the book by for a user with this history, whether or not
-- the book is in it. NULL where the user or the book has no vector; an error where there is no such
-- book.
CREATE OR REPLACE FUNCTION tterec.score_after(
    user_id bigint, items bigint[], ratings real[], book text)
RETURNS real
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint := tterec.item_id_of(book);
    embedded record;
    model record;
    found real;
BEGIN
    SELECT * INTO embedded FROM tterec.embed(user_id, items, ratings);
    IF embedded.vector IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT m.ranker, m.max_history INTO model
    FROM tterec.models m WHERE m.generation = embedded.generation;
    IF embedded.history = 0 OR model.ranker IS NULL THEN
        EXECUTE format($text$
            SELECT round((-(v.embedding OPERATOR(@extension@.<#>) $1))::numeric, 6)::real
            FROM tterec.item_vectors_%s v
            WHERE v.item_id = $2
            $text$, embedded.generation)
        INTO found USING embedded.vector, asked;
    ELSE
        EXECUTE format($text$
            SELECT round((
                $4 * -(v.embedding OPERATOR(@extension@.<#>) $1)
                - coalesce(e.weights OPERATOR(@extension@.<#>) $3, 0))::numeric, 6)::real
            FROM tterec.item_vectors_%1$s v
                LEFT JOIN tterec.item_evidence_%1$s e ON e.item_id = v.item_id
            WHERE v.item_id = $2
            $text$, embedded.generation)
        INTO found
        USING embedded.vector, asked,
            tterec.heard(embedded.generation, model.ranker, items[1:model.max_history],
                ratings[1:model.max_history]),
            (model.ranker ->> 'similarity_weight')::float8;
    END IF;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION tterec.score(user_id bigint, isbn text) RETURNS real
LANGUAGE sql STABLE
AS $$
    SELECT tterec.score_after(user_id, h.items, h.ratings, isbn) FROM tterec.history_of(user_id) h
$$;

COMMENT ON FUNCTION tterec.score(bigint, text) IS
    'The score of a book for a user. Example: SELECT tterec.score(123, ''0439064864'')';

CREATE OR REPLACE FUNCTION tterec.score(user_id text, isbn text) RETURNS real
LANGUAGE sql STABLE
AS $$
    SELECT tterec.score_after(tterec.user_id_of(user_id), h.items, h.ratings, isbn)
    FROM tterec.history_of(user_id) h
$$;

COMMENT ON FUNCTION tterec.score(text, text) IS
    'The score of a book for a user with a text id. Example: SELECT tterec.score(''anna'', ''0439064864'')';

-- The entries of a sparse vector.
CREATE OR REPLACE FUNCTION tterec.entries(sparse @extension@.sparsevec)
RETURNS TABLE (place int, value float8)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT split_part(entry, ':', 1)::int, split_part(entry, ':', 2)::real::float8
    FROM string_to_table(btrim(split_part(sparse::text, '/', 1), '{}'), ',') entry
$$;

-- What the score is the sum of, the largest first: the user's own books that count, and, in a row
-- without a book, their profile. No rows where there is no score; an error where there is no such
-- book.
--
-- The inner product is linear in the history vectors: a book's share of it is weight(rating) *
-- history vector * embedding, over the root of the number of books, and over the length of the sum
-- where the generation's vectors are unit vectors; the length is the sum's inner product with the
-- user's vector. Evidence is linear in the books met; what a trait of several books adds is split
-- in proportion to how much each of them counts.
CREATE OR REPLACE FUNCTION tterec.explain_after(
    user_id bigint, items bigint[], ratings real[], book text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, rating real, contribution real)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint := tterec.item_id_of(book);
    embedded record;
    model record;
    profile @extension@.vector;
    met @extension@.sparsevec;
    evidence text := '';
BEGIN
    SELECT * INTO embedded FROM tterec.embed(explain_after.user_id, items, ratings);
    IF embedded.vector IS NULL THEN
        RETURN;
    END IF;
    SELECT m.ranker, m.normalised, m.history_weights, m.default_profile,
        explain_after.items[1:m.max_history] AS items,
        explain_after.ratings[1:m.max_history] AS ratings
    INTO model
    FROM tterec.models m WHERE m.generation = embedded.generation;
    EXECUTE format('SELECT embedding FROM tterec.user_vectors_%s WHERE user_id = $1',
        embedded.generation)
    INTO profile USING explain_after.user_id;
    IF embedded.history = 0 OR model.ranker IS NULL THEN
        model.ranker := '{"similarity_weight": 1}';
    ELSE
        met := tterec.heard(embedded.generation, model.ranker, model.items, model.ratings);
        evidence := format($text$
            , speakers AS MATERIALIZED (
                SELECT DISTINCT ON (e.item_id) e.item_id, e.place, e.traits,
                    coalesce(o.rating::float8 / 10, $9) AS voice
                FROM unnest($2, $3) WITH ORDINALITY AS o (item_id, rating, n)
                    JOIN tterec.item_evidence_%1$s e ON e.item_id = o.item_id
                ORDER BY e.item_id, o.n
            ), shares AS (
                SELECT item_id, place, 1::float8 AS share FROM speakers
                UNION ALL
                SELECT item_id, trait, voice / nullif(sum(voice) OVER (PARTITION BY trait), 0)
                FROM speakers, unnest(traits) trait
            ), spoken AS (
                SELECT s.item_id, s.share * heard.value * said.value AS amount
                FROM shares s
                    JOIN tterec.entries($8) heard ON heard.place = s.place
                    JOIN tterec.entries(
                        (SELECT weights FROM tterec.item_evidence_%1$s WHERE item_id = $1)
                    ) said ON said.place = s.place
            )
            $text$, embedded.generation);
    END IF;
    RETURN QUERY EXECUTE format($text$
        WITH asked AS MATERIALIZED (
            SELECT embedding FROM tterec.item_vectors_%1$s WHERE item_id = $1
        ), own AS (
            SELECT o.item_id, h.embedding,
                $4[coalesce(floor(o.rating + 0.5)::int + 1, 12)] / sqrt(count(*) OVER ()) AS weight
            FROM unnest($2, $3) AS o (item_id, rating)
                JOIN tterec.history_vectors_%1$s h ON h.item_id = o.item_id
        ), terms AS MATERIALIZED (
            SELECT o.item_id,
                -o.weight * (o.embedding OPERATOR(@extension@.<#>) a.embedding) AS similarity,
                -o.weight * (o.embedding OPERATOR(@extension@.<#>) $10) AS length
            FROM own o, asked a
            UNION ALL
            SELECT NULL, -($6 OPERATOR(@extension@.<#>) a.embedding),
                -($6 OPERATOR(@extension@.<#>) $10)
            FROM asked a
        ) %2$s, parts AS (
            SELECT item_id, $5 * similarity
                / CASE WHEN $7 THEN (SELECT sum(length) FROM terms) ELSE 1 END AS amount
            FROM terms
            %3$s
        ), summed AS (
            SELECT item_id, sum(amount) AS amount FROM parts GROUP BY item_id
        )
        SELECT (row_number() OVER (ORDER BY s.amount DESC, s.item_id NULLS LAST))::int,
            s.item_id, c.isbn, c.title, $3[array_position($2, s.item_id)], s.amount::real
        FROM summed s LEFT JOIN tterec.catalogue c ON c.item_id = s.item_id
        ORDER BY 1
        $text$,
        embedded.generation, evidence,
        CASE WHEN evidence <> '' THEN 'UNION ALL SELECT item_id, amount FROM spoken' END)
        USING asked, model.items, model.ratings, model.history_weights,
            (model.ranker ->> 'similarity_weight')::float8,
            coalesce(profile, model.default_profile::@extension@.vector), model.normalised, met,
            (model.ranker ->> 'unrated_weight')::float8, embedded.vector;
END
$$;

CREATE OR REPLACE FUNCTION tterec.explain(user_id bigint, isbn text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, rating real, contribution real)
LANGUAGE sql STABLE ROWS 100
AS $$
    SELECT e.*
    FROM tterec.history_of(user_id) h,
        LATERAL tterec.explain_after(user_id, h.items, h.ratings, isbn) e
$$;

COMMENT ON FUNCTION tterec.explain(bigint, text) IS
    'The user''s own books that a score comes from. Example: SELECT * FROM tterec.explain(123, ''0439064864'')';

CREATE OR REPLACE FUNCTION tterec.explain(user_id text, isbn text)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, rating real, contribution real)
LANGUAGE sql STABLE ROWS 100
AS $$
    SELECT e.*
    FROM tterec.history_of(user_id) h, LATERAL tterec.explain_after(
        tterec.user_id_of(user_id), h.items, h.ratings, isbn) e
$$;

COMMENT ON FUNCTION tterec.explain(text, text) IS
    'The same for a user with a text id. Example: SELECT * FROM tterec.explain(''anna'', ''0439064864'')';
