-- History: a record's changes, and a record or a space as it was. The log has it all: a record's changes
-- are a chain (prev_seq), so nothing here scans and nothing new is kept.
-- A look into a log that was folded is exact from the horizon on, and before it never wrong without saying so.
-- Everything runs as the acting user. Refusals are raised with ERRCODE SY010 and the problem's code as message.
-- Called by the role that serves: sync_past.

-- The registers that a change wrote itself. One that met a tombstone carries those of others too, with their `clientId`.
CREATE OR REPLACE FUNCTION syncd.sync_written(p_fields json) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_fields IS NULL THEN
        RETURN '{}';
    ELSIF strpos(p_fields::text, '"clientId"') = 0 THEN
        RETURN p_fields::text;
    END IF;
    RETURN coalesce((SELECT json_object_agg(f.key, f.value) FROM json_each(p_fields) f WHERE f.value -> 'clientId' IS NULL)::text, '{}');
END $$;

-- The number of a space that the acting user is a member of; null for the own personal space before its first use.
CREATE OR REPLACE FUNCTION syncd.sync_space_read(p_space text, p_user text) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_no integer;
BEGIN
    SELECT s.space_no INTO v_no FROM syncd.sync_spaces s
    JOIN syncd.sync_memberships m ON m.space_no = s.space_no
    WHERE s.space_id = p_space AND m.user_no = syncd.sync_user();
    IF v_no IS NULL AND p_space <> '_personal:' || p_user THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
    END IF;
    RETURN v_no;
END $$;

-- Where a feed stood at p_at: after its last change committed then or before. created_at never falls within a feed, so
-- it is found by bisection. Where changes are gone it may be too low by those, never too high.
CREATE OR REPLACE FUNCTION syncd.sync_seq_at(p_space integer, p_app integer, p_head bigint, p_at timestamptz) RETURNS bigint
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
        IF v_at <= p_at THEN v_low := v_mid; ELSE v_high := v_mid - 1; END IF;
    END LOOP;
    IF v_low < p_head AND NOT EXISTS (SELECT FROM syncd.sync_changes c
            WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_low) AND EXISTS (SELECT FROM syncd.sync_feeds h
            WHERE h.space_no = p_space AND h.app_no = p_app AND h.written_at <= p_at) THEN
        RETURN p_head;
    END IF;
    RETURN v_low;
END $$;

-- The place in a feed that a call names: by "seq", by "at" (us), or by nothing, which is now.
CREATE OR REPLACE FUNCTION syncd.sync_moment(p_space integer, p_app integer, p_call jsonb) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_head bigint := coalesce((SELECT h.head FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app), 0);
BEGIN
    IF (p_call ->> 'seq')::bigint > v_head THEN
        RAISE EXCEPTION 'seq_ahead' USING ERRCODE = 'SY010', DETAIL = v_head::text;
    ELSIF p_call ? 'at' THEN
        RETURN syncd.sync_seq_at(p_space, p_app, v_head, to_timestamp((p_call ->> 'at')::bigint / 1000000.0));
    END IF;
    RETURN coalesce((p_call ->> 'seq')::bigint, v_head);
END $$;

-- Whether a seq that was told under the start p_start (us) is one of another history, as sync_pull_acting says of a cursor.
CREATE OR REPLACE FUNCTION syncd.sync_seq_lost(p_space integer, p_app integer, p_seq bigint, p_start bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_start timestamptz := to_timestamp(p_start / 1000000.0);
BEGIN
    RETURN v_start <> (SELECT max(t.started_at) FROM syncd.sync_starts t) AND syncd.sync_is_strange(v_start, ARRAY[p_space])
        OR NOT EXISTS (SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.head >= p_seq
                       AND NOT EXISTS (SELECT FROM unnest(h.boots, h.bases) AS b (at, base) WHERE b.at > v_start AND b.base < p_seq));
END $$;

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

-- A version as JSON text.
CREATE OR REPLACE FUNCTION syncd.sync_version_text(p_record syncd.sync_records, p_version syncd.sync_version) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN concat(
        '{"table":', (SELECT t.quoted FROM syncd.sync_names t WHERE t.name_no = p_record.table_no),
        ',"id":', to_json(p_record.record_id), ',"seq":', p_version.seq, ',"eventId":"', p_version.event_id,
        '","clientId":', (SELECT d.quoted FROM syncd.sync_names d WHERE d.name_no = p_version.client_no),
        CASE WHEN p_version.schema_version IS NOT NULL THEN concat(',"schemaVersion":', p_version.schema_version) END,
        ',"deleted":', syncd.sync_is_deleted(p_version.registers)::text, ',"complete":', p_version.complete::text,
        ',"fields":', p_version.registers, '}');
END $$;

-- A record by its name, or a row of nulls. One probe, as in sync_apply.
CREATE OR REPLACE FUNCTION syncd.sync_record_named(p_space integer, p_app integer, p_table text, p_id text) RETURNS syncd.sync_records
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_table integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_table);
    v       syncd.sync_records;
BEGIN
    SELECT q.* INTO v FROM syncd.sync_records q
    WHERE q.space_no = p_space AND q.app_no = p_app AND q.table_no = v_table AND q.record_id >= p_id
    ORDER BY q.record_id LIMIT 1;
    IF v.record_id IS DISTINCT FROM p_id THEN
        RAISE EXCEPTION 'record_not_found' USING ERRCODE = 'SY010';
    END IF;
    RETURN v;
END $$;

-- A record's changes before a seq, newest first: a walk along its chain, of p_call's "limit" changes or "bytes" bytes; `seq` is
-- that of the last. complete: false once a change is missing.
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
        (array_agg(abs(w.prev_seq) ORDER BY w.seq))[1], bool_or(w.prev_seq < 0) OR count(*) = 0,
        min(w.seq) FILTER (WHERE w.seq < v_before)
    INTO v.body, v_older, v_gap, v.seq FROM walk w;
    v.more := EXISTS (SELECT FROM syncd.sync_changes c
                      WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_older);
    v.complete := NOT coalesce(v_gap, false) AND (v_older IS NULL OR v.more);
    v.body := coalesce(v.body, '');
    RETURN v;
END $$;

-- The living records of a feed after a seq, in the order of their names' numbers and ids, from after "table", "id" on; of the table "only"
-- where the call names one.
-- "limit" counts rows looked at: a record that came later, or was deleted then, is looked at too. Where
-- tombstones were forgotten since, their records are missing: complete is false.
CREATE OR REPLACE FUNCTION syncd.sync_space_at(p_space integer, p_app integer, p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_past_page;
    v_left   integer := (p_call ->> 'limit')::integer;
    v_bytes  bigint := (p_call ->> 'bytes')::bigint;
    v_table  integer := 0;
    v_only   integer := CASE WHEN p_call ? 'only' THEN coalesce((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'only'), 0) END;
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
             WHERE q.space_no = p_space AND q.app_no = p_app AND (q.table_no, q.record_id) > (v_table, v_id) AND (v_only IS NULL OR q.table_no = v_only)
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

-- One look by the acting user. STABLE, so that heads, state and log are of one snapshot.
CREATE OR REPLACE FUNCTION syncd.sync_past_acting(p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v       syncd.sync_past_page;
    v_space integer := syncd.sync_space_read(p_call ->> 'space', p_call ->> 'user');
    v_app   integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app');
    r       syncd.sync_records;
    a       syncd.sync_version;
BEGIN
    IF p_call ? 'start' AND syncd.sync_seq_lost(v_space, v_app, coalesce(p_call ->> 'before', p_call ->> 'seq')::bigint,
                                                (p_call ->> 'start')::bigint) THEN
        RAISE EXCEPTION 'cursor_lost' USING ERRCODE = 'SY010';
    END IF;
    IF p_call ->> 'what' = 'space' THEN
        RETURN syncd.sync_space_at(v_space, v_app, p_call);
    END IF;
    r := syncd.sync_record_named(v_space, v_app, p_call ->> 'table', p_call ->> 'id');
    IF p_call ->> 'what' = 'history' THEN
        RETURN syncd.sync_history(r, p_call);
    END IF;
    v.seq := syncd.sync_moment(v_space, v_app, p_call);
    a := syncd.sync_version_at(r, v.seq);
    IF a.registers IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'SY010', MESSAGE = CASE WHEN a.complete THEN 'record_not_found' ELSE 'history_gone' END;
    END IF;
    v.body := syncd.sync_version_text(r, a);
    RETURN v;
END $$;

-- A look into the past: {"user", "app", "space", "what": "record" | "history" | "space", "table"?, "id"?, "seq"? | "at"? (us),
-- "limit"?, "bytes"?, "before"?, "start"? (us: under which the seq was told), "list"?, "asOf"?}.
CREATE OR REPLACE FUNCTION syncd.sync_past(p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
BEGIN
    PERFORM syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ? 'list');
    IF p_call ? 'list' THEN
        PERFORM syncd.sync_adopt(p_call -> 'list', to_timestamp((p_call ->> 'asOf')::bigint / 1000000.0));
    END IF;
    PERFORM syncd.sync_start();
    RETURN syncd.sync_past_acting(p_call);
END $$;
