-- History: a record's changes, and a record or a space as it was. The log has it all: a record's changes
-- are a chain (prev_seq), so nothing here scans the log, and nothing new is kept. No look goes any number of steps.
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

-- The names of the registers that a change wrote itself.
CREATE OR REPLACE FUNCTION syncd.sync_own_fields(p_fields json) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT f.key FROM json_each(p_fields) f WHERE f.value -> 'clientId' IS NULL);

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

-- How many more steps along chains this transaction takes: set by sync_past and sync_restore, so that no look takes any number. Below
-- 0: something was not found with them.
CREATE OR REPLACE FUNCTION syncd.sync_steps_left() RETURNS integer
LANGUAGE sql STABLE
RETURN coalesce(nullif(current_setting('syncd.steps', true), ''), '20000')::integer;

-- The last change of a record at or before p_seq, which is below the record's newest: `seq`, null where there is none. next_prev: what
-- the change after it says of the one before it; null where that is the record's first. It goes down the chain for some steps. A record
-- that was changed more often since is mostly found soon among what its feed has before p_seq, so that is looked through then, and what
-- comes after it. touched: the fields that were written since; null where that is not known. steps: of p_left, below 0 where it was not
-- found with them; some twenty changes that are looked through count as one.
CREATE OR REPLACE FUNCTION syncd.sync_change_before(p_record syncd.sync_records, p_seq bigint, p_left integer,
                                                    OUT seq bigint, OUT next_prev bigint, OUT touched text[], OUT steps integer)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_at   bigint := p_record.seq;
    v_prev bigint;
    v_own  text[];
    v_rows bigint;
BEGIN
    touched := '{}';
    FOR n IN 1 .. greatest(p_left, 0) LOOP
        steps := p_left - n;
        SELECT c.prev_seq, syncd.sync_own_fields(c.fields) INTO v_prev, v_own FROM syncd.sync_changes c
        WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_at;
        IF NOT FOUND THEN
            RETURN;  -- it is gone, and next_prev names it
        END IF;
        IF v_prev < 0 OR NOT v_own <@ touched THEN
            touched := CASE WHEN v_prev >= 0 THEN touched || v_own END;
        END IF;
        next_prev := v_prev;
        v_at := abs(v_prev);
        IF v_at IS NULL OR v_at <= p_seq THEN
            seq := v_at;
            RETURN;
        ELSIF n = 4000 THEN
            touched := NULL;
            SELECT max(c.seq) FILTER (WHERE c.table_no = p_record.table_no AND c.record_id = p_record.record_id), count(*) INTO seq, v_rows
            FROM (SELECT h.seq, h.table_no, h.record_id FROM syncd.sync_changes h
                  WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq <= p_seq
                  ORDER BY h.seq DESC LIMIT 10000) c;
            CONTINUE WHEN seq IS NULL AND v_rows = 10000;
            SELECT (array_agg(c.prev_seq ORDER BY c.seq))[1], count(*) INTO next_prev, v_rows
            FROM (SELECT h.seq, h.prev_seq, h.table_no, h.record_id FROM syncd.sync_changes h
                  WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq > p_seq
                  ORDER BY h.seq LIMIT 10000) c
            WHERE c.table_no = p_record.table_no AND c.record_id = p_record.record_id;
            steps := steps - 1000;
            CONTINUE WHEN seq IS NULL AND v_rows = 0;
            next_prev := coalesce(next_prev, -seq);
            RETURN;
        END IF;
    END LOOP;
    steps := -1;
END $$;

-- A change holds the registers that won, so the newest change that has a register has its value: also where the log is
-- folded, if the look is no earlier than the record's last change below the horizon. It goes down the chain from there, until all
-- registers that the record has were found.
CREATE OR REPLACE FUNCTION syncd.sync_version_at(p_record syncd.sync_records, p_seq bigint) RETURNS syncd.sync_version
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v         syncd.sync_version;
    v_missing text[] := ARRAY(SELECT jsonb_object_keys(p_record.registers));
    v_horizon bigint := coalesce((SELECT h.horizon FROM syncd.sync_feeds h
                                  WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no), 0);
    v_left    integer := syncd.sync_steps_left();
    v_at      bigint := p_record.seq;
    v_last    bigint;
    v_gap     boolean := false;
    v_below   boolean := false;
    b         record;
    c         record;
BEGIN
    IF p_record.seq <= p_seq THEN
        RETURN (p_record.registers, p_record.seq, p_record.event_id, p_record.client_no, p_record.schema_version, true)::syncd.sync_version;
    ELSIF p_record.seq > greatest(p_seq, v_horizon) THEN
        b := syncd.sync_change_before(p_record, greatest(p_seq, v_horizon), v_left);
        v_left := b.steps;
        v_at := b.seq;
        v.complete := b.seq IS NULL AND b.next_prev IS NULL;
        IF v_at IS NOT NULL AND p_seq >= v_horizon AND b.touched IS NOT NULL THEN
            -- what was not written since is as it is now
            v.registers := p_record.registers - b.touched;
            v_missing := ARRAY(SELECT m FROM unnest(v_missing) m WHERE m = ANY (b.touched));
        END IF;
    END IF;
    WHILE v_at IS NOT NULL AND v_left >= 0 LOOP
        v_left := v_left - 1;
        SELECT h.seq, h.prev_seq, h.event_id, h.client_no, h.schema_version, h.fields INTO c FROM syncd.sync_changes h
        WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq = v_at;
        v_gap := v_gap OR c.seq IS NULL OR coalesce(c.prev_seq < 0, false);
        v_below := v_below OR c.seq IS NULL OR coalesce(-c.prev_seq BETWEEN 1 AND p_seq - 1, false);
        EXIT WHEN c.seq IS NULL;
        v_last := coalesce(v_last, CASE WHEN c.seq <= v_horizon THEN c.seq END);
        IF c.seq <= p_seq THEN
            IF v.seq IS NULL THEN
                v.seq := c.seq; v.event_id := c.event_id; v.client_no := c.client_no; v.schema_version := c.schema_version;
            END IF;
            IF c.fields::jsonb ?| v_missing THEN
                v.registers := coalesce(v.registers, '{}') || syncd.sync_registers_in(c.fields::jsonb, c.client_no, v_missing);
                v_missing := ARRAY(SELECT m FROM unnest(v_missing) m WHERE NOT v.registers ? m);
            END IF;
        END IF;
        v.complete := c.prev_seq IS NULL OR v_missing = '{}';
        EXIT WHEN v.complete;
        v_at := abs(c.prev_seq);
    END LOOP;
    -- Where changes are missing, what is below p_seq is known unless the record was changed between p_seq and the horizon.
    v.registers := CASE WHEN v.seq IS NOT NULL THEN v.registers END;
    v.complete := v_left >= 0 AND coalesce(NOT CASE WHEN v_gap THEN v_below AND p_seq < v_last END, v.complete, false);
    PERFORM set_config('syncd.steps', v_left::text, true);
    RETURN v;
END $$;

-- Some registers of a change, each with its device, as the record had them: without what their writer had seen.
CREATE OR REPLACE FUNCTION syncd.sync_registers_in(p_fields jsonb, p_client integer, p_keys text[]) RETURNS jsonb
LANGUAGE sql STABLE
RETURN (SELECT jsonb_object_agg(f.key, CASE WHEN f.value ? 'clientId' THEN f.value ELSE f.value - 'base' || jsonb_build_object(
            'clientId', (SELECT d.name FROM syncd.sync_names d WHERE d.name_no = p_client)) END)
        FROM jsonb_each(p_fields) f WHERE f.key = ANY (p_keys));

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
    v_cut    boolean;
    b        record;
BEGIN
    -- one of its own changes, as the last page ended with: go on from there
    SELECT c.seq INTO v_older FROM syncd.sync_changes c
    WHERE c.space_no = p_record.space_no AND c.app_no = p_record.app_no AND c.seq = v_before
      AND c.table_no = p_record.table_no AND c.record_id = p_record.record_id;
    IF v_older IS NOT NULL THEN
        v_from := v_older;
    ELSIF v_before <= p_record.seq THEN
        b := syncd.sync_change_before(p_record, v_before - 1, syncd.sync_steps_left());
        IF b.steps < 0 THEN
            RAISE EXCEPTION 'history_gone' USING ERRCODE = 'SY010';
        END IF;
        v_from := b.seq;
        v_cut := CASE WHEN b.seq IS NULL THEN b.next_prev IS NOT NULL ELSE b.next_prev < 0 END;
    END IF;
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
        (array_agg(abs(w.prev_seq) ORDER BY w.seq))[1], bool_or(w.prev_seq < 0) OR v_cut OR count(*) = 0 AND v_cut IS NULL,
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
-- tombstones were forgotten since, their records are missing: complete is false. So it is where a record was changed so often that
-- it was not found.
CREATE OR REPLACE FUNCTION syncd.sync_space_at(p_space integer, p_app integer, p_call jsonb) RETURNS syncd.sync_past_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_past_page;
    v_left   integer := (p_call ->> 'limit')::integer;
    v_bytes  bigint := (p_call ->> 'bytes')::bigint;
    v_table  integer := 0;
    v_only   integer := CASE WHEN p_call ? 'only' THEN coalesce((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'only'), 0) END;
    v_id     text := coalesce(p_call ->> 'id', '');
    v_any    boolean := false;
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
        v.more := v_left = 0 OR v_bytes <= 0 OR syncd.sync_steps_left() < 0;
        EXIT WHEN v.more;
        a := syncd.sync_version_at(r, v.seq);
        -- One that takes more steps than are left begins the next page; of one that takes more than a page has it tells what was found.
        v.more := syncd.sync_steps_left() < 0 AND v_any;
        EXIT WHEN v.more;
        v_any := true;
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
    PERFORM syncd.sync_start(), set_config('syncd.steps', '20000', true);
    RETURN syncd.sync_past_acting(p_call);
END $$;
