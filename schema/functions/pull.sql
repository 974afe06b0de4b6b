-- Reading: one call answers a pull. It compares heads first, so that a pull of nothing new touches
-- no log; the bytes that go to the client are made here, once, and Python adds the envelope.
-- Called by the role that serves: sync_pull for others, sync_pull_acting after sync_act_as.

-- A whole record as plain values, the form that clients of the first generation read.
CREATE OR REPLACE FUNCTION syncd.sync_plain(p_registers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_object_agg(e.key, e.value -> 'value'), '{}')::text FROM jsonb_each(p_registers) e);

-- Where deletions were forgotten, a record may be made that devices hold deleted: they have to drop what they keep of it,
-- and are told so by `whole`, with a change that has all there is of its record.
CREATE OR REPLACE FUNCTION syncd.sync_whole_mark(p_space integer, p_app integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT ',"whole":true' FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.forgotten > 0);

-- One change of the log as JSON text. A statement takes this in as a part of itself, so it costs nothing more, and so it does the next
-- one. p_whole: sync_whole_mark of its feed; p_plain: an insert as a plain record too.
CREATE OR REPLACE FUNCTION syncd.sync_change_text(c syncd.sync_changes, p_table text, p_client text, p_space text, p_whole text, p_plain boolean)
RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    '{"eventId":"', c.event_id, '","seq":', c.seq, ',"table":', p_table, ',"id":', to_json(c.record_id),
    -- a delete whose tombstone lost, or says null, was an edit of its other fields
    CASE WHEN c.op = 1 THEN ',"op":"insert"'
         WHEN c.op = 2 OR c.fields #>> '{deletedAt,value}' IS NULL THEN ',"op":"update"'
         ELSE concat(',"op":"delete","deletedAt":"', c.fields -> 'deletedAt' ->> 'at', '"') END,
    ',"spaceId":', p_space, ',"clientId":', p_client,
    CASE WHEN c.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(c.change_id)) END,
    CASE WHEN c.schema_version IS NOT NULL THEN concat(',"schemaVersion":', c.schema_version) END,
    CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
    CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END,
    CASE WHEN p_plain AND c.op = 1 THEN concat(',"data":', syncd.sync_plain(c.fields::jsonb)) END,
    CASE WHEN c.prev_seq IS NULL THEN p_whole END, ',"fields":', c.fields, '}');

-- One record of the state as JSON text. p_space: what it says of its space, p_fields: what comes before the registers.
CREATE OR REPLACE FUNCTION syncd.sync_record_text(r syncd.sync_records, p_table text, p_client text, p_space text, p_fields text) RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    '{"eventId":"', r.event_id, '","seq":', r.seq, ',"table":', p_table, ',"id":', to_json(r.record_id),
    CASE WHEN r.deleted THEN concat(',"op":"delete","deletedAt":"', r.registers -> 'deletedAt' ->> 'at', '"') ELSE ',"op":"insert"' END,
    p_space, p_client,
    CASE WHEN r.schema_version IS NOT NULL THEN concat(',"schemaVersion":', r.schema_version) END,
    p_fields, r.registers, '}');

-- The log of one feed after p_after, up to p_upto, as JSON text. p_legacy: for a client of the first generation; null: the
-- log itself for one, with inserts as plain records too. p_separator: a control character, which JSON text cannot
-- contain, lets a reader take the changes apart without parsing them.
CREATE OR REPLACE FUNCTION syncd.sync_log_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[],
                                    p_legacy boolean, p_space_quoted text, p_separator text DEFAULT ',') RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_whole text;
BEGIN
    IF p_legacy THEN
        RETURN syncd.sync_legacy_log_text(p_space, p_app, p_after, p_upto, p_tables, p_space_quoted, p_separator);
    END IF;
    v_whole := syncd.sync_whole_mark(p_space, p_app);
    RETURN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, p_space_quoted, v_whole, p_legacy IS NULL), p_separator ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)));
END $$;

-- The current records of one feed last touched after p_after, up to p_upto, as JSON text. Tombstones
-- matter only where the record may have been sent before it was deleted: touched after p_base. p_written: only the
-- records that the changes with these seqs are of.
CREATE OR REPLACE FUNCTION syncd.sync_state_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_base bigint,
                                      p_tables integer[], p_legacy boolean, p_space_quoted text,
                                      p_written bigint[] DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_space  text := concat(',"spaceId":', p_space_quoted, ',"clientId":');
    v_fields text := concat(syncd.sync_whole_mark(p_space, p_app), ',"fields":');
BEGIN
    IF p_legacy IS DISTINCT FROM false THEN
        RETURN syncd.sync_legacy_state_text(p_space, p_app, p_after, p_upto, p_base, p_tables, p_space_quoted, p_written, false, NULL, NULL);
    END IF;
    RETURN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, v_space, v_fields), ',' ORDER BY r.seq)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto
          AND (NOT r.deleted OR r.seq > p_base) AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
          AND (p_written IS NULL OR EXISTS (
              SELECT FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq = ANY (p_written)
                AND c.table_no = r.table_no AND c.record_id = r.record_id)));
END $$;

-- The living records of one feed last touched after p_after, up to p_upto, newest first, as JSON text. p_firsts: of these
-- tables, with p_named, or of all others, without; null: of all.
CREATE OR REPLACE FUNCTION syncd.sync_sweep_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[], p_firsts integer[],
                                      p_named boolean, p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_space text := concat(',"spaceId":', p_space_quoted, ',"clientId":');
BEGIN
    IF p_legacy IS DISTINCT FROM false THEN
        RETURN syncd.sync_legacy_state_text(p_space, p_app, p_after, p_upto, p_upto, p_tables, p_space_quoted, NULL, true, p_firsts, p_named);
    END IF;
    RETURN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, v_space, ',"fields":'), ',' ORDER BY r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto AND NOT r.deleted
          AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
          AND (p_firsts IS NULL OR (r.table_no = ANY (p_firsts)) = p_named));
END $$;

-- The changes of a feed after p_after, up to p_upto, that made their records.
CREATE OR REPLACE FUNCTION syncd.sync_made_between(p_space integer, p_app integer, p_after bigint, p_upto bigint) RETURNS bigint[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT c.seq FROM syncd.sync_changes c
             WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto AND c.prev_seq IS NULL);

-- The most that a page has of one push, in bytes. None that was bounded (functions/push.sql) has as much; of one from before
-- there was a bound, or of an import, a page may have a part.
CREATE OR REPLACE FUNCTION syncd.sync_page_most() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 67108864;

-- The bytes of a stored value as text: a compressed one is unpacked, any other is about as long as it is stored.
CREATE OR REPLACE FUNCTION syncd.sync_change_size(p_fields json) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_column_compression(p_fields) IS NULL THEN pg_column_size(p_fields) ELSE octet_length(p_fields::text) END;

CREATE OR REPLACE FUNCTION syncd.sync_record_size(p_registers jsonb) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_column_compression(p_registers) IS NULL THEN pg_column_size(p_registers) ELSE octet_length(p_registers::text) END;

-- Where a page of the log ends: after p_limit rows or p_bytes bytes, and between two pushes. What is compressed is unpacked to
-- be measured as far as the page reaches, and no further: the sums run along the index, and end with the first that is enough.
CREATE OR REPLACE FUNCTION syncd.sync_log_cut(p_space integer, p_app integer, p_after bigint, p_head bigint,
                                   p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_cut    bigint := p_head;
    v_size   bigint;
    v_packed boolean;
    v_full   record;
BEGIN
    IF p_head - p_after > p_limit THEN
        SELECT c.push_end INTO v_cut FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= p_after + p_limit ORDER BY c.seq LIMIT 1;
        v_cut := least(coalesce(v_cut, p_head), p_head);
    END IF;
    SELECT sum(pg_column_size(c.fields)), bool_or(pg_column_compression(c.fields) IS NOT NULL) INTO v_size, v_packed
    FROM syncd.sync_changes c
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_cut;
    IF v_size <= p_bytes AND NOT v_packed THEN
        RETURN v_cut;
    END IF;
    SELECT s.* INTO v_full FROM (
        SELECT c.seq, c.push_end, sum(syncd.sync_change_size(c.fields)) OVER (ORDER BY c.seq) AS total
        FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_cut) s
    WHERE s.total >= p_bytes ORDER BY s.seq LIMIT 1;
    v_cut := least(coalesce(v_full.push_end, v_cut), v_cut);
    SELECT s.* INTO v_full FROM (  -- a push without a bound
        SELECT c.seq, sum(syncd.sync_change_size(c.fields)) OVER (ORDER BY c.seq) AS total
        FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_full.seq AND c.seq <= v_cut) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq LIMIT 1;
    RETURN coalesce(v_full.seq - 1, v_cut);
END $$;

-- The same for the state, whose rows lie at the seq that touched them last.
CREATE OR REPLACE FUNCTION syncd.sync_state_cut(p_space integer, p_app integer, p_after bigint, p_head bigint,
                                     p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last   bigint;
    v_upto   bigint;
    v_size   bigint;
    v_packed boolean;
    v_cut    bigint;
    v_full   bigint;
BEGIN
    SELECT r.seq INTO v_last FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_head
    ORDER BY r.seq OFFSET p_limit - 1 LIMIT 1;
    v_upto := coalesce(v_last, p_head);  -- coalesce in a condition counts as leaky: row security would keep it off the index
    SELECT sum(pg_column_size(r.registers)), bool_or(pg_column_compression(r.registers) IS NOT NULL) INTO v_size, v_packed
    FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= v_upto;
    IF v_size > p_bytes OR v_packed THEN
        SELECT s.seq INTO v_full FROM (
            SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq) AS total
            FROM syncd.sync_records r
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= v_upto) s
        WHERE s.total >= p_bytes ORDER BY s.seq LIMIT 1;
        v_last := coalesce(v_full, v_last);  -- as text it may be smaller than as stored, and fit
    END IF;
    IF v_last IS NULL THEN
        RETURN p_head;
    END IF;
    v_cut := least(p_head, coalesce((SELECT c.push_end FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq = v_last), v_last));
    SELECT s.seq INTO v_full FROM (  -- a push without a bound
        SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq) AS total
        FROM syncd.sync_records r
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_last AND r.seq <= v_cut) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq LIMIT 1;
    RETURN coalesce(v_full - 1, v_cut);
END $$;

-- How far down a page of a sweep reaches: after p_limit rows or p_bytes bytes, and always between two pushes.
CREATE OR REPLACE FUNCTION syncd.sync_sweep_cut(p_space integer, p_app integer, p_upto bigint, p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last   bigint;
    v_from   bigint;
    v_size   bigint;
    v_packed boolean;
    v_cut    bigint;
    v_full   bigint;
BEGIN
    SELECT r.seq INTO v_last FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq <= p_upto
    ORDER BY r.seq DESC OFFSET p_limit - 1 LIMIT 1;
    v_from := coalesce(v_last, 0);
    SELECT sum(pg_column_size(r.registers)), bool_or(pg_column_compression(r.registers) IS NOT NULL) INTO v_size, v_packed
    FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq >= v_from AND r.seq <= p_upto;
    IF v_size > p_bytes OR v_packed THEN
        SELECT s.seq INTO v_full FROM (
            SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq DESC) AS total
            FROM syncd.sync_records r
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq >= v_from AND r.seq <= p_upto) s
        WHERE s.total >= p_bytes ORDER BY s.seq DESC LIMIT 1;
        v_last := coalesce(v_full, v_last);
    END IF;
    IF v_last IS NULL THEN
        RETURN 0;
    END IF;
    v_cut := coalesce((SELECT c.seq FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq < v_last AND c.push_end < v_last ORDER BY c.seq DESC LIMIT 1), 0);
    SELECT s.seq INTO v_full FROM (  -- a push without a bound
        SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq DESC) AS total
        FROM syncd.sync_records r
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_cut AND r.seq < v_last) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq DESC LIMIT 1;
    RETURN coalesce(v_full, v_cut);
END $$;

-- The last seq that was certainly committed before p_at, by bisection: created_at never falls within a feed.
CREATE OR REPLACE FUNCTION syncd.sync_seq_before(p_space integer, p_app integer, p_head bigint, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low  bigint := 0;
    v_high bigint := p_head;
    v_mid  bigint;
    v_at   timestamptz;
BEGIN
    WHILE v_low < v_high LOOP
        v_mid := (v_low + v_high + 1) / 2;
        SELECT c.created_at INTO v_at FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= v_mid ORDER BY c.seq LIMIT 1;
        IF v_at < p_at THEN v_low := v_mid; ELSE v_high := v_mid - 1; END IF;
    END LOOP;
    RETURN v_low;
END $$;

-- The ids of those of p_spaces that the acting user is no longer a member of. The numbers come out
-- of a signed cursor, so the user has known them. One whose id was given to a new space since is named as it was. A number
-- without a space: null.
CREATE OR REPLACE FUNCTION syncd.sync_gone(p_spaces integer[]) RETURNS TABLE (space_no integer, space_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.no, coalesce(s.former_id, s.space_id) FROM unnest(p_spaces) AS n (no) LEFT JOIN syncd.sync_spaces s ON s.space_no = n.no
    WHERE NOT EXISTS (SELECT FROM syncd.sync_memberships m
                      WHERE m.user_no = syncd.sync_user() AND m.space_no = n.no)
$$;

-- The instant of a cursor in microseconds; where it is still to come nobody has seen anything up to it: the beginning. Only
-- the first generation sends instants that a server of ours did not make.
CREATE OR REPLACE FUNCTION syncd.sync_seen(p_at bigint, p_legacy boolean) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN p_legacy AND p_at > syncd.sync_micros(now()) THEN 0 ELSE p_at END;

-- Tables by number; those that nobody wrote to have none.
CREATE OR REPLACE FUNCTION syncd.sync_tables_in(p_names jsonb) RETURNS integer[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT n.name_no FROM jsonb_array_elements_text(p_names) e JOIN syncd.sync_names n ON n.name = e);

-- The acting user's spaces but p_but, where a pull begins in each, and whether it is new to the device. lost: it cannot be told of a
-- deletion that is forgotten. Who names an instant, or speaks as the first generation, may hold records that were deleted since:
-- base 0 sends tombstones.
CREATE OR REPLACE FUNCTION syncd.sync_joined(p_user integer, p_app integer, p_since jsonb, p_how jsonb, p_but integer[], p_at timestamptz,
                                  p_legacy boolean, p_own_spaces integer[], p_own_bases bigint[])
RETURNS TABLE (space_no integer, space_id text, is_new boolean, seq bigint, base bigint, lost boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_cut   bigint;
    v_start bigint;
    f       record;
BEGIN
    FOR f IN SELECT s.space_no, s.space_id, m.joined_at, h.head, h.forgotten FROM syncd.sync_memberships m
             JOIN syncd.sync_spaces s ON s.space_no = m.space_no
             LEFT JOIN syncd.sync_feeds h ON h.space_no = m.space_no AND h.app_no = p_app
             WHERE m.user_no = p_user AND (m.space_no IN (SELECT unnest(p_but))) IS NOT TRUE ORDER BY m.space_no LOOP
        space_no := f.space_no; space_id := f.space_id;
        is_new := (p_at > f.joined_at + interval '1 minute' AND f.head > 0) IS NOT TRUE;
        v_cut := CASE WHEN is_new THEN 0 ELSE syncd.sync_seq_before(f.space_no, p_app, f.head, p_at - interval '1 minute') END;
        lost := p_at IS NOT NULL AND f.forgotten > v_cut;
        v_start := coalesce(p_own_bases[array_position(p_own_spaces, f.space_no)], f.head, 0);
        base := CASE WHEN v_cut > 0 OR coalesce(f.head, 0) = 0 THEN -1
                     WHEN p_how ? 'history' THEN CASE WHEN f.forgotten > 0 THEN syncd.sync_phase_base('history', v_start) ELSE -1 END
                     WHEN p_at IS NOT NULL OR v_start = 0 OR p_legacy AND p_since ? 's' AND f.forgotten = 0 THEN 0
                     ELSE syncd.sync_phase_base(CASE WHEN p_how ? 'first' THEN 'first' ELSE 'rest' END, v_start) END;
        seq := CASE WHEN base < -1 AND NOT p_how ? 'history' THEN v_start ELSE v_cut END;
        RETURN NEXT;
    END LOOP;
END $$;

-- How the records are that a device is to be told of after its push to some feeds, whose heads were p_own_bases before it, where no page
-- reaches so far. p_without: feeds that are left out; p_woken is as in sync_pull_acting.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_own_text(p_app integer, p_own_spaces integer[], p_own_bases bigint[], p_woken bigint[],
                                           p_tables integer[], p_without integer[]) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT string_agg(syncd.sync_state_text(h.space_no, p_app, o.base, h.head, 0, p_tables, true, s.quoted, p_woken
                   || CASE WHEN h.forgotten > 0 THEN syncd.sync_made_between(h.space_no, p_app, o.base, h.head) END), ',' ORDER BY o.k)
        FROM unnest(p_own_spaces, p_own_bases) WITH ORDINALITY AS o (space_no, base, k)
        JOIN syncd.sync_feeds h ON h.space_no = o.space_no AND h.app_no = p_app
        JOIN syncd.sync_spaces s ON s.space_no = h.space_no
        WHERE NOT h.space_no = ANY (p_without));
END $$;

-- A push's page with how the records are now that changes lost to which its device pushes again: it may not have had the answer that
-- told it. p_of: the place of each change's space, null: there is one; p_marks: `d` for a change that was pushed before. What is more
-- than 32 MiB in all is left out.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_repeats(p_page syncd.sync_page, p_app integer, p_spaces integer[], p_of integer[], p_marks text[],
                                          p_seqs bigint[]) RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_text text;
BEGIN
    SELECT string_agg(syncd.sync_legacy_state_text(x.space_no, p_app, x.seq - 1, x.seq, 0, NULL, x.quoted, NULL, false, NULL, NULL), ',' ORDER BY x.k)
    INTO v_text
    FROM (
        SELECT m.*, s.quoted, sum(m.size) OVER (ORDER BY m.k) AS total
        FROM (
            SELECT c.space_no, r.seq, min(o.k) AS k, max(syncd.sync_record_size(r.registers)) AS size
            FROM (SELECT p_spaces[coalesce(p_of[u.k], 1)] AS space_no, u.seq, u.k
                  FROM unnest(p_marks, p_seqs) WITH ORDINALITY AS u (mark, seq, k) WHERE u.mark = 'd') o
            CROSS JOIN LATERAL (  -- one probe each, as above
                SELECT h.space_no, h.table_no, h.record_id, h.lost FROM syncd.sync_changes h
                WHERE h.space_no = o.space_no AND h.app_no = p_app AND h.seq = o.seq OFFSET 0) c
            CROSS JOIN LATERAL (
                SELECT q.registers, q.seq, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = c.space_no AND q.app_no = p_app AND q.table_no = c.table_no AND q.record_id >= c.record_id
                ORDER BY q.record_id LIMIT 1) r
            WHERE c.lost IS NOT NULL AND r.record_id = c.record_id GROUP BY c.space_no, r.seq) m
        JOIN syncd.sync_spaces s ON s.space_no = m.space_no) x
    WHERE x.total <= 33554432;
    IF v_text IS NOT NULL THEN
        p_page.body := CASE WHEN length(p_page.body) > 0 THEN p_page.body || ','::bytea ELSE '' END || convert_to(v_text, 'UTF8');
    END IF;
    RETURN p_page;
END $$;

-- What the heads of a cursor's feeds say: in how many of its spaces the user still is, in how many in all, which of its feeds have
-- news, and whether it is lost: no log of ours has seen a position, or its device could not be told any more that a record it may
-- have was deleted. A statement takes it in as a part of itself, like a view.
CREATE OR REPLACE FUNCTION syncd.sync_heads_news(p_user integer, p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[],
                                      p_since timestamptz, p_boot timestamptz)
RETURNS TABLE (matched integer, members integer, active integer[], trouble text)
LANGUAGE sql STABLE AS $$
    SELECT count(m.space_no)::integer, (SELECT count(*) FROM syncd.sync_memberships q WHERE q.user_no = p_user)::integer,
           array_agg(c.k::integer ORDER BY c.k) FILTER (WHERE m.space_no IS NOT NULL AND (h.head > c.seq OR c.base <> -1)),
           CASE WHEN bool_or(m.space_no IS NOT NULL AND (coalesce(h.head, 0) < c.upto
                OR h.boots[cardinality(h.boots)] > p_since AND EXISTS (
                    SELECT FROM unnest(h.boots, h.bases) AS b (at, base) WHERE b.at > p_since AND b.base < c.upto)
                OR h.forgotten > c.knows AND c.seq > 0))
                OR p_since <> p_boot AND syncd.sync_is_strange(p_since, p_spaces) THEN 'lost' END
    FROM (SELECT u.*, CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) ELSE u.seq END AS upto,
                 CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) WHEN u.base < 0 THEN u.seq ELSE u.base END AS knows
          FROM unnest(p_spaces, p_seqs, p_bases) WITH ORDINALITY AS u (space_no, seq, base, k)) c
    LEFT JOIN syncd.sync_memberships m ON m.user_no = p_user AND m.space_no = c.space_no
    LEFT JOIN syncd.sync_feeds h ON h.space_no = m.space_no AND h.app_no = p_app
$$;

-- Of the feeds at p_active, those that a page reads to their heads, as far as it has room for p_left changes, in their order. swept: the
-- whole state, newest first, of one that a sweep has not begun with; base: as of sync_state_text, null: from the log.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_fitting(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                         p_without integer[], p_history boolean, p_left integer)
RETURNS TABLE (k integer, space_no integer, head bigint, after bigint, base bigint, swept boolean, whole text, quoted text, large boolean)
LANGUAGE sql STABLE AS $$
    SELECT w.k, w.space_no, w.head, w.after, w.base, w.swept, w.whole, w.quoted,
           32768 < CASE WHEN w.base IS NULL THEN (  -- "ORDER BY" for the index
               SELECT sum(pg_column_size(c.fields) ORDER BY c.seq) FROM syncd.sync_changes c
               WHERE c.space_no = w.space_no AND c.app_no = p_app AND c.seq > w.after AND c.seq <= w.head)
           ELSE (
               SELECT sum(pg_column_size(r.registers) ORDER BY r.seq) FROM syncd.sync_records r
               WHERE r.space_no = w.space_no AND r.app_no = p_app AND r.seq > w.after AND r.seq <= w.head)
           END FROM (
        SELECT d.*, sum(d.head - d.after) OVER (ORDER BY d.k) AS total FROM (
            SELECT c.k, h.space_no, h.head, c.swept, CASE WHEN c.swept THEN 0 ELSE c.seq END AS after,
                   CASE WHEN c.swept THEN h.head WHEN c.base >= 0 THEN c.base WHEN c.seq < h.horizon AND NOT p_history THEN c.seq END AS base,
                   CASE WHEN h.forgotten > 0 AND NOT c.swept THEN ',"whole":true' END AS whole, s.quoted
            FROM (SELECT a.k, p_spaces[a.k] AS space_no, p_seqs[a.k] AS seq, p_bases[a.k] AS base, p_bases[a.k] IN (syncd.sync_phase_base('first', p_seqs[a.k]), syncd.sync_phase_base('rest', p_seqs[a.k])) AS swept
                  FROM unnest(p_active) AS a (k)) c
            JOIN syncd.sync_feeds h ON h.space_no = c.space_no AND h.app_no = p_app
            JOIN syncd.sync_spaces s ON s.space_no = h.space_no
            WHERE (h.head > c.seq OR c.base <> -1) AND (c.base >= -1 OR c.swept) AND NOT h.space_no = ANY (p_without)) d) w
    WHERE w.total <= p_left ORDER BY w.k
$$;

-- The text of each of these feeds up to its head, as sync_log_text, sync_state_text or sync_sweep_text has it; empty: there is none, null: it
-- is not small. A sweep that begins with named tables is one text with the others after them.
CREATE OR REPLACE FUNCTION syncd.sync_small_pieces(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                        p_without integer[], p_history boolean, p_left integer, p_tables integer[], p_firsts integer[])
RETURNS TABLE (k integer, piece text)
LANGUAGE sql STABLE AS $$
    SELECT o.k, CASE WHEN o.large THEN NULL ELSE coalesce(CASE WHEN o.base IS NULL THEN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, o.quoted, o.whole, false), ',' ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = o.space_no AND c.app_no = p_app AND c.seq > o.after AND c.seq <= o.head
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)))
    WHEN o.swept AND p_firsts IS NOT NULL THEN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, ',"fields":'), ','
                          ORDER BY (r.table_no = ANY (p_firsts)) DESC, r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > 0 AND r.seq <= o.head
          AND NOT r.deleted AND (p_tables IS NULL OR r.table_no = ANY (p_tables)) AND (o.named OR NOT r.table_no = ANY (p_firsts)))
    WHEN o.swept THEN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, ',"fields":'), ',' ORDER BY r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > 0 AND r.seq <= o.head
          AND NOT r.deleted AND (p_tables IS NULL OR r.table_no = ANY (p_tables)))
    ELSE (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, concat(o.whole, ',"fields":')), ',' ORDER BY r.seq)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > o.after AND r.seq <= o.head
          AND (NOT r.deleted OR r.seq > o.base) AND (p_tables IS NULL OR r.table_no = ANY (p_tables)))
    END, '') END
    FROM (SELECT f.*, concat(',"spaceId":', f.quoted, ',"clientId":') AS space, p_bases[f.k] = syncd.sync_phase_base('first', p_seqs[f.k]) AS named
          FROM syncd.sync_feeds_fitting(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left) f OFFSET 0) o
$$;

-- The same for the first generation. p_legacy: as of sync_log_text.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_small_pieces(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                               p_without integer[], p_history boolean, p_left integer, p_tables integer[],
                                               p_legacy boolean, p_firsts integer[])
RETURNS TABLE (k integer, piece text)
LANGUAGE sql STABLE AS $$
    SELECT o.k, CASE WHEN o.large THEN NULL ELSE coalesce(CASE WHEN o.base IS NULL AND p_legacy THEN (
        SELECT l.piece FROM syncd.sync_legacy_log(o.space_no, p_app, o.after, o.head, p_tables, o.quoted, ',') l)
    WHEN o.base IS NULL THEN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, o.quoted, o.whole, true), ',' ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = o.space_no AND c.app_no = p_app AND c.seq > o.after AND c.seq <= o.head
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)))
    WHEN o.swept THEN concat_ws(',', CASE WHEN o.named THEN (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, 0, o.head, o.base, p_tables, o.quoted, NULL, true, p_firsts, true) l) END, (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, 0, o.head, o.base, p_tables, o.quoted, NULL, true, p_firsts, false) l))
    ELSE (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, o.after, o.head, o.base, p_tables, o.quoted, NULL, false, NULL, NULL) l)
    END, '') END
    FROM (SELECT f.*, p_bases[f.k] = syncd.sync_phase_base('first', p_seqs[f.k]) AS named
          FROM syncd.sync_feeds_fitting(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left) f OFFSET 0) o
$$;

-- The texts of feeds that are small, by their places in the lists; null: it is to be read by itself. They are read in one statement, as row
-- security looks through all the user's memberships in each: for one in thousands of spaces that costs more than what it reads. What is
-- stored in over 32 KiB is not small, and a page is full after p_bytes.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_together(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                          p_without integer[], p_history boolean, p_left integer, p_tables integer[], p_bytes bigint,
                                          p_legacy boolean, p_firsts integer[]) RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_texts text[] := array_fill(NULL::text, ARRAY[cardinality(p_spaces)]);
    v_read  refcursor;
    f       record;
BEGIN
    IF p_legacy IS FALSE THEN  -- not FOR, which reads fifty ahead
        OPEN v_read FOR SELECT s.* FROM syncd.sync_small_pieces(
            p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left, p_tables, p_firsts) s;
    ELSE
        OPEN v_read FOR SELECT s.* FROM syncd.sync_legacy_small_pieces(
            p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left, p_tables, p_legacy, p_firsts) s;
    END IF;
    WHILE p_bytes > 0 LOOP
        FETCH v_read INTO f;
        EXIT WHEN NOT FOUND;
        v_texts[f.k] := f.piece;
        p_bytes := p_bytes - coalesce(octet_length(f.piece), 0);
    END LOOP;
    CLOSE v_read;
    RETURN v_texts;
END $$;

-- Where a page of a phase ends that begins at p_seq, on its way to p_end.
CREATE OR REPLACE FUNCTION syncd.sync_phase_cut(p_phase text, p_space integer, p_app integer, p_seq bigint, p_end bigint, p_limit integer, p_bytes bigint)
RETURNS bigint
LANGUAGE sql STABLE
RETURN CASE WHEN p_phase = 'first' THEN syncd.sync_sweep_cut(p_space, p_app, p_seq, p_limit * 10, p_bytes)
            WHEN p_phase = 'rest' THEN syncd.sync_sweep_cut(p_space, p_app, p_seq, p_limit, p_bytes)
            WHEN p_phase = 'state' THEN syncd.sync_state_cut(p_space, p_app, p_seq, p_end, p_limit, p_bytes)
            ELSE syncd.sync_log_cut(p_space, p_app, p_seq, p_end, p_limit, p_bytes) END;

-- The text of such a page, up to p_cut.
CREATE OR REPLACE FUNCTION syncd.sync_phase_text(p_phase text, p_space integer, p_app integer, p_seq bigint, p_cut bigint, p_base bigint,
                                      p_tables integer[], p_firsts integer[], p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN p_phase = 'first' OR p_phase = 'rest'
                THEN syncd.sync_sweep_text(p_space, p_app, p_cut, p_seq, p_tables, p_firsts, p_phase = 'first', p_legacy, p_space_quoted)
            WHEN p_phase = 'state' THEN syncd.sync_state_text(p_space, p_app, p_seq, p_cut, p_base, p_tables, p_legacy, p_space_quoted)
            ELSE syncd.sync_log_text(p_space, p_app, p_seq, p_cut, p_tables, p_legacy, p_space_quoted) END;

-- The feeds at p_active of which something is to be read, with where that begins: one that fell behind what is still in the log gets the state.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_moved(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                       p_without integer[], p_history boolean)
RETURNS TABLE (k integer, space_no integer, seq bigint, base bigint, head bigint, forgotten bigint, quoted text)
LANGUAGE sql STABLE AS $$
    SELECT c.k, h.space_no, p_seqs[c.k],
           CASE WHEN p_bases[c.k] = -1 AND p_seqs[c.k] < h.horizon AND NOT p_history THEN p_seqs[c.k] ELSE p_bases[c.k] END,
           h.head, h.forgotten, s.quoted
    FROM unnest(p_active) AS c (k)
    JOIN syncd.sync_feeds h ON h.space_no = p_spaces[c.k] AND h.app_no = p_app
    JOIN syncd.sync_spaces s ON s.space_no = h.space_no
    WHERE (h.head > p_seqs[c.k] OR p_bases[c.k] <> -1) AND NOT h.space_no = ANY (p_without) ORDER BY c.k
$$;

-- How the records are now that a push of this transaction wrote to a feed, of which its device is to be told (sync_pull_acting); p_head:
-- the feed's before it.
CREATE OR REPLACE FUNCTION syncd.sync_own_text(p_space integer, p_app integer, p_head bigint, p_now bigint, p_forgotten bigint, p_woken bigint[],
                                    p_tables integer[], p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE sql STABLE
RETURN syncd.sync_state_text(p_space, p_app, p_head, p_now, 0, p_tables, p_legacy, p_space_quoted,
    p_woken || CASE WHEN p_forgotten > 0 THEN syncd.sync_made_between(p_space, p_app, p_head, p_now) END);

-- Without the spaces where the user is not a member any more: their ids and numbers (null: there are none), and the positions in
-- the others. lost: of one of them nobody knows.
CREATE OR REPLACE FUNCTION syncd.sync_left(p_spaces integer[], p_seqs bigint[], p_bases bigint[], OUT ids text[], OUT numbers integer[], OUT lost boolean,
                                OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT array_agg(g.space_id), array_agg(g.space_no), bool_or(g.space_id IS NULL) INTO ids, numbers, lost FROM syncd.sync_gone(p_spaces) g;
    SELECT coalesce(array_agg(c.space_no), '{}'), coalesce(array_agg(c.seq), '{}'), coalesce(array_agg(c.base), '{}') INTO spaces, seqs, bases
    FROM unnest(p_spaces, p_seqs, p_bases) AS c (space_no, seq, base) WHERE (c.space_no IN (SELECT unnest(numbers))) IS NOT TRUE;
END $$;

-- Reads a page of the feeds at p_active, in their order. Where it ends inside of one, there is `more`; read: the numbers of the spaces that
-- it came to, told: those of which it read the log.
CREATE OR REPLACE FUNCTION syncd.sync_pull_feeds(p_app integer, p_how jsonb, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
    p_members integer, p_without integer[], p_own_spaces integer[], p_own_bases bigint[], p_woken bigint[], p_legacy boolean,
    OUT seqs bigint[], OUT bases bigint[], OUT read integer[], OUT told integer[], OUT more boolean, OUT body text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tables integer[] := CASE WHEN p_how ? 'tables' THEN syncd.sync_tables_in(p_how -> 'tables') END;
    v_firsts integer[] := CASE WHEN p_how ? 'first' THEN syncd.sync_tables_in(p_how -> 'first') END;
    v_left   integer := (p_how ->> 'limit')::integer * CASE WHEN p_how ? 'tables' THEN 10 ELSE 1 END;
    v_bytes  bigint := (p_how ->> 'bytes')::bigint;
    v_alone  bigint := 0;  -- reading a feed alone costs as many looks as the user has spaces: a page takes so much, too
    v_texts  text[]; v_pieces text[] := '{}'; v_piece text;
    v_phase  text; v_from bigint; v_cut bigint; v_end bigint; v_own integer; f record;
BEGIN
    seqs := p_seqs; bases := p_bases; read := '{}'; told := '{}'; more := false;
    IF cardinality(p_active) > 7 THEN
        v_texts := syncd.sync_feeds_together(p_app, p_spaces, p_seqs, p_bases, p_active, p_without || p_own_spaces, p_how ? 'history', v_left, v_tables, v_bytes, p_legacy, v_firsts);
    END IF;
    <<feeds>>
    FOR f IN SELECT * FROM syncd.sync_feeds_moved(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_how ? 'history') LOOP
        read := read || f.space_no;
        v_alone := v_alone + CASE WHEN v_texts[f.k] IS NULL THEN p_members ELSE 0 END;
        v_own := array_position(p_own_spaces, f.space_no);
        LOOP  -- the phases of one feed
            seqs[f.k] := f.seq; bases[f.k] := f.base;
            more := v_left <= 0 OR v_bytes <= 0 OR v_alone > 200000;
            EXIT feeds WHEN more;
            v_phase := syncd.sync_phase(f.base);
            v_from := syncd.sync_phase_head(f.base);
            IF v_texts[f.k] IS NOT NULL THEN
                f.seq := CASE WHEN v_phase = 'first' OR v_phase = 'rest' THEN 0 ELSE f.seq END;
                v_phase := 'log'; v_end := f.head; v_cut := v_end;
                v_piece := nullif(v_texts[f.k], '');
            ELSE
                v_end := CASE WHEN v_phase = 'log' AND v_own IS NOT NULL THEN p_own_bases[v_own] WHEN v_phase = 'history' THEN v_from
                              WHEN v_phase = 'log' OR v_phase = 'state' THEN f.head ELSE 0 END;
                v_cut := syncd.sync_phase_cut(v_phase, f.space_no, p_app, f.seq, v_end, v_left, v_bytes);
                v_piece := syncd.sync_phase_text(v_phase, f.space_no, p_app, f.seq, v_cut, f.base, v_tables, v_firsts, p_legacy, f.quoted);
                IF v_phase = 'log' OR v_phase = 'history' THEN
                    told := told || f.space_no;
                END IF;
                IF v_phase = 'log' AND v_own IS NOT NULL AND (p_woken <> '{}' OR f.forgotten > 0 OR p_legacy) THEN
                    v_piece := nullif(concat_ws(',', v_piece, syncd.sync_own_text(f.space_no, p_app, v_end, f.head, f.forgotten, p_woken, v_tables, p_legacy, f.quoted)), '');
                END IF;
            END IF;
            IF body IS NULL THEN  -- mostly the only one, and every copy of megabytes counts
                body := v_piece;
            ELSIF v_piece IS NOT NULL THEN
                v_pieces := v_pieces || v_piece;
            END IF;
            v_bytes := v_bytes - coalesce(octet_length(v_piece), 0);
            v_left := v_left - least(abs(v_cut - f.seq) / CASE WHEN v_phase = 'first' THEN 10 ELSE 1 END, v_left)::integer;
            seqs[f.k] := v_cut; more := v_cut <> v_end;
            EXIT feeds WHEN more;
            f.seq := v_from; f.base := syncd.sync_phase_after(v_phase, v_from, f.head);
            EXIT WHEN f.base IS NULL;
        END LOOP;
        seqs[f.k] := f.head; bases[f.k] := -1;
    END LOOP;
    body := CASE v_pieces WHEN '{}' THEN body ELSE concat_ws(',', body, array_to_string(v_pieces, ',')) END;
END $$;

-- What a pull reads that has news: p_page is what it says already, p_matched, p_members and p_active are as sync_heads_news has them, all
-- else is as in sync_pull_acting.
CREATE OR REPLACE FUNCTION syncd.sync_pull_news(p_page syncd.sync_page, p_user integer, p_app integer, p_since jsonb, p_how jsonb, p_own_spaces integer[],
    p_own_bases bigint[], p_woken bigint[], p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_matched integer, p_members integer, p_active integer[])
RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v         syncd.sync_page := p_page;
    v_spaces  integer[] := p_spaces; v_seqs bigint[] := p_seqs; v_bases bigint[] := p_bases;  -- where it stands, which moves on
    v_changed integer[] := p_page.spaces;  -- of these, since the row
    v_active  integer[] := p_active;
    v_without integer[] := ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_how -> 'without', '[]')) e);
    v_legacy  boolean := CASE WHEN NOT p_how ? 'legacy' THEN false WHEN NOT p_how ? 'history' THEN true END;
    v_at      timestamptz;
    f         record;
BEGIN
    IF p_matched < cardinality(p_spaces) THEN
        f := syncd.sync_left(p_spaces, p_seqs, p_bases);
        v.gone := f.ids; v_spaces := f.spaces; v_seqs := f.seqs; v_bases := f.bases;
        v.trouble := CASE WHEN f.lost THEN 'lost' END;
        v_changed := v_changed || f.numbers;
        v_active := ARRAY(SELECT generate_series(1, cardinality(v_spaces)));
    END IF;
    IF p_how ? 'own' THEN
        v.body := convert_to(coalesce(syncd.sync_legacy_own_text(p_app, p_own_spaces, p_own_bases, p_woken, NULL, v_without), ''), 'UTF8');
        RETURN v;
    ELSIF p_members > p_matched THEN  -- joined: whole, or after a plain instant what came since
        v_at := to_timestamp(syncd.sync_seen((p_since ->> 'at')::bigint, p_how ? 'legacy') / 1000000.0);
        FOR f IN SELECT * FROM syncd.sync_joined(p_user, p_app, p_since, p_how, v_spaces || v_without, v_at, v_legacy, p_own_spaces, p_own_bases) LOOP
            v.trouble := CASE WHEN f.lost THEN 'lost' ELSE v.trouble END;
            IF f.is_new THEN
                v.joined := v.joined || f.space_id;
            END IF;
            v_spaces := v_spaces || f.space_no; v_seqs := v_seqs || f.seq; v_bases := v_bases || f.base;
            v_changed := v_changed || f.space_no;
            v_active := v_active || cardinality(v_spaces);
        END LOOP;
    ELSIF cardinality(v_active) > 500 THEN  -- as many as a page looks at
        v_active := v_active[1:500]; v.more := true;
    END IF;
    IF v.trouble IS NOT NULL THEN
        RETURN v;
    END IF;
    f := syncd.sync_pull_feeds(p_app, p_how, v_spaces, v_seqs, v_bases, v_active, p_members, v_without, p_own_spaces, p_own_bases, p_woken, v_legacy);
    v.more := v.more OR f.more;
    IF v.more AND v_legacy THEN  -- of what the log has not reached yet: what lost is not in it
        f.body := concat_ws(',', f.body, syncd.sync_legacy_own_text(p_app, p_own_spaces, p_own_bases, p_woken,
            CASE WHEN p_how ? 'tables' THEN syncd.sync_tables_in(p_how -> 'tables') END, v_without || f.told));
    END IF;
    v.body := convert_to(coalesce(f.body, ''), 'UTF8');
    v.spaces := v_spaces; v.seqs := f.seqs; v.bases := f.bases;
    IF p_since ? 'row' THEN
        SELECT c.spaces, c.seqs, c.bases INTO v.spaces, v.seqs, v.bases FROM syncd.sync_cursor_changes(v_changed || f.read, v_spaces, f.seqs, f.bases) c;
    END IF;
    RETURN v;
END $$;

-- One pull by the acting user (sync_act_as and sync_start came first, in this transaction). STABLE, so that heads, state
-- and log are of one snapshot: a record touched after the head was read would else be in neither.
-- p_since: {"s": [space], "q": [seq], "b": [base], "boot": us} a cursor, {"at": us} a plain instant, {} nothing. With "row" the cursor
-- is one of many feeds (functions/cursors.sql): the lists say what has moved since that row, and so do those of the answer.
-- p_how: {"limit", "bytes", "tables"?, "first"?, "legacy"?, "history"?, "peek"?, "own"?, "without"?}; peek: say whether there is news, read
-- none; own: only what a push of the first generation is to be told of itself; without: spaces of which nothing is read, and whose
-- positions stay.
-- p_own_spaces, p_own_bases: feeds that this transaction has pushed to, and their heads before it. p_woken: the seqs it
-- gave to changes of deleted records. Their device may never have been sent those, so it is told how they are now; and so
-- are those that it made, where it may hold deleted ones of their names that are forgotten here, and what sync_nesting finds.
CREATE OR REPLACE FUNCTION syncd.sync_pull_acting(p_user integer, p_app text, p_since jsonb, p_how jsonb,
                                       p_own_spaces integer[] DEFAULT '{}', p_own_bases bigint[] DEFAULT '{}',
                                       p_woken bigint[] DEFAULT '{}')
RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v         syncd.sync_page;
    v_app     integer;
    v_boot    timestamptz := (SELECT max(t.started_at) FROM syncd.sync_starts t);
    v_since   timestamptz;
    v_spaces  integer[]; v_seqs bigint[]; v_bases bigint[];
    v_matched integer; v_members integer;
    v_active  integer[];
BEGIN
    v.now_us := syncd.sync_micros(clock_timestamp());
    v.boot_us := syncd.sync_micros(v_boot);
    v.joined := '{}'; v.gone := '{}'; v.more := false; v.news := false; v.body := '';
    SELECT n.name_no INTO v_app FROM syncd.sync_names n WHERE n.name = p_app;
    v_app := coalesce(v_app, 0);
    v.spaces := ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_since -> 's', '[]')) e);
    v.seqs := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(coalesce(p_since -> 'q', '[]')) e);
    v.bases := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(coalesce(p_since -> 'b', '[]')) e);
    v_since := to_timestamp((p_since ->> 'boot')::bigint / 1000000.0);

    -- Heads first: which of the cursor's feeds have news, and which positions no log of ours has seen, or whose device
    -- could not be told any more that a record it may have was deleted.
    IF p_since ? 'row' THEN
        SELECT n.* INTO v_spaces, v_seqs, v_bases, v_matched, v_members, v_active, v.trouble FROM syncd.sync_cursor_news(p_user, v_app, p_since, v_boot) n;
    ELSE
        v_spaces := v.spaces; v_seqs := v.seqs; v_bases := v.bases;
        SELECT n.* INTO v_matched, v_members, v_active, v.trouble FROM syncd.sync_heads_news(p_user, v_app, v_spaces, v_seqs, v_bases, v_since, v_boot) n;
    END IF;
    v.news := v_active IS NOT NULL OR v_matched < cardinality(v_spaces) OR v_members > v_matched;
    IF v.trouble IS NOT NULL OR NOT v.news OR p_how ? 'peek' THEN
        RETURN v;
    END IF;
    RETURN syncd.sync_pull_news(v, p_user, v_app, p_since, p_how, p_own_spaces, p_own_bases, p_woken, v_spaces, v_seqs, v_bases, v_matched, v_members, v_active);
END $$;

-- Pulls, each under its own user, in one call. p_pulls: [{"user", "app", "since", "how", "list"?, "asOf"?}].
CREATE OR REPLACE FUNCTION syncd.sync_pull(p_pulls jsonb) RETURNS SETOF syncd.sync_page
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    p      jsonb;
    v_user integer;
BEGIN
    PERFORM syncd.sync_start();
    FOR p IN SELECT e FROM jsonb_array_elements(p_pulls) e LOOP
        v_user := syncd.sync_act_as(coalesce(p ->> 'context', p ->> 'user'), p ? 'list');
        IF p ? 'list' THEN
            PERFORM syncd.sync_adopt(p -> 'list', to_timestamp((p ->> 'asOf')::bigint / 1000000.0));
        END IF;
        RETURN NEXT syncd.sync_pull_acting(v_user, p ->> 'app', p -> 'since', p -> 'how');
        IF p -> 'since' ? 'row' THEN
            PERFORM syncd.sync_cursor_used(v_user, p -> 'since');
        END IF;
    END LOOP;
END $$;

-- Whether a pull of the acting user works where it reads nothing of some spaces.
CREATE OR REPLACE FUNCTION syncd.sync_reads(p_user integer, p_pull jsonb, p_without integer[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM syncd.sync_pull_acting(p_user, p_pull ->> 'app', p_pull -> 'since', (p_pull -> 'how') || jsonb_build_object('without', p_without));
    RETURN true;
EXCEPTION WHEN OTHERS THEN  -- not a statement that takes too long, which nobody knows to be the feed's fault
    RETURN false;
END $$;

-- The spaces for which a pull fails, of which something cannot be read: rows that are damaged, or more than fits into memory. To be
-- asked when one has failed. Where it fails whatever it leaves out, none. Found by halves, in the order in which they are read.
CREATE OR REPLACE FUNCTION syncd.sync_unreadable(p_pull jsonb) RETURNS TABLE (space_no integer, space_id text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_user  integer := syncd.sync_act_as(coalesce(p_pull ->> 'context', p_pull ->> 'user'), p_pull ? 'list');
    v_all   integer[];
    v_bad   integer[] := '{}';
    v_works integer;
    v_fails integer;
    v_half  integer;
BEGIN
    PERFORM syncd.sync_start();
    IF p_pull ? 'list' THEN
        PERFORM syncd.sync_adopt(p_pull -> 'list', to_timestamp((p_pull ->> 'asOf')::bigint / 1000000.0));
    END IF;
    v_all := CASE WHEN p_pull -> 'since' ? 'row' THEN (syncd.sync_cursor_places(v_user, p_pull -> 'since')).spaces
                  ELSE ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_pull -> 'since' -> 's', '[]')) e) END;
    v_all := v_all || ARRAY(SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = v_user
                            AND (m.space_no IN (SELECT unnest(v_all))) IS NOT TRUE ORDER BY m.space_no);
    WHILE cardinality(v_bad) < 32 AND syncd.sync_reads(v_user, p_pull, v_all) AND NOT syncd.sync_reads(v_user, p_pull, v_bad) LOOP
        v_works := 0;  -- the first so many can be read together, and
        v_fails := cardinality(v_all);  -- so many cannot
        WHILE v_fails - v_works > 1 LOOP
            v_half := (v_works + v_fails) / 2;
            IF syncd.sync_reads(v_user, p_pull, v_bad || v_all[v_half + 1:]) THEN
                v_works := v_half;
            ELSE
                v_fails := v_half;
            END IF;
        END LOOP;
        v_bad := v_bad || v_all[v_fails];
    END LOOP;
    RETURN QUERY SELECT s.space_no, s.space_id FROM syncd.sync_spaces s WHERE s.space_no = ANY (v_bad);
END $$;
