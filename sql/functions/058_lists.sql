-- Precomputed lists: when one still is what would be computed now, and what is in it.
--
-- What is inlined into the caller's query is parsed under the caller's search_path: every name,
-- operators too, is qualified.

-- What a user has met, as one number, whatever the order: the same as long as nothing of it changes.
CREATE OR REPLACE FUNCTION tterec.history_digest(user_id bigint)
RETURNS TABLE (digest bigint)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
AS $$
    -- A sum: rows that are there twice do not cancel out. Hashes of 64 bits, whose sum is numeric,
    -- would take 10 us more for 20 rows; of 32 bits, one change in four billion is not noticed.
    SELECT pg_catalog.hashint8extended(
        coalesce(pg_catalog.sum(
            pg_catalog.hash_record(ROW(i.item_id, i.rating, i.rated_at))), 0::bigint),
        pg_catalog.count(*))
    FROM tterec.user_interactions i
    WHERE i.user_id OPERATOR(pg_catalog.=) history_digest.user_id
$$;

-- Whether a list is right although items have changed since: none of them is, or was, among those
-- that were looked at for it. `own` is the user's vector.
CREATE OR REPLACE FUNCTION tterec.untouched(
    generation int, user_id bigint, since bigint, own real[], nearest real)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    most CONSTANT int := 200;  -- of more, asking costs what a list costs
    margin CONSTANT float8 := 1e-5;
    ids bigint[];
    looked_at boolean;
BEGIN
    -- One that has come and is not in the catalogue now is in nobody's list.
    SELECT array_agg(c.item_id), bool_or(own IS NULL
        OR (c.before IS NULL AND c.after IS NULL)
        OR coalesce(-(c.before::@extension@.vector OPERATOR(@extension@.<#>)
            own::@extension@.vector) >= nearest - margin, false)
        OR (coalesce(-(c.after::@extension@.vector OPERATOR(@extension@.<#>)
                own::@extension@.vector) >= nearest - margin, false)
            AND EXISTS (SELECT FROM tterec.catalogue k WHERE k.item_id = c.item_id)))
    INTO ids, looked_at
    FROM (
        SELECT lc.item_id, lc.before, lc.after FROM tterec.list_changes lc
        WHERE lc.generation = untouched.generation AND lc.change > since
        LIMIT most + 1
    ) c;
    IF looked_at OR cardinality(ids) > most THEN
        RETURN false;
    ELSIF EXISTS (
        SELECT FROM tterec.user_interactions i
        WHERE i.user_id = untouched.user_id AND i.item_id = ANY (ids)
    ) THEN  -- the user's vector is another one now
        RETURN false;
    ELSIF (SELECT m.ranker IS NULL FROM tterec.models m WHERE m.generation = untouched.generation)
    THEN
        RETURN true;
    END IF;
    EXECUTE format(
        'SELECT NOT EXISTS (SELECT FROM tterec.user_interactions i JOIN tterec.item_evidence_%s e'
        ' ON e.item_id = i.item_id WHERE i.user_id = $1 AND e.leads && $2)', generation)
    INTO looked_at USING user_id, ids;
    RETURN looked_at;
END
$$;

-- The user's list in the live generation, if it is there and still right.
CREATE OR REPLACE FUNCTION tterec.fresh_list(user_id bigint)
RETURNS TABLE (items bigint[], scores real[], similarities real[], source text)
LANGUAGE sql STABLE ROWS 1
AS $$
    SELECT l.items, l.scores, l.similarities, l.source
    FROM tterec.user_lists l CROSS JOIN LATERAL tterec.history_digest(l.user_id) h
    WHERE l.generation OPERATOR(pg_catalog.=) (SELECT a.generation FROM tterec.active_model a)
        AND l.user_id OPERATOR(pg_catalog.=) fresh_list.user_id
        AND l.digest OPERATOR(pg_catalog.=) h.digest
        AND CASE
            WHEN EXISTS (
                SELECT FROM tterec.list_changes c
                WHERE c.generation OPERATOR(pg_catalog.=) l.generation
                    AND c.change OPERATOR(pg_catalog.>) l.change
            ) THEN tterec.untouched(l.generation, l.user_id, l.change, l.vector, l.nearest)
            ELSE true
        END
    OFFSET 0  -- decided before anything is unnested
$$;

-- The first k of the user's list, if it is right, without those that have left the catalogue: who
-- gets fewer than k asks the live path.
CREATE OR REPLACE FUNCTION tterec.listed(user_id bigint, k int)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE sql STABLE ROWS 10
AS $$
    SELECT one.rank::int, c.item_id::bigint, c.isbn, c.title, one.score,
        coalesce(one.similarity, one.score), l.source
    FROM tterec.fresh_list(user_id) l
        -- In this order without a sort: there is no other way to join what follows.
        CROSS JOIN LATERAL ROWS FROM (
            pg_catalog.unnest(l.items[1:k]), pg_catalog.unnest(l.scores[1:k]),
            pg_catalog.unnest(l.similarities[1:k])
        ) WITH ORDINALITY AS one (item_id, score, similarity, rank)
        -- One by one, by its key: in a small catalogue the planner, who expects a hundred rows of
        -- unnest, would read all books for each list.
        CROSS JOIN LATERAL (
            SELECT c.item_id, c.isbn, c.title FROM tterec.catalogue c
            WHERE c.item_id OPERATOR(pg_catalog.=) one.item_id
            OFFSET 0
        ) c
$$;

-- The first k of it that pass the filters, or nothing. Only of a list by similarity alone: a second
-- stage looks at other books where there are filters.
CREATE OR REPLACE FUNCTION tterec.listed_among(user_id bigint, k int, filters jsonb)
RETURNS TABLE (
    rank int, book_id bigint, isbn text, title text, score real, similarity real, source text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    list record;
BEGIN
    SELECT * INTO list FROM tterec.fresh_list(listed_among.user_id);
    IF NOT FOUND OR list.similarities IS NOT NULL OR k < 1 THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($text$
        SELECT s.rank, s.item_id, s.isbn, s.title, s.score, s.score, $4
        FROM (
            SELECT p.*, count(*) OVER () AS found
            FROM (
                SELECT (row_number() OVER (ORDER BY one.place))::int AS rank, c.item_id::bigint,
                    c.isbn, c.title, one.score
                FROM unnest($1, $2) WITH ORDINALITY AS one (item_id, score, place)
                    JOIN tterec.catalogue c ON c.item_id = one.item_id
                WHERE one.item_id IN (SELECT f.item_id FROM (%s) f WHERE f.item_id = ANY ($1))
                ORDER BY one.place
                LIMIT $3
            ) p
        ) s
        WHERE s.found = $3
        ORDER BY s.rank
        $text$, tterec.filter_query(filters))
    USING list.items, list.scores, k, list.source;
END
$$;
