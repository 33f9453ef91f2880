-- Functions that an earlier version had with other arguments: beside them the new ones would make
-- a call ambiguous.
DROP FUNCTION IF EXISTS tterec.popular_without(int, bigint[]);
DROP FUNCTION IF EXISTS tterec.popular_books(int);
DROP FUNCTION IF EXISTS tterec.nearest(int, @extension@.vector, int, bigint[], int, text);
DROP FUNCTION IF EXISTS tterec.ranked(
    int, @extension@.vector, int, bigint[], bigint[], real[], int);
DROP FUNCTION IF EXISTS tterec.recommend(bigint, int, boolean);
DROP FUNCTION IF EXISTS tterec.recommend(text, int, boolean);
DROP FUNCTION IF EXISTS tterec.recommend_for_books(text[], real[], int);
DROP FUNCTION IF EXISTS tterec.similar_to(text, int);
DROP FUNCTION IF EXISTS tterec.similar_books(text, int);
DROP FUNCTION IF EXISTS tterec.among(jsonb);
DROP FUNCTION IF EXISTS tterec.history(bigint);
DROP FUNCTION IF EXISTS tterec.history_of_name(text);
DROP FUNCTION IF EXISTS tterec.recommend_after(
    bigint, bigint[], real[], int, boolean, jsonb, text);

-- One that had other columns, not other arguments: what is current stays, as it may be running.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_proc
        WHERE oid = pg_catalog.to_regprocedure('tterec.embed(bigint, bigint[], real[])')
            AND 'ranker' <> ALL (proargnames)
    ) THEN
        DROP FUNCTION tterec.embed(bigint, bigint[], real[]);
    END IF;
END
$$;
