-- Restores: a record or a space is written again as it was. What a device has asked for is kept, so that it is done once.
-- Everything runs as the acting user. Refusals are raised with ERRCODE SY010 and the problem's code as message.
-- Called by the role that serves: sync_restore.

-- What has to be written so that a record is again as it was after a seq. It says of the record whether it is there
-- (a restore means that, also against what arrives later with an older stamp), and writes the fields whose values
-- differ, with null where there was none. The stamp beats every one that the record has. needed: something differs.
-- A record that was not there then is deleted, and keeps its fields: they come back with it.
CREATE OR REPLACE FUNCTION syncd.sync_way_back(p_record syncd.sync_records, p_seq bigint, p_now bigint, p_client text,
                                    OUT fields jsonb, OUT registers jsonb, OUT op integer, OUT stamp bigint,
                                    OUT schema_version integer, OUT needed boolean, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    a       syncd.sync_version := syncd.sync_version_at(p_record, p_seq);
    v_gone  boolean := a.registers IS NULL OR syncd.sync_is_deleted(a.registers);
    v_stamp text;
BEGIN
    complete := a.complete;
    stamp := greatest(p_now, p_record.latest + 1);
    v_stamp := syncd.sync_instant(timestamptz 'epoch' + stamp * interval '1 microsecond');
    SELECT jsonb_object_agg(f.key, jsonb_build_object('value', f.value, 'at', v_stamp)) INTO fields
    FROM (SELECT h.key, coalesce(a.registers -> h.key -> 'value', 'null') AS value, h.value -> 'value' AS held
          FROM jsonb_each(p_record.registers) h WHERE a.registers IS NOT NULL AND h.key <> 'deletedAt') f
    WHERE f.value <> f.held;
    needed := fields IS NOT NULL OR v_gone <> p_record.deleted;
    fields := coalesce(fields, '{}') || jsonb_build_object('deletedAt', jsonb_build_object(
        'value', CASE WHEN v_gone THEN v_stamp END, 'at', v_stamp));
    SELECT jsonb_object_agg(f.key, f.value || jsonb_build_object('clientId', p_client)) INTO registers FROM jsonb_each(fields) f;
    -- what comes back is sent whole, as an insert is
    op := CASE WHEN v_gone THEN 3 WHEN p_record.deleted THEN 1 ELSE 2 END;
    schema_version := CASE WHEN a.registers IS NULL THEN p_record.schema_version ELSE a.schema_version END;
END $$;

-- What has to be written to a record of a restore, or of a revert where the call is one.
CREATE OR REPLACE FUNCTION syncd.sync_way(p_record syncd.sync_records, p_seq bigint, p_now bigint, p_call jsonb,
                               OUT fields jsonb, OUT registers jsonb, OUT op integer, OUT stamp bigint,
                               OUT schema_version integer, OUT needed boolean, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_client text := syncd.sync_writer_for(p_call);
    w        record;
BEGIN
    IF p_call ? 'revert' THEN
        w := syncd.sync_way_without(p_record, p_call -> 'revert', p_seq, v_client);
    ELSE
        w := syncd.sync_way_back(p_record, p_seq, p_now, v_client);
    END IF;
    fields := w.fields; registers := w.registers; op := w.op; stamp := w.stamp;
    schema_version := w.schema_version; needed := w.needed; complete := w.complete;
END $$;

-- In whose name the server writes what a device asked it to: not the device's, or both could stamp a register equally at
-- one time. No device can have such an id.
CREATE OR REPLACE FUNCTION syncd.sync_server_for(p_client text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat('_server:', CASE WHEN length(p_client) > 247 THEN md5(p_client) ELSE p_client END);

-- In whose name a call writes. Reverts are known by it: a device's id cannot begin as the server's do.
CREATE OR REPLACE FUNCTION syncd.sync_writer_for(p_call jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN NOT p_call ? 'revert' THEN syncd.sync_server_for(p_call ->> 'client')
            ELSE concat('_server:_server:', CASE WHEN length(p_call ->> 'client') > 239 THEN md5(p_call ->> 'client') ELSE p_call ->> 'client' END) END;

-- The changes that a restore wrote.
CREATE OR REPLACE FUNCTION syncd.sync_restored_between(p_space integer, p_app integer, p_first bigint, p_last bigint, p_repeated boolean)
RETURNS syncd.sync_restored
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v syncd.sync_restored;
BEGIN
    SELECT coalesce(array_agg(c.seq ORDER BY c.seq), '{}'), coalesce(array_agg(c.event_id::text ORDER BY c.seq), '{}'),
           coalesce(array_agg((SELECT t.name FROM syncd.sync_names t WHERE t.name_no = c.table_no) ORDER BY c.seq), '{}'),
           coalesce(array_agg(c.record_id ORDER BY c.seq), '{}'), p_repeated
    INTO v FROM syncd.sync_changes c
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= p_first AND c.seq <= p_last;
    RETURN v;
END $$;

-- The answer to a restore that this device asks for again, else null. It is that of the first time, also where its author
-- has become a reader or was removed: that it was done comes before who may do it.
CREATE OR REPLACE FUNCTION syncd.sync_restored_before(p_call jsonb, p_client integer, p_app integer) RETURNS syncd.sync_restored
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d syncd.sync_restores;
BEGIN
    SELECT r.* INTO d FROM syncd.sync_restores r JOIN syncd.sync_spaces s ON s.space_no = r.space_no
    WHERE r.user_no = syncd.sync_user() AND r.client_no = p_client AND r.change_id = p_call ->> 'changeId'
      AND s.space_id = p_call ->> 'space' AND r.app_no = p_app AND r.target = p_call ->> 'target'
      AND r.record_id IS NOT DISTINCT FROM p_call ->> 'id'
      AND (SELECT t.name FROM syncd.sync_names t WHERE t.name_no = r.table_no) IS NOT DISTINCT FROM p_call ->> 'table';
    IF d.change_id IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN syncd.sync_restored_between(d.space_no, d.app_no, d.first_seq, d.last_seq, true);
END $$;

-- The records of a restore, as a push's wave: all that were touched after p_seq and differ from what they were, or the
-- one; of a revert, the call's "records". `size`: bytes of what will be written; beyond the
-- call's there is no body.
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
        WHERE p_only.record_id IS NULL AND NOT p_call ? 'revert' AND q.space_no = p_space AND q.app_no = p_app AND q.seq > p_seq AND NOT syncd.sync_is_erased(q.registers)
        UNION ALL
        SELECT q FROM jsonb_to_recordset(p_call -> 'records') AS k (t integer, r text)
        CROSS JOIN LATERAL syncd.sync_record_at(p_space, p_app, k.t, k.r) q
        WHERE q.record_id IS NOT NULL AND NOT syncd.sync_is_erased(q.registers)
    ), back AS MATERIALIZED (
        SELECT (c.q).table_no, (c.q).record_id, b.*
        FROM chosen c CROSS JOIN LATERAL syncd.sync_way(c.q, p_seq, p_now, p_call) b
    ), placed AS (
        SELECT b.*, row_number() OVER (ORDER BY b.table_no, b.record_id) AS i
        FROM back b WHERE b.needed OR p_only.record_id IS NOT NULL
    ), used AS (
        SELECT array_agg(DISTINCT p.table_no) AS nos, sum(octet_length(p.fields::text))
                   + count(*) * (coalesce(octet_length(p_call ->> 'actor'), 0) + coalesce(octet_length(p_call ->> 'origin'), 0)) AS size
        FROM placed p
    )
    SELECT json_agg(json_build_object(
               'i', p.i, 's', 1, 't', array_position(u.nos, p.table_no), 'r', p.record_id, 'o', p.op,
               'c', CASE WHEN p.i = 1 THEN p_call ->> 'changeId' END,
               'e', concat(v_high, lpad(to_hex(v_low + p.i), 16, '0')), 'f', p.fields, 'g', p.registers,
               'lo', CASE WHEN p_call ? 'revert' THEN 0 ELSE p.stamp END, 'hi', p.stamp, 'v', p.schema_version, 'a', p_call ->> 'actor', 'n', p_call ->> 'origin')) FILTER (WHERE u.size <= (p_call ->> 'bytes')::bigint),
           max(u.nos), count(*), max(u.size),
           (SELECT coalesce(bool_and(b.complete), true) FROM back b) AND (p_only.record_id IS NOT NULL OR NOT EXISTS (
               SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.forgotten > p_seq))
    INTO body, tables, count, size, complete
    FROM placed p CROSS JOIN used u;
END $$;

-- The number of the space that a restore is of. Its user's membership is held. Raises SY010 where the user may not write there.
CREATE OR REPLACE FUNCTION syncd.sync_restore_space(p_user integer, p_space text) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_may record := syncd.sync_push_may(p_user, ARRAY[p_space]);
BEGIN
    IF v_may.whys[1] = 'n' THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
    ELSIF v_may.whys[1] = 'r' THEN
        RAISE EXCEPTION 'not_a_writer' USING ERRCODE = 'SY010';
    END IF;
    RETURN v_may.spaces[1];
END $$;

-- Raises SY010 (restore_too_large) where more records changed after p_seq than the call says. p_exact: they are all counted, for the answer to say
-- how many; else no more than that.
CREATE OR REPLACE FUNCTION syncd.sync_restore_counted(p_space integer, p_app integer, p_seq bigint, p_call jsonb, p_exact boolean) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_most    bigint := p_call ->> 'most';
    v_touched bigint := (SELECT count(*) FROM (
        SELECT FROM syncd.sync_records q WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq > p_seq
        LIMIT CASE WHEN NOT p_exact THEN v_most + 1 END) k);
BEGIN
    IF v_touched > v_most THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('records', v_touched)::text;
    END IF;
END $$;

-- As sync_restore_wave, where that is complete, no more than the call says, of no table that it calls ruled, and of nothing that the user may not write. Raises SY010, SY012.
CREATE OR REPLACE FUNCTION syncd.sync_restore_bounded(p_space integer, p_app integer, p_seq bigint, p_only syncd.sync_records, p_call jsonb,
                                           OUT body json, OUT tables integer[], OUT count integer)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_seq  bigint := p_seq;
    v_call jsonb := p_call;
    w      record;
BEGIN
    IF syncd.sync_is_erased(p_only.registers) THEN
        RAISE EXCEPTION 'history_gone' USING ERRCODE = 'SY010';
    ELSIF p_call ? 'revert' THEN
        SELECT p_call - 'looked' || jsonb_build_object('records', a.records, 'actor', a.actor), coalesce(a.before, 9223372036854775807)
        INTO v_call, v_seq FROM syncd.sync_acted_on(p_space, p_app, p_seq, p_call) a;
    ELSIF p_only.record_id IS NULL THEN  -- before any is read
        PERFORM syncd.sync_restore_counted(p_space, p_app, p_seq, p_call, false);
    END IF;
    SELECT * INTO w FROM syncd.sync_restore_wave(p_space, p_app, v_seq, p_only, syncd.sync_micros(clock_timestamp()), v_call);
    IF NOT w.complete THEN
        RAISE EXCEPTION 'history_gone' USING ERRCODE = 'SY010';
    ELSIF w.size > (p_call ->> 'bytes')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('records', w.count, 'bytes', w.size)::text;
    END IF;
    IF EXISTS (SELECT FROM syncd.sync_names t WHERE t.name_no = ANY (w.tables) AND p_call -> 'ruled' ?| ARRAY['*', t.name]) THEN
        RAISE EXCEPTION 'rule_refused' USING ERRCODE = 'SY010';
    END IF;
    PERFORM syncd.sync_check_writable(syncd.sync_user(), ARRAY[p_app], ARRAY[p_space], w.tables, array_fill('a'::text, ARRAY[w.count]), ARRAY[w.body]);
    body := w.body; tables := w.tables; count := w.count;
END $$;

-- Writes the wave of a restore, as the server on behalf of the device, and returns the head before it. Raises SY010 (record_too_large).
CREATE OR REPLACE FUNCTION syncd.sync_restore_write(p_user integer, p_space integer, p_app integer, p_body json, p_tables integer[], p_count integer,
                                         p_call jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_base bigint;
    v_at   timestamptz;
BEGIN
    SELECT a.base, a.written_at INTO v_base, v_at FROM syncd.sync_advance(p_space, p_app, p_count) a;
    IF p_count > 0 AND (
        SELECT bool_or(d.too_large)
        FROM syncd.sync_wave(p_user, syncd.sync_name(syncd.sync_writer_for(p_call)), p_app, ARRAY[p_space], p_tables, ARRAY[v_base + p_count],
            ARRAY(SELECT v_base + g FROM generate_series(1, p_count) g), v_at, (p_call ->> 'largest')::integer, p_body) d) THEN
        RAISE EXCEPTION 'record_too_large' USING ERRCODE = 'SY010';
    END IF;
    RETURN v_base;
END $$;

-- Goes back, as one push in one transaction, under the feed's lock from before the first look at a record: what comes between
-- is neither lost nor undone by halves. {"user", "client", "app", "space", "table"?, "id"?, "seq" | "at" (us), "target": text of
-- those, "revert"?: whose changes are taken back in place of going back to a moment, those after it, "looks": so many changes of the feed at most, with
-- "lookBytes" of actors,
-- "changeId"?, "actor"?: JSON text, "origin", "event": [first half as hex, second half as a number], "most": changes,
-- "bytes", "largest": bytes of a record, "ruled"?: [tables to which nothing is written, or "*"], "personal"?, "list"?, "asOf"?}.
CREATE OR REPLACE FUNCTION syncd.sync_restore(p_call jsonb) RETURNS syncd.sync_restored
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_user   integer := syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ?| ARRAY['list', 'personal']);
    v_client integer := (syncd.sync_names_known(ARRAY[p_call ->> 'client']))[1];
    v_app    integer := (syncd.sync_names_known(ARRAY[p_call ->> 'app']))[1];
    v_id     text := p_call ->> 'changeId';
    v_space  integer;
    v_only   syncd.sync_records;
    v_base   bigint;
    v_done   syncd.sync_restored := syncd.sync_restored_before(p_call, v_client, v_app);
    w        record;
BEGIN
    IF v_done.seqs IS NOT NULL THEN
        RETURN v_done;
    END IF;
    PERFORM syncd.sync_adopt_said(p_call);
    v_space := syncd.sync_restore_space(v_user, p_call ->> 'space');
    PERFORM syncd.sync_names_first(ARRAY[p_call ->> 'client', p_call ->> 'app', syncd.sync_writer_for(p_call)]);
    v_client := syncd.sync_name(p_call ->> 'client');
    v_app := syncd.sync_name(p_call ->> 'app');
    IF EXISTS (SELECT FROM syncd.sync_used_ids(v_client, ARRAY[v_id])) THEN
        NULL;  -- what it is used for is looked at under the lock
    ELSIF p_call ? 'revert' THEN  -- the feed is not held up by that; what comes meanwhile is looked at under its lock
        p_call := p_call || jsonb_build_object('looked', (syncd.sync_acted_on(v_space, v_app, syncd.sync_moment(v_space, v_app, p_call), p_call)).looked);
    ELSIF NOT p_call ? 'table' THEN  -- nor by this
        PERFORM syncd.sync_restore_counted(v_space, v_app, syncd.sync_moment(v_space, v_app, p_call), p_call, true);
    END IF;
    PERFORM syncd.sync_advance(v_space, v_app, 0);
    v_only := CASE WHEN p_call ? 'table' THEN syncd.sync_record_named(v_space, v_app, p_call ->> 'table', p_call ->> 'id') END;
    v_done := syncd.sync_restored_before(p_call, v_client, v_app);  -- it may have been done meanwhile
    IF v_done.seqs IS NOT NULL THEN
        RETURN v_done;
    ELSIF EXISTS (SELECT FROM syncd.sync_used_ids(v_client, ARRAY[v_id])) THEN
        RAISE EXCEPTION 'change_id_reused' USING ERRCODE = 'SY010';
    END IF;

    PERFORM set_config('syncd.steps', '300000', true);
    w := syncd.sync_restore_bounded(v_space, v_app, syncd.sync_moment(v_space, v_app, p_call), v_only, p_call);
    v_base := syncd.sync_restore_write(v_user, v_space, v_app, w.body, w.tables, w.count, p_call);
    -- Of those that had nothing to do a thousand of a user are kept: they count in no quota.
    IF v_id IS NOT NULL AND (w.count > 0 OR 1000 > (SELECT count(*) FROM (
            SELECT FROM syncd.sync_restores d WHERE d.user_no = v_user AND d.last_seq < d.first_seq LIMIT 1000) k)) THEN
        INSERT INTO syncd.sync_restores (user_no, client_no, change_id, space_no, app_no, table_no, record_id, target, first_seq, last_seq)
        VALUES (v_user, v_client, v_id, v_space, v_app, v_only.table_no, v_only.record_id, p_call ->> 'target', v_base + 1, v_base + w.count);
    END IF;
    RETURN syncd.sync_restored_between(v_space, v_app, v_base + 1, v_base + w.count, false);
END $$;
