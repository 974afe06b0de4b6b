-- A backend's write of one change where all is plain, as most are: what write.sql does for any, with scalars instead of sets.
-- Called by write, as the owner.

-- An id that was not there before, and those that are made later sort behind it: a UUID of version 7.
CREATE OR REPLACE FUNCTION syncd.sync_uuid_now() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send((syncd.sync_micros(clock_timestamp()) / 1000)) FROM 3) FROM 1 FOR 6),
                              52, 1), 53, 1), 'hex')::uuid;

-- What stands for a name in a hint between servers (syncd/bus/hints.py). Stable, as convert_to is: else no statement takes it in as a part of itself.
CREATE OR REPLACE FUNCTION syncd.sync_hint_key(p_name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN rtrim(translate(encode(substr(sha256(convert_to(p_name, 'UTF8')), 1, 8), 'base64'), '+/', '-_'), '=');

-- The registers of a change, as the log and as the state have them, of its fields and, for an insert and a deletion, of `deletedAt`.
-- wrong: a field has a name or a value that cannot be.
CREATE OR REPLACE FUNCTION syncd.sync_write_registers(p_change jsonb, p_op integer, p_at text, p_client text,
                                           OUT fields jsonb, OUT registers jsonb, OUT wrong boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT jsonb_object_agg(f.key, jsonb_build_object('value', f.value, 'at', p_at)),
           jsonb_object_agg(f.key, jsonb_build_object('value', f.value, 'at', p_at, 'clientId', p_client)),
           bool_or(f.key = 'deletedAt' OR syncd.sync_fault_in_id(f.key) IS NOT NULL OR syncd.sync_fault_in_value(f.value) IS NOT NULL)
    INTO fields, registers, wrong FROM jsonb_each(p_change -> 'fields') f;
    IF p_op <> 2 THEN
        fields := coalesce(fields, '{}') || jsonb_build_object('deletedAt', jsonb_build_object('value', CASE p_op WHEN 3 THEN p_at END, 'at', p_at));
        registers := coalesce(registers, '{}') || jsonb_build_object('deletedAt', jsonb_build_object('value', CASE p_op WHEN 3 THEN p_at END, 'at', p_at, 'clientId', p_client));
    END IF;
END $$;

-- Whether a change has the members that most have, and those as they should be. What it is without is sync_write_fault's to say.
CREATE OR REPLACE FUNCTION syncd.sync_write_plain(p_change jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_typeof(p_change) = 'object' AND p_change - ARRAY['table', 'id', 'fields', 'spaceId', 'changeId', 'op'] = '{}'
    AND jsonb_typeof(p_change -> 'table') = 'string' AND jsonb_typeof(p_change -> 'id') = 'string' AND jsonb_typeof(p_change -> 'fields') = 'object'
    AND p_change -> 'fields' <> '{}' AND coalesce(jsonb_typeof(p_change -> 'spaceId'), 'string') = 'string'
    AND coalesce(jsonb_typeof(p_change -> 'changeId'), 'string') = 'string' AND coalesce(p_change ->> 'op', 'insert') IN ('insert', 'update', 'delete')
    AND syncd.sync_fault_in_id(p_change ->> 'table') IS NULL AND syncd.sync_fault_in_id(p_change ->> 'id') IS NULL
    AND syncd.sync_fault_in_id(coalesce(p_change ->> 'changeId', '-')) IS NULL AND pg_column_size(p_change) <= 32768;

-- Writes a change, and returns its result; null where not all is plain, with nothing written: names, feed and membership are known, the
-- record lives or is not there yet, its id was not used. The stamp is of after the feed's lock.
CREATE OR REPLACE FUNCTION syncd.sync_write_single(p_app text, p_user text, p_client text, p_space text, p_change jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_id    text := p_change ->> 'id';
    v_event uuid := syncd.sync_uuid_now();
    v_name  text := coalesce(p_change ->> 'changeId', v_event::text);
    v_op    integer := array_position(ARRAY['insert', 'update', 'delete'], p_change ->> 'op');
    v_us    bigint;
    v_at    text;
    k       record;
    h       record;
    w       record;
BEGIN
    k := syncd.sync_enter(p_user, p_client, p_app, p_change ->> 'table', p_space);
    IF k.base IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id INTO h FROM syncd.sync_records q
    WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id >= v_id
    ORDER BY q.record_id LIMIT 1;  -- one probe of the primary key, as in sync_apply
    IF h.record_id IS DISTINCT FROM v_id THEN
        h.registers := NULL; h.seq := NULL; h.latest := NULL; h.deleted := NULL;
    END IF;
    v_op := coalesce(v_op, CASE WHEN h.seq IS NULL THEN 1 ELSE 2 END);
    v_us := greatest(syncd.sync_micros(clock_timestamp()), h.latest + 1);
    v_at := to_char((timestamptz 'epoch' + v_us * interval '1 microsecond') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    w := syncd.sync_write_registers(p_change, v_op, v_at, p_client);
    w.registers := coalesce(h.registers || w.registers, w.registers);
    -- An update of a record that is not there may be of one that was deleted and is forgotten (sync_guard).
    IF w.wrong OR h.deleted OR v_op = 2 AND h.seq IS NULL OR pg_column_size(w.registers) > 1048576 THEN
        PERFORM syncd.sync_advance(k.space_no, k.app_no, -1);
        RETURN NULL;
    END IF;
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no, op, record_id, change_id, fields)
    SELECT k.base + 1, k.base + 1, h.seq, k.written_at, v_event, k.space_no, k.app_no, k.table_no, k.user_no, k.client_no, v_op, v_id, v_name, w.fields
    WHERE NOT EXISTS (SELECT FROM syncd.sync_restores d WHERE d.user_no = k.user_no AND d.client_no = k.client_no AND d.change_id = v_name)
    ON CONFLICT (user_no, client_no, change_id) WHERE change_id IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN  -- written before
        PERFORM syncd.sync_advance(k.space_no, k.app_no, -1);
        RETURN NULL;
    END IF;
    IF h.seq IS NULL THEN
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id, registers)
        VALUES (k.base + 1, v_us, v_event, k.space_no, k.app_no, k.table_no, k.client_no, v_op = 3, v_id, w.registers);
    ELSE
        UPDATE syncd.sync_records q SET seq = k.base + 1, latest = v_us, event_id = v_event, client_no = k.client_no, schema_version = NULL, deleted = v_op = 3, registers = w.registers
        WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id = v_id AND q.seq = h.seq;
    END IF;
    RETURN jsonb_build_object('status', 'applied', 'changeId', v_name, 'seq', k.base + 1, 'eventId', v_event, 'spaceId', p_space, 'at', v_at);
END $$;
