-- Pages of a first sync that many devices ask for: the text of one that a worker has already is not made again.
-- Called by functions alone.

-- What a feed's records stand at: who changes one of them writes the feed's row in the same transaction, and a restored database
-- has another start. Null where the acting user is no member.
CREATE OR REPLACE FUNCTION syncd.sync_feed_version(p_space integer, p_app integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT concat_ws(' ', h.xmin, h.head, (SELECT max(t.started_at) FROM syncd.sync_starts t))
        FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app);

-- What sync_sweep_text gives, in words: a control character is a sign, and where = follows it, a word, up to the sign again, which the sign stands
-- for from there on. JSON text contains no such character, and = only within its texts. A reader that puts the words back has the same
-- registers, letter for letter. Signs: chr(4) to chr(7), chr(14) and chr(15) are parts of every record
-- (chr(5), the stamp that a record was made with, is said again for each), chr(16) to chr(23) the devices, and chr(24) to chr(31) the
-- tables of most of the first records. The event ids are left out.
-- No word ends within a text, so that whatever is stored, = follows no sign but where a word is said. Behind chr(4) stands a digit, behind
-- chr(5) chr(7), behind chr(14) the quote of an id, behind chr(15) the brace of registers, behind a table's sign chr(14). What replace
-- finds is as little part of a text: each of ": {"at": and , "value": and , "clientId": "..."} has a quote with a letter behind it and no \ before
-- it, which can only begin the name of a member. So behind chr(6) and chr(7) a value begins, and behind a device's sign stands , or } or ].
CREATE OR REPLACE FUNCTION syncd.sync_sweep_words(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[], p_firsts integer[],
                                       p_named boolean, p_space_quoted text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tables  integer[]; v_table_words text[];
    v_clients integer[]; v_client_words text[];
    v_text    text;
    v_words   text := concat(E'\x04={"seq":\x04\x06=": {"at": \x06\x07=, "value": \x07\x0e=,"id":\x0e\x0f=,"op":"insert","spaceId":',
                             p_space_quoted, E',"fields":\x0f');
BEGIN
    WITH sample AS MATERIALIZED (
        SELECT r.table_no, r.client_no FROM syncd.sync_records r
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto AND NOT r.deleted
        ORDER BY r.seq DESC LIMIT 200
    ), clients AS (
        SELECT s.client_no FROM sample s GROUP BY s.client_no HAVING count(*) > 3 ORDER BY count(*) DESC LIMIT 8
    ), tables AS (
        SELECT s.table_no FROM sample s GROUP BY s.table_no HAVING count(*) > 3 ORDER BY count(*) DESC LIMIT 8
    )
    SELECT c.numbers, c.words, t.numbers, t.words INTO v_clients, v_client_words, v_tables, v_table_words
    FROM (SELECT array_agg(n.name_no) AS numbers, array_agg(concat(', "clientId": ', n.quoted, '}')) AS words
          FROM clients JOIN syncd.sync_names n ON n.name_no = client_no) c,
         (SELECT array_agg(n.name_no) AS numbers, array_agg(concat(',"table":', n.quoted)) AS words
          FROM tables JOIN syncd.sync_names n ON n.name_no = table_no) t;
    -- A name is looked up only where it has no sign; chr(5) is in no register. || copies what is long once, concat twice.
    SELECT string_agg(
        concat(E'\x05=' || q.made || E'\x05', E'\x04', r.seq,
               coalesce(chr(23 + array_position(v_tables, r.table_no)), (SELECT concat(',"table":', n.quoted) FROM syncd.sync_names n WHERE n.name_no = r.table_no)),
               E'\x0e', to_json(r.record_id), CASE WHEN r.schema_version IS NOT NULL THEN concat(',"schemaVersion":', r.schema_version) END, E'\x0f')
        || replace(r.registers::text, concat('": {"at": ', coalesce(q.made, E'\x05'), ', "value": '), E'\x06\x05\x07')
        || coalesce(chr(15 + array_position(v_clients, r.client_no)), (SELECT concat(', "clientId": ', n.quoted, '}') FROM syncd.sync_names n WHERE n.name_no = r.client_no)),
        ',' ORDER BY r.seq DESC)
    INTO v_text
    FROM syncd.sync_records r
    CROSS JOIN LATERAL (SELECT (r.registers -> 'deletedAt' -> 'at')::text AS made) q
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto AND NOT r.deleted
      AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
      AND (p_firsts IS NULL OR (r.table_no = ANY (p_firsts)) = p_named);
    FOR i IN 1 .. coalesce(cardinality(v_clients), 0) LOOP
        v_text := replace(v_text, v_client_words[i], chr(15 + i));
        v_words := concat(v_words, chr(15 + i), '=', v_client_words[i], chr(15 + i));
    END LOOP;
    FOR i IN 1 .. coalesce(cardinality(v_tables), 0) LOOP
        v_words := concat(v_words, chr(23 + i), '=', v_table_words[i], chr(23 + i));
    END LOOP;
    RETURN v_words || CASE WHEN strpos(v_text, '": {"at": ') = 0 THEN v_text  -- else of other stamps
                           ELSE replace(replace(v_text, '": {"at": ', E'\x06'), ', "value": ', E'\x07') END;
END $$;

-- A page of a sweep that begins at p_seq: where it ends, how long its text is, and the text. p_how: as for a pull; "kept" are the pages that
-- the asker has, by key: [version, cut, size, number]. Of one that is still right the text is its number between two of chr(1). Any other
-- that is worth keeping says in front of its text, between two of chr(2), what it is to be kept as: [key, version, cut, size].
-- JSON text cannot contain either. "words": the asker reads words, which a page of a few records is not worth.
-- p_left, p_bytes: what the page has room for still. Where that is not all, what is small is read for its asker alone, and what is not
-- begins the next page, so that it is cut alike for all: then there is no cut.
CREATE OR REPLACE FUNCTION syncd.sync_shared_page(p_how jsonb, p_phase text, p_space integer, p_app integer, p_seq bigint, p_left integer, p_bytes bigint,
    p_tables integer[], p_firsts integer[], p_quoted text, OUT cut bigint, OUT size bigint, OUT piece text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_alone   boolean := p_left < (p_how ->> 'limit')::integer * CASE WHEN p_how ? 'tables' THEN 10 ELSE 1 END;
    v_key     text;
    v_version text;
    v_kept    jsonb;
BEGIN
    IF v_alone AND p_seq > p_left THEN
        RETURN;
    ELSIF NOT v_alone THEN
        v_key := json_build_array(p_phase, p_space, p_seq, p_left, p_bytes, p_quoted, p_tables, p_firsts, p_how ? 'words')::text;
        v_version := syncd.sync_feed_version(p_space, p_app);
        v_kept := p_how -> 'kept' -> v_key;
        IF v_kept ->> 0 = v_version THEN
            cut := (v_kept ->> 1)::bigint; size := (v_kept ->> 2)::bigint;
            piece := concat(chr(1), v_kept ->> 3, chr(1));
            RETURN;
        END IF;
    END IF;
    cut := syncd.sync_sweep_cut(p_space, p_app, p_seq, p_left * CASE p_phase WHEN 'first' THEN 10 ELSE 1 END, p_bytes);
    piece := CASE WHEN p_how ? 'words' AND p_seq - cut >= 16
                  THEN syncd.sync_sweep_words(p_space, p_app, cut, p_seq, p_tables, p_firsts, p_phase = 'first', p_quoted)
                  ELSE syncd.sync_sweep_text(p_space, p_app, cut, p_seq, p_tables, p_firsts, p_phase = 'first', false, p_quoted) END;
    size := octet_length(piece);
    IF NOT v_alone AND size >= 16384 AND getdatabaseencoding() = 'UTF8' THEN
        piece := concat(chr(2), json_build_array(v_key, v_version, cut, size), chr(2), piece);
    END IF;
END $$;
