-- What changes in the tables is queued for `tterec worker`. The queue belongs to tterec: who may
-- insert a rating need not be able to write it, so these run with their owner's rights.

-- Asks for an update of everything. Each transaction has a row of its own: one that is there already
-- may belong to an update that does not see what is written here. Where nobody empties the queue,
-- the oldest of those rows go: this transaction's stands for them. (Under a stricter isolation, one
-- that is gone meanwhile would be an error to who writes.)
CREATE OR REPLACE FUNCTION tterec.queue_everything() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT int := 1000;
    mine CONSTANT bigint := pg_current_xact_id()::text::bigint;
BEGIN
    IF EXISTS (
        SELECT FROM tterec.changes WHERE kind = 'everything' AND queued_by = mine
    ) THEN
        RETURN;
    END IF;
    INSERT INTO tterec.changes (kind, queued_by) VALUES ('everything', mine);
    IF current_setting('transaction_isolation') = 'read committed' THEN
        DELETE FROM tterec.changes WHERE change_id IN (
            SELECT change_id FROM tterec.changes
            WHERE kind = 'everything' AND change_id <= (
                SELECT change_id FROM tterec.changes WHERE kind = 'everything'
                ORDER BY change_id DESC OFFSET most LIMIT 1)
            FOR UPDATE SKIP LOCKED);
    END IF;
    PERFORM pg_notify('tterec_changes', '');
END
$$;

-- Queues ids, unless they are many (a load), or the queue is long already because nobody empties
-- it: then one row asks for everything.
CREATE OR REPLACE FUNCTION tterec.queue_ids(kind text, ids bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    longest CONSTANT bigint := 100000;
BEGIN
    IF cardinality(ids) IS NOT DISTINCT FROM 0 OR ids IS NULL THEN
        RETURN;
    ELSIF cardinality(ids) > 1000 OR (
        SELECT max(c.change_id) - min(c.change_id) >= longest FROM tterec.changes c
    ) THEN
        PERFORM tterec.queue_everything();
        RETURN;
    END IF;
    INSERT INTO tterec.changes (kind, id) SELECT queue_ids.kind, id FROM unnest(ids) id;
    -- Ratings change nothing but how popular a book is: they wait until a worker looks.
    IF queue_ids.kind <> 'interaction' THEN
        PERFORM pg_notify('tterec_changes', '');
    END IF;
END
$$;

-- The trigger of books, users and ratings. Arguments: the kind, and the column with the id.
CREATE OR REPLACE FUNCTION tterec.note_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    touched text;
    changed text;
    many boolean;
    ids bigint[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM tterec.queue_everything();
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        touched := 'new_rows';
        changed := 'TABLE new_rows';
    ELSIF TG_OP = 'DELETE' THEN
        touched := 'old_rows';
        changed := 'TABLE old_rows';
    ELSE
        touched := 'new_rows';
        -- Compared as they are stored: an application may add a column whose type has no equality.
        changed := 'SELECT n.* FROM new_rows n WHERE NOT EXISTS'
            ' (SELECT FROM old_rows o WHERE o OPERATOR(pg_catalog.*=) n)'
            ' UNION ALL SELECT o.* FROM old_rows o WHERE NOT EXISTS'
            ' (SELECT FROM new_rows n WHERE n OPERATOR(pg_catalog.*=) o)';
    END IF;
    EXECUTE format('SELECT count(*) > 10000 FROM (SELECT FROM %I LIMIT 10001) few', touched)
    INTO many;
    IF many THEN  -- a load: it is not held up to have its ids sorted
        PERFORM tterec.queue_everything();
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT array_agg(DISTINCT %I) FROM (%s) c', TG_ARGV[1], changed) INTO ids;
    PERFORM tterec.queue_ids(TG_ARGV[0], ids);
    RETURN NULL;
END
$$;

-- The trigger of tables under a shop's own queries: which ids those make of its rows is not known.
CREATE OR REPLACE FUNCTION tterec.note_change_of_source() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM tterec.queue_everything();
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION tterec.queue_everything(), tterec.queue_ids(text, bigint[]),
    tterec.note_changes(), tterec.note_change_of_source() FROM PUBLIC;

DO $$
DECLARE
    noted record;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger t
        WHERE t.tgrelid = 'tterec.books'::regclass AND t.tgname = 'tterec_inserted'
    ) THEN
        PERFORM tterec.queue_everything();  -- what came before was not noted
    END IF;
    FOR noted IN
        SELECT * FROM (VALUES
            ('books', 'item', 'book_id'), ('users', 'user', 'user_id'),
            ('ratings', 'interaction', 'book_id')) AS t (name, kind, id)
    LOOP
        -- One trigger with transition tables is for one kind of statement.
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER tterec_inserted AFTER INSERT ON tterec.%1$I'
            ' REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT'
            ' EXECUTE FUNCTION tterec.note_changes(%2$L, %3$L)', noted.name, noted.kind, noted.id);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER tterec_updated AFTER UPDATE ON tterec.%1$I'
            ' REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT'
            ' EXECUTE FUNCTION tterec.note_changes(%2$L, %3$L)', noted.name, noted.kind, noted.id);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER tterec_deleted AFTER DELETE ON tterec.%1$I'
            ' REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT'
            ' EXECUTE FUNCTION tterec.note_changes(%2$L, %3$L)', noted.name, noted.kind, noted.id);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER tterec_truncated AFTER TRUNCATE ON tterec.%1$I'
            ' FOR EACH STATEMENT'
            ' EXECUTE FUNCTION tterec.note_changes(%2$L, %3$L)', noted.name, noted.kind, noted.id);
    END LOOP;
END
$$;
