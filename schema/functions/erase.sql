-- Erasing a record: its values leave the log and the state for good. Stamps and seqs stay, so nothing comes back, and a change that is written for
-- it tells every device. What was erased says so: a register has the member `erased`, and the deletion of an erased record has it too.
-- Called by an operator, whom row security does not bind.

-- A register without its value, as JSON text. It keeps the form that it was written in, so that the exports of a server and of one that imported
-- from it stay the same: as a device's change has it, or as jsonb has it, each with `base` behind it where the log put that there.
CREATE OR REPLACE FUNCTION syncd.sync_erased_register(p_register json) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_base text := (regexp_match(p_register::text, ',"base":(?:null|"[^"]*")\}$'))[1];
    v_core text := CASE WHEN v_base IS NULL THEN p_register::text ELSE concat(left(p_register::text, -length(v_base)), '}') END;
BEGIN
    IF p_register::jsonb ? 'erased' THEN
        RETURN p_register::text;
    ELSIF v_core = v_core::jsonb::text THEN
        v_core := (v_core::jsonb || '{"value": null, "erased": true}')::text;
    ELSE
        SELECT concat('{', string_agg(concat(to_json(m.key), ':', CASE WHEN m.key = 'value' THEN 'null' ELSE m.value::text END), ',' ORDER BY m.n), ',"erased":true}')
        INTO v_core FROM json_each(v_core::json) WITH ORDINALITY AS m (key, value, n);
    END IF;
    RETURN CASE WHEN v_base IS NULL THEN v_core ELSE concat(left(v_core, -1), v_base) END;
END $$;

-- The register `deletedAt` without what a device wrote in place of an instant: the stamp stands there then, so that what was deleted stays so.
CREATE OR REPLACE FUNCTION syncd.sync_erased_deletion(p_register json) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF syncd.sync_is_instant(p_register::jsonb -> 'value') THEN
        RETURN p_register::text;
    ELSIF p_register::text = p_register::jsonb::text THEN
        RETURN (p_register::jsonb || jsonb_build_object('value', p_register -> 'at'))::text;
    END IF;
    RETURN (SELECT concat('{', string_agg(concat(to_json(m.key), ':', CASE WHEN m.key = 'value' THEN p_register -> 'at' ELSE m.value END), ',' ORDER BY m.n), '}')
            FROM json_each(p_register) WITH ORDINALITY AS m (key, value, n));
END $$;

-- Registers of the log without the values of p_keys (null: of all), but for the tombstone's where that is an instant.
CREATE OR REPLACE FUNCTION syncd.sync_erased_fields(p_fields json, p_keys text[]) RETURNS json
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_fields IS NULL OR p_fields::text = '{}' OR p_keys = '{}' THEN
        RETURN p_fields;
    ELSIF p_fields::text = p_fields::jsonb::text THEN
        RETURN (SELECT jsonb_object_agg(e.key, CASE WHEN e.key <> ALL (p_keys) THEN e.value
                                                    WHEN e.key = 'deletedAt' THEN syncd.sync_erased_deletion(e.value::text::json)::jsonb
                                                    ELSE e.value || '{"value": null, "erased": true}' END)
                FROM jsonb_each(p_fields::jsonb) e)::json;
    END IF;
    RETURN (SELECT concat('{', string_agg(concat(to_json(e.key), ':', CASE WHEN e.key <> ALL (p_keys) THEN e.value::text
                                                                           WHEN e.key = 'deletedAt' THEN syncd.sync_erased_deletion(e.value)
                                                                           ELSE syncd.sync_erased_register(e.value) END), ',' ORDER BY e.n), '}')::json
            FROM json_each(p_fields) WITH ORDINALITY AS e (key, value, n));
END $$;

-- Locks a feed against compaction and pushes, in their order.
CREATE OR REPLACE FUNCTION syncd.sync_erase_lock(p_space integer, p_app integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_compactions (space_no, app_no) VALUES (p_space, p_app) ON CONFLICT DO NOTHING;
    PERFORM FROM syncd.sync_compactions d WHERE d.space_no = p_space AND d.app_no = p_app FOR UPDATE;
    PERFORM syncd.sync_take(p_space, p_app, 0);
END $$;

-- Writes the change that tells devices of an erasure, and stores the record so: the registers p_keys have no values from now on; p_bury: and the record
-- is deleted for good; else `deletedAt` among p_keys stays a deletion. Its stamps are later than all that the record has. p_by: the server's number;
-- p_seq, p_at: its place, which was taken.
CREATE OR REPLACE FUNCTION syncd.sync_erase_write(p_record syncd.sync_records, p_keys text[], p_bury boolean, p_by integer, p_seq bigint, p_at timestamptz)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name  text := syncd.sync_server_for('erasure');
    v_event uuid := gen_random_uuid();
    v_us    bigint;
    v_text  text;
    v_new   json;
    v_all   jsonb;
BEGIN
    v_us := greatest(syncd.sync_micros(p_at), p_record.latest + 1);
    v_text := syncd.sync_instant(timestamptz 'epoch' + v_us * interval '1 microsecond');
    SELECT concat('{', string_agg(concat(to_json(k), ':{"value":', CASE WHEN k = 'deletedAt' THEN to_json(v_text)::text ELSE 'null' END,
                                         ',"at":', to_json(v_text), CASE WHEN k <> 'deletedAt' OR p_bury THEN ',"erased":true' END, '}'),
                                  ',' ORDER BY k COLLATE "C"), '}')::json
    INTO v_new FROM unnest(array_remove(p_keys, 'deletedAt') || CASE WHEN p_bury OR 'deletedAt' = ANY (p_keys) THEN ARRAY['deletedAt'] ELSE '{}' END) AS k;
    SELECT p_record.registers || jsonb_object_agg(e.key, e.value || jsonb_build_object('clientId', v_name)) INTO v_all FROM jsonb_each(v_new::jsonb) e;
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                    schema_version, op, record_id, change_id, fields)
    VALUES (p_seq, p_seq, p_record.seq, p_at, v_event, p_record.space_no, p_record.app_no, p_record.table_no, p_by, p_by,
            p_record.schema_version, CASE WHEN p_bury THEN 3 ELSE 2 END, p_record.record_id, syncd.sync_move_id(v_event),
            CASE WHEN p_record.deleted THEN syncd.sync_whole(v_all, v_new) ELSE v_new END);
    UPDATE syncd.sync_records q
    SET seq = p_seq, latest = v_us, event_id = v_event, client_no = p_by, deleted = p_record.deleted OR p_bury, registers = v_all
    WHERE q.space_no = p_record.space_no AND q.app_no = p_record.app_no AND q.table_no = p_record.table_no AND q.record_id = p_record.record_id
      AND q.seq = p_record.seq;  -- so that the other index finds one row as well
    -- what is changed without a place of its own is so in projections at once (functions/projections.sql)
    UPDATE syncd.sync_records q SET registers = q.registers
    WHERE q.space_no = p_record.space_no AND q.app_no = p_record.app_no AND q.table_no = p_record.table_no AND q.record_id = p_record.record_id
      AND q.seq = p_seq AND EXISTS (SELECT FROM syncd.sync_projections);
END $$;

-- In whose name an erasure writes.
CREATE OR REPLACE FUNCTION syncd.sync_erase_by() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_names_put(ARRAY[syncd.sync_server_for('erasure')], NULL);
    RETURN (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = syncd.sync_server_for('erasure'));
END $$;

-- Adds to what an erasure has done.
CREATE OR REPLACE FUNCTION syncd.sync_erase_count(p_ordinal bigint, p_what text, p_n bigint) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE syncd.sync_erasures e SET counts = e.counts || jsonb_build_object(p_what, coalesce((e.counts ->> p_what)::bigint, 0) + p_n)
    WHERE e.ordinal = p_ordinal AND p_n > 0
$$;

-- Begins the erasure of a record, or goes on with one that was begun; its number. Raises SY010 (record_not_found).
CREATE OR REPLACE FUNCTION syncd.sync_erase_record(p_space text, p_app text, p_table text, p_record text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_space   integer := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space);
    v_ordinal bigint;
BEGIN
    IF NOT EXISTS (
        SELECT FROM syncd.sync_records q
        WHERE q.space_no = v_space
          AND q.app_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_app)
          AND q.table_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_table) AND q.record_id = p_record) THEN
        RAISE EXCEPTION 'record_not_found' USING ERRCODE = 'SY010';
    END IF;
    INSERT INTO syncd.sync_erasures AS e (what, space_id, space_no, app, table_name, record_id) VALUES ('record', p_space, v_space, p_app, p_table, p_record)
    ON CONFLICT (record_id, table_name, app, space_id, coalesce(space_no, 0)) WHERE what = 'record' DO UPDATE SET what = e.what
    RETURNING e.ordinal INTO v_ordinal;
    RETURN v_ordinal;
END $$;

-- Begins the erasures of a record where it was before it moved to where one erases it: in the personal space that says so. Their numbers, and
-- those of others of the same record that are not done.
CREATE OR REPLACE FUNCTION syncd.sync_erase_moved(p_ordinal bigint) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e       syncd.sync_erasures;
    v_app   integer;
    v_table integer;
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    v_app := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.app);
    v_table := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.table_name);
    INSERT INTO syncd.sync_erasures (what, space_id, space_no, app, table_name, record_id)
    SELECT 'record', s.space_id, s.space_no, e.app, e.table_name, e.record_id
    FROM syncd.sync_feeds h JOIN syncd.sync_spaces s ON s.space_no = h.space_no
    CROSS JOIN LATERAL (SELECT r.registers FROM syncd.sync_record_at(h.space_no, h.app_no, v_table, e.record_id) r OFFSET 0) q
    WHERE h.app_no = v_app AND starts_with(s.space_id, '_personal:') AND q.registers -> 'deletedAt' ->> 'movedTo' = e.space_id
    ORDER BY s.space_id
    ON CONFLICT (record_id, table_name, app, space_id, coalesce(space_no, 0)) WHERE what = 'record' DO NOTHING;
    RETURN ARRAY(SELECT x.ordinal FROM syncd.sync_erasures x
                 WHERE x.what = 'record' AND x.record_id = e.record_id AND x.table_name = e.table_name AND x.app = e.app
                   AND x.done_at IS NULL AND x.ordinal <> p_ordinal ORDER BY x.ordinal);
END $$;

-- Empties a record of the state, and tells devices of it; how far its feed has to be gone through. From here on nobody writes to it.
CREATE OR REPLACE FUNCTION syncd.sync_erase_bury(p_ordinal bigint, OUT space_no integer, OUT app_no integer, OUT upto bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    e       syncd.sync_erasures;
    v_table integer;
    v       syncd.sync_records;
    t       record;
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    space_no := e.space_no;
    app_no := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.app);
    v_table := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.table_name);
    IF space_no IS NULL OR app_no IS NULL OR v_table IS NULL THEN
        RETURN;  -- the database that was restored is from before it
    END IF;
    PERFORM syncd.sync_erase_lock(space_no, app_no);
    v := syncd.sync_record_at(space_no, app_no, v_table, e.record_id);
    IF v.record_id IS NOT NULL AND NOT syncd.sync_is_erased(v.registers) THEN
        SELECT a.* INTO t FROM syncd.sync_take(space_no, app_no, 1) a;
        PERFORM syncd.sync_erase_write(v, ARRAY(SELECT jsonb_object_keys(v.registers)), true, syncd.sync_erase_by(), t.base + 1, t.written_at);
        PERFORM syncd.sync_erase_count(p_ordinal, 'records', 1);
    END IF;
    SELECT h.head INTO upto FROM syncd.sync_feeds h WHERE h.space_no = sync_erase_bury.space_no AND h.app_no = sync_erase_bury.app_no;
    PERFORM pg_notify('syncd_hints', concat('f', syncd.sync_hint_key(e.space_id), syncd.sync_hint_key(e.app), upto));
END $$;

-- Takes what became smaller out of what was counted of a feed. p_bytes: of changes up to p_counted.
CREATE OR REPLACE FUNCTION syncd.sync_erase_usage(p_space integer, p_app integer, p_bytes bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE syncd.sync_feed_usage u SET bytes = u.bytes - p_bytes WHERE u.space_no = p_space AND u.app_no = p_app AND p_bytes <> 0;
    UPDATE syncd.sync_space_usage u SET bytes = u.bytes - p_bytes WHERE u.space_no = p_space AND p_bytes <> 0;
END $$;

-- Takes the values of a record out of the next p_rows places of its feed's log; how far that was. `actor`, `origin` and what a first-generation
-- change is known by, which was made of its content, go with them.
CREATE OR REPLACE FUNCTION syncd.sync_erase_log(p_ordinal bigint, p_space integer, p_app integer, p_after bigint, p_rows integer, p_upto bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
    e         syncd.sync_erasures;
    v_upto    bigint := least(p_after + p_rows, p_upto);
    v_counted bigint;
    v_n       bigint;
    v_bytes   bigint;
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    PERFORM FROM syncd.sync_compactions d WHERE d.space_no = p_space AND d.app_no = p_app FOR UPDATE;
    SELECT u.counted INTO v_counted FROM syncd.sync_feed_usage u WHERE u.space_no = p_space AND u.app_no = p_app FOR UPDATE;
    WITH found AS MATERIALIZED (
        SELECT c.ctid AS place, c.seq, syncd.sync_erased_fields(c.fields, NULL) AS fields, syncd.sync_erased_fields(c.lost, NULL) AS lost,
               CASE WHEN c.change_id < U&'\0020' THEN syncd.sync_move_id(c.event_id) ELSE c.change_id END AS change_id,
               syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id) AS size, c.fields AS was, c.lost AS was_lost,
               c.change_id AS was_id, c.actor, c.origin
        FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_upto AND c.record_id = e.record_id
          AND c.table_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.table_name)
    ), emptied AS (
        UPDATE syncd.sync_changes c SET fields = f.fields, lost = f.lost, actor = NULL, origin = NULL, change_id = f.change_id
        FROM found f
        WHERE c.ctid = f.place AND (f.fields::text IS DISTINCT FROM f.was::text OR f.lost::text IS DISTINCT FROM f.was_lost::text
              OR f.change_id IS DISTINCT FROM f.was_id OR f.actor IS NOT NULL OR f.origin IS NOT NULL)
        RETURNING f.seq, f.size - syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id) AS less
    )
    SELECT count(*), coalesce(sum(m.less) FILTER (WHERE m.seq <= v_counted), 0) INTO v_n, v_bytes FROM emptied m;
    PERFORM syncd.sync_erase_usage(p_space, p_app, v_bytes);
    PERFORM syncd.sync_erase_count(p_ordinal, 'changes', v_n);
    RETURN v_upto;
END $$;

-- Takes a record out of what is beside log and state: changes that are held, and messages that a webhook never took.
CREATE OR REPLACE FUNCTION syncd.sync_erase_beside(p_ordinal bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e   syncd.sync_erasures;
    v_n bigint;
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    DELETE FROM syncd.sync_held h WHERE h.space_id = e.space_id AND h.app = e.app AND h.table_name = e.table_name AND h.record_id = e.record_id
      AND (h.received_at <= e.asked_at OR syncd.sync_was_erased(h.space_id, h.app, h.table_name, h.record_id));  -- or it is of another space of the id
    GET DIAGNOSTICS v_n = ROW_COUNT;
    PERFORM syncd.sync_erase_count(p_ordinal, 'held', v_n);
    PERFORM syncd.sync_erase_count(p_ordinal, 'messages', syncd.sync_letters_clean());
END $$;

-- Refuses to do or to end the erasure of a user who still has a name. Raises SY010 (not_begun).
CREATE OR REPLACE FUNCTION syncd.sync_erase_begun(p_ordinal bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_erasures e WHERE e.ordinal = p_ordinal AND e.what = 'user' AND e.done_at IS NULL AND NOT EXISTS (
               SELECT FROM syncd.sync_names n WHERE n.name_no = e.user_no AND starts_with(n.name, '_erased:'))) THEN
        RAISE EXCEPTION 'not_begun' USING ERRCODE = 'SY010';
    END IF;
END $$;

-- What is a user's alone.
CREATE OR REPLACE FUNCTION syncd.sync_erase_own(p_user integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM syncd.sync_memberships m WHERE m.user_no = p_user;
    DELETE FROM syncd.sync_role_changes r WHERE r.user_no = p_user;
    DELETE FROM syncd.sync_role_heads h WHERE h.user_no = p_user;
    DELETE FROM syncd.sync_invitations i WHERE i.user_no = p_user;
    DELETE FROM syncd.sync_links l WHERE l.made_by = p_user;
    DELETE FROM syncd.sync_link_joins j WHERE j.user_no = p_user;
    DELETE FROM syncd.sync_removals r WHERE r.user_no = p_user;
    DELETE FROM syncd.sync_presence p WHERE p.user_no = p_user;
    DELETE FROM syncd.sync_adoptions a WHERE a.user_no = p_user;
    DELETE FROM syncd.sync_blocks b WHERE b.user_no = p_user;
    DELETE FROM syncd.sync_allowances a WHERE a.user_no = p_user;
    DELETE FROM syncd.sync_devices d WHERE d.user_no = p_user;
    DELETE FROM syncd.sync_cursors c WHERE c.user_no = p_user;
    DELETE FROM syncd.sync_quotas q WHERE q.user_no = p_user;
    DELETE FROM syncd.sync_user_usage u WHERE u.user_no = p_user;
    DELETE FROM syncd.sync_restores r WHERE r.user_no = p_user;
    UPDATE syncd.sync_service_tokens t SET revoked_at = clock_timestamp() WHERE t.user_no = p_user AND t.revoked_at IS NULL;
END $$;

-- What is held of a user's changes; of a number that is a device's too and somebody new's by now, what came before.
CREATE OR REPLACE FUNCTION syncd.sync_erase_held(p_ordinal bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_n bigint;
BEGIN
    DELETE FROM syncd.sync_held h USING syncd.sync_erasures e
    WHERE e.ordinal = p_ordinal AND (h.user_no = e.user_no OR h.user_no = e.former_no AND h.received_at < e.begun_at);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    PERFORM syncd.sync_erase_count(p_ordinal, 'held', v_n);
END $$;

-- What was under way when the erasure of a user began, and could not be seen yet.
CREATE OR REPLACE FUNCTION syncd.sync_erase_late(p_ordinal bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_erase_own(e.user_no::integer), syncd.sync_erase_held(p_ordinal) FROM syncd.sync_erasures e WHERE e.ordinal = p_ordinal;
    DELETE FROM syncd.sync_devices d USING syncd.sync_erasures e
    WHERE e.ordinal = p_ordinal AND d.user_no = e.former_no AND d.used_at < e.begun_at;
END $$;

-- Ends an erasure, once, and notes it: how it went, without what it was of. Raises SY010 (not_begun).
CREATE OR REPLACE FUNCTION syncd.sync_erase_end(p_ordinal bigint) RETURNS SETOF syncd.sync_erasures
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e syncd.sync_erasures;
BEGIN
    PERFORM syncd.sync_erase_begun(p_ordinal);
    IF EXISTS (SELECT FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal AND x.what = 'user' AND x.done_at IS NULL) THEN
        PERFORM syncd.sync_erase_count(p_ordinal, 'messages', syncd.sync_letters_clean());
        PERFORM syncd.sync_erase_late(p_ordinal);
    END IF;
    UPDATE syncd.sync_erasures x SET done_at = clock_timestamp(), user_no = NULL, former_no = NULL, clients = NULL
    WHERE x.ordinal = p_ordinal AND x.done_at IS NULL RETURNING x.* INTO e;
    IF FOUND THEN
        DELETE FROM syncd.sync_erasure_feeds f WHERE f.ordinal = p_ordinal;
        PERFORM syncd.sync_audit_note(concat(e.what, '_erased'), e.space_no, NULL,
                                      e.counts || jsonb_build_object('erasure', e.ordinal));
    END IF;
    UPDATE syncd.sync_erasure_key SET last_erasure = gen_random_uuid();  -- also where it had ended: a receipt is given again
    RETURN QUERY SELECT x.* FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
END $$;
