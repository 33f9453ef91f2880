-- Texts read as Python reads them, whatever the server's collations know: @cased@, @word@ and the
-- like stand for Python's own tables of characters; see tterec/database/letters.py.

-- Without case, with single spaces.
CREATE OR REPLACE FUNCTION tterec.normalised_text(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    folded text := value;
    unfoldings CONSTANT text[] := ARRAY[@unfoldings@]::text[];
BEGIN
    IF value ~ '^[\u0001-\u007f]*$' THEN
        folded := lower(value COLLATE "C");
    ELSIF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'this database is not in UTF8, so that SQL reads ASCII texts only'
            USING ERRCODE = 'feature_not_supported',
                HINT = 'Ask tterec in Python, or restore the database into one with ENCODING ''UTF8''';
    ELSE
        folded := translate(lower(value COLLATE "C"), '@cased@', '@folded@');
        IF folded ~ '[@unfolded@]' THEN
            FOR i IN 1..cardinality(unfoldings) BY 2 LOOP
                folded := replace(folded, unfoldings[i], unfoldings[i + 1]);
            END LOOP;
        END IF;
    END IF;
    RETURN btrim(regexp_replace(folded, '[@space@]+', ' ', 'g'), ' ');
END
$$;

-- CRC-32 of a text's UTF-8 bytes, as zlib has it.
CREATE OR REPLACE FUNCTION tterec.crc32_of(value text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- What four bits of input do to the sum: the polynomial 0xEDB88320, reversed.
    steps CONSTANT bigint[] := '{0,498536548,997073096,651767980,1994146192,1802195444,1303535960,
        1342533948,3988292384,4027552580,3604390888,3412177804,2607071920,2262029012,2685067896,
        3183342108}';
    bytes CONSTANT bytea := convert_to(value, 'UTF8');
    crc bigint := 4294967295;
BEGIN
    FOR i IN 0..length(bytes) - 1 LOOP
        crc := crc # get_byte(bytes, i);
        crc := (crc >> 4) # steps[(crc & 15) + 1];
        crc := (crc >> 4) # steps[(crc & 15) + 1];
    END LOOP;
    RETURN crc # 4294967295;
END
$$;

-- The hash buckets of the first 64 distinct words of a text that is normalised.
CREATE OR REPLACE FUNCTION tterec.word_buckets(value text, buckets int) RETURNS bigint[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT tterec.crc32_of(w.word) % buckets), '{}')
    FROM (
        SELECT m.found[1] AS word
        FROM regexp_matches(value, '[@word@]+', 'g') WITH ORDINALITY AS m (found, place)
        GROUP BY 1
        ORDER BY min(m.place)
        LIMIT 64
    ) w
$$;
