-- Looks into the past of a log that was folded: exact from the horizon on, and before it never wrong without saying so.

-- A change holds the registers that won, so the newest change that has a register has its value: also where the log is
-- folded, if the look is no earlier than the record's last change below the horizon.
CREATE OR REPLACE FUNCTION syncd.sync_version_at(p_record syncd.sync_records, p_seq bigint) RETURNS syncd.sync_version
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v      syncd.sync_version;
    v_lost boolean;
BEGIN
    IF p_record.seq <= p_seq THEN
        RETURN (p_record.registers, p_record.seq, p_record.event_id, p_record.client_no, p_record.schema_version, true)::syncd.sync_version;
    END IF;
    WITH RECURSIVE walk AS (
        SELECT c.seq, c.prev_seq, c.event_id, c.client_no, c.schema_version, c.fields
        FROM syncd.sync_changes c
        WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = p_record.seq
        UNION ALL
        SELECT o.* FROM walk w CROSS JOIN LATERAL (
            SELECT c.seq, c.prev_seq, c.event_id, c.client_no, c.schema_version, c.fields
            FROM syncd.sync_changes c
            -- OFFSET 0 keeps it one probe of the primary key a step, whatever the planner believes of the table
            WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = abs(w.prev_seq) OFFSET 0) o
    ), past AS (
        SELECT * FROM walk w WHERE w.seq <= p_seq
    )
    SELECT k.registers, n.seq, n.event_id, n.client_no, n.schema_version,
           coalesce((SELECT w.prev_seq IS NULL FROM walk w ORDER BY w.seq LIMIT 1), false)
               OR k.registers ?& ARRAY(SELECT jsonb_object_keys(p_record.registers)),
           -- what is missing lies below p_seq, and the record was changed between p_seq and the horizon
           (SELECT (bool_or(-w.prev_seq BETWEEN 1 AND p_seq - 1) OR (array_agg(w.prev_seq ORDER BY w.seq))[1] IS NOT NULL)
                   AND p_seq < max(w.seq) FILTER (WHERE w.seq <= (SELECT h.horizon FROM syncd.sync_feeds h
                                                                  WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no))
            FROM walk w HAVING bool_or(w.prev_seq < 0) OR (array_agg(w.prev_seq ORDER BY w.seq))[1] IS NOT NULL)
    INTO v.registers, v.seq, v.event_id, v.client_no, v.schema_version, v.complete, v_lost
    FROM (SELECT jsonb_object_agg(r.key, r.value) AS registers FROM (
              SELECT DISTINCT ON (f.key) f.key, CASE WHEN f.value ? 'clientId' THEN f.value ELSE f.value || jsonb_build_object(
                  'clientId', (SELECT d.name FROM syncd.sync_names d WHERE d.name_no = p.client_no)) END AS value
              FROM past p CROSS JOIN LATERAL jsonb_each(p.fields::jsonb) f ORDER BY f.key, p.seq DESC) r) k
    LEFT JOIN LATERAL (SELECT * FROM past p ORDER BY p.seq DESC LIMIT 1) n ON true;
    v.complete := coalesce(NOT v_lost, v.complete, false);
    RETURN v;
END $$;

-- A record's changes before a seq, newest first: a walk along its chain, of p_call's "limit" changes or "bytes" bytes. complete: false
-- once a change is missing.
CREATE OR REPLACE FUNCTION syncd.sync_history(p_record syncd.sync_records, p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_past_page;
    v_limit  integer := (p_call ->> 'limit')::integer;
    v_bytes  bigint := (p_call ->> 'bytes')::bigint;
    v_before bigint := coalesce((p_call ->> 'before')::bigint, p_record.seq + 1);
    v_from   bigint := p_record.seq;
    v_older  bigint;
    v_gap    boolean;
BEGIN
    -- one of its own changes, as the last page ended with: go on from there
    SELECT c.seq INTO v_older FROM syncd.sync_changes c
    WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_before
      AND c.table_no = p_record.table_no AND c.record_id = p_record.record_id;
    v_from := coalesce(v_older, v_from);
    WITH RECURSIVE walk AS (
        SELECT c.*, (c.seq < v_before)::integer AS n, 0::bigint AS size
        FROM syncd.sync_changes c
        WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_from
        UNION ALL
        SELECT o.*, w.n + (o.seq < v_before)::integer,
               CASE WHEN w.n > 0 THEN w.size + coalesce(octet_length(w.fields::text), 0) + coalesce(octet_length(w.lost::text), 0) ELSE 0 END
        FROM walk w CROSS JOIN LATERAL (
            SELECT c.* FROM syncd.sync_changes c
            WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = abs(w.prev_seq) OFFSET 0) o
        WHERE w.n < v_limit AND w.size < v_bytes
    )
    SELECT string_agg(concat(
            '{"seq":', w.seq, ',"eventId":"', w.event_id, '","op":"', (ARRAY['insert', 'update', 'delete'])[w.op],
            '","userId":', (SELECT u.quoted FROM syncd.sync_names u WHERE u.name_no = w.user_no),
            ',"clientId":', (SELECT d.quoted FROM syncd.sync_names d WHERE d.name_no = w.client_no),
            CASE WHEN w.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(w.change_id)) END,
            ',"createdAt":"', syncd.sync_instant(w.created_at), '"',
            CASE WHEN w.schema_version IS NOT NULL THEN concat(',"schemaVersion":', w.schema_version) END,
            CASE WHEN w.actor IS NOT NULL THEN concat(',"actor":', w.actor) END,
            CASE WHEN w.origin IS NOT NULL THEN concat(',"origin":', to_json(w.origin)) END,
            ',"status":"', CASE WHEN w.fields IS NULL THEN 'superseded' ELSE 'applied' END,
            '","fields":', syncd.sync_written(w.fields), ',"superseded":', coalesce(w.lost::text, '{}'), '}'),
            ',' ORDER BY w.seq DESC) FILTER (WHERE w.seq < v_before),
        (array_agg(abs(w.prev_seq) ORDER BY w.seq))[1], bool_or(w.prev_seq < 0) OR count(*) = 0
    INTO v.body, v_older, v_gap FROM walk w;
    v.more := EXISTS (SELECT FROM syncd.sync_changes c
                      WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_older);
    v.complete := NOT coalesce(v_gap, false) AND (v_older IS NULL OR v.more);
    v.body := coalesce(v.body, '');
    RETURN v;
END $$;

-- The living records of a feed after a seq, in the order of their names' numbers and ids, from after "table", "id" on.
-- "limit" counts rows looked at: a record that came later, or was deleted then, is looked at too. Where
-- tombstones were forgotten since, their records are missing: complete is false.
CREATE OR REPLACE FUNCTION syncd.sync_space_at(p_space integer, p_app integer, p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_past_page;
    v_left   integer := (p_call ->> 'limit')::integer;
    v_bytes  bigint := (p_call ->> 'bytes')::bigint;
    v_table  integer := 0;
    v_id     text := coalesce(p_call ->> 'id', '');
    v_pieces text[] := '{}';
    v_piece  text;
    r        syncd.sync_records;
    a        syncd.sync_version;
BEGIN
    v.seq := syncd.sync_moment(p_space, p_app, p_call);
    v.complete := NOT EXISTS (SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.forgotten > v.seq);
    v.more := false;
    IF p_call ? 'table' THEN
        SELECT n.name_no INTO v_table FROM syncd.sync_names n WHERE n.name = p_call ->> 'table';
        v_table := coalesce(v_table, 0);
    END IF;
    FOR r IN SELECT q.* FROM syncd.sync_records q
             WHERE q.space_no = p_space AND q.app_no = p_app AND (q.table_no, q.record_id) > (v_table, v_id)
             ORDER BY q.table_no, q.record_id LIMIT v_left + 1 LOOP
        IF v_left = 0 OR v_bytes <= 0 THEN
            v.more := true;
            EXIT;
        END IF;
        a := syncd.sync_version_at(r, v.seq);
        v.complete := v.complete AND a.complete;
        IF a.registers IS NOT NULL AND NOT syncd.sync_is_deleted(a.registers) THEN
            v_piece := syncd.sync_version_text(r, a);
            v_pieces := v_pieces || v_piece;
            v_bytes := v_bytes - octet_length(v_piece);
        END IF;
        v_left := v_left - 1;
        v_table := r.table_no;
        v_id := r.record_id;
    END LOOP;
    IF v.more THEN
        SELECT n.name, v_id INTO v.last_table, v.last_id FROM syncd.sync_names n WHERE n.name_no = v_table;
    END IF;
    v.body := array_to_string(v_pieces, ',');
    RETURN v;
END $$;

-- The records of a restore, as a push's wave: all that were touched after p_seq and differ from what they were, or the
-- one. `size`: bytes of what will be written.
CREATE OR REPLACE FUNCTION syncd.sync_restore_wave(p_space integer, p_app integer, p_seq bigint, p_only syncd.sync_records, p_now bigint, p_call jsonb,
                                        OUT body json, OUT tables integer[], OUT count integer, OUT size bigint, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_high text := p_call -> 'event' ->> 0;
    v_low  bigint := (p_call -> 'event' ->> 1)::bigint;
BEGIN
    WITH chosen AS (
        SELECT p_only AS q WHERE p_only.record_id IS NOT NULL
        UNION ALL
        SELECT q FROM syncd.sync_records q
        WHERE p_only.record_id IS NULL AND q.space_no = p_space AND q.app_no = p_app AND q.seq > p_seq
    ), back AS MATERIALIZED (
        SELECT (c.q).table_no, (c.q).record_id, b.*
        FROM chosen c CROSS JOIN LATERAL syncd.sync_way_back(c.q, p_seq, p_now, p_call ->> 'client') b
    ), placed AS (
        SELECT b.*, row_number() OVER (ORDER BY b.table_no, b.record_id) AS i
        FROM back b WHERE b.needed OR p_only.record_id IS NOT NULL
    ), used AS (
        SELECT array_agg(DISTINCT p.table_no) AS nos FROM placed p
    )
    SELECT json_agg(json_build_object(
               'i', p.i, 's', 1, 't', array_position(u.nos, p.table_no), 'r', p.record_id, 'o', p.op,
               'c', CASE WHEN p.i = 1 THEN p_call ->> 'changeId' END,
               'e', concat(v_high, lpad(to_hex(v_low + p.i), 16, '0')), 'f', p.fields, 'g', p.registers,
               'lo', p.stamp, 'hi', p.stamp, 'v', p.schema_version, 'a', p_call ->> 'actor', 'n', p_call ->> 'origin')),
           max(u.nos), count(*), sum(octet_length(p.fields::text))
               + count(*) * (coalesce(octet_length(p_call ->> 'actor'), 0) + coalesce(octet_length(p_call ->> 'origin'), 0)),
           (SELECT coalesce(bool_and(b.complete), true) FROM back b) AND (p_only.record_id IS NOT NULL OR NOT EXISTS (
               SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.forgotten > p_seq))
    INTO body, tables, count, size, complete
    FROM placed p CROSS JOIN used u;
END $$;
