-- One life per record, for devices of the first generation, which know a record by its table and id alone: what one wrote
-- in its user's personal space and writes under the id of another space moves there, whole; and what a device that has not
-- heard of it still writes in the personal space goes where the record went.
-- Called by the role that serves: sync_push_moving, for pushes of that kind.

-- The changes of a push whose record lives elsewhere, as the acting user. away: the space that it moved to, of a change to
-- the personal space; null: it is in the personal space still, and the change goes to the space space_no. p_written: the
-- push was written already; before that, a change that is a retry moves nothing. A retry of what was written in the personal
-- space before the record moved stays there, where it is known.
CREATE OR REPLACE FUNCTION syncd.sync_moves(p_head jsonb, p_bodies json[], p_app integer, p_personal integer, p_written boolean)
RETURNS TABLE (i integer, space_no integer, table_no integer, record_id text, away text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT x.i, s.space_no, t.name_no, x.r, CASE WHEN s.space_no = p_personal THEN q.registers -> 'deletedAt' ->> 'movedTo' END
    FROM unnest(p_bodies) AS b (body)
    CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, t integer, r text, c text)
    JOIN syncd.sync_names t ON t.name = p_head -> 'tables' ->> (x.t - 1)
    JOIN syncd.sync_spaces s ON s.space_id = p_head -> 'spaces' ->> (x.s - 1)
    JOIN syncd.sync_memberships m ON m.user_no = syncd.sync_user() AND m.space_no = s.space_no AND m.role <> 'reader'
    CROSS JOIN LATERAL (  -- one probe of the primary key, as in sync_wave
        SELECT r.record_id, r.deleted, r.registers, r.seq FROM syncd.sync_records r
        WHERE r.space_no = p_personal AND r.app_no = p_app AND r.table_no = t.name_no AND r.record_id >= x.r
        ORDER BY r.record_id LIMIT 1) q
    WHERE q.record_id = x.r AND CASE
        WHEN s.space_no = p_personal THEN q.deleted AND q.registers -> 'deletedAt' ? 'movedTo' AND (x.c IS NULL OR NOT EXISTS (
            SELECT FROM syncd.sync_names d, syncd.sync_receipts(d.name_no, ARRAY[x.c]) k
            WHERE d.name = p_head ->> 'client' AND k.space_no = p_personal AND k.seq < q.seq))
        ELSE NOT q.deleted AND (p_written OR x.c IS NULL OR NOT EXISTS (
            SELECT FROM syncd.sync_names d, syncd.sync_receipts(d.name_no, ARRAY[x.c]) WHERE d.name = p_head ->> 'client')) END;
END $$;

-- Writes the registers of a record into a space as changes of the devices that wrote them, the one that made it first;
-- where the record is there already, they merge. Whether that was done: not where it would be larger than p_largest, nor
-- where it may be one whose tombstone that space has forgotten. The feed is locked.
CREATE OR REPLACE FUNCTION syncd.sync_move_into(p_space integer, p_from syncd.sync_records, p_largest integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_there syncd.sync_records;
    v_whole jsonb;
    v_base  bigint;
    v_at    timestamptz;
    v_event uuid;
    v_last  bigint;
    v_by    integer;
    d       record;
    m       record;
BEGIN
    SELECT * INTO v_there FROM syncd.sync_records q
    WHERE q.space_no = p_space AND q.app_no = p_from.app_no AND q.table_no = p_from.table_no AND q.record_id = p_from.record_id;
    v_whole := coalesce(v_there.registers, '{}');
    IF pg_column_size(v_whole) + pg_column_size(p_from.registers) > p_largest OR v_there.seq IS NULL AND EXISTS (
            SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_from.app_no AND h.forgotten_us > 0
            AND syncd.sync_unremembered(h.forgotten_us, CASE WHEN p_from.registers ? 'deletedAt' THEN 1 ELSE 2 END, p_from.registers::json)) THEN
        RETURN false;
    END IF;
    SELECT a.base, a.written_at INTO v_base, v_at FROM syncd.sync_advance(p_space, p_from.app_no, (
        SELECT count(DISTINCT e.value ->> 'clientId') FROM jsonb_each(p_from.registers) e)::integer) a;
    FOR d IN SELECT syncd.sync_name(e.value ->> 'clientId') AS client_no, jsonb_object_agg(e.key, e.value) AS registers,
                    bool_or(e.key = 'deletedAt') AS made, gen_random_uuid() AS event_id, v_base + row_number() OVER w AS seq,
                    v_base + count(*) OVER () AS push_end
             FROM jsonb_each(p_from.registers) e GROUP BY e.value ->> 'clientId'
             WINDOW w AS (ORDER BY bool_or(e.key = 'deletedAt') DESC, (e.value ->> 'clientId') COLLATE "C") ORDER BY 5 LOOP
        m := syncd.sync_merge(v_whole, d.registers);
        v_whole := m.merged;
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                        schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT d.seq, d.push_end, coalesce(v_last, v_there.seq), v_at, d.event_id, p_space, p_from.app_no, p_from.table_no,
               syncd.sync_user(), d.client_no, p_from.schema_version, CASE WHEN d.made AND v_there.seq IS NULL THEN 1 ELSE 2 END,
               p_from.record_id, syncd.sync_move_id(d.event_id), c.origin, c.actor,
               CASE WHEN v_there.deleted THEN syncd.sync_whole(v_whole, m.won::json) ELSE m.won::json END, m.lost::json
        FROM (SELECT p_from.seq) r LEFT JOIN syncd.sync_changes c
            ON c.space_no = p_from.space_no AND c.app_no = p_from.app_no AND c.seq = p_from.seq;
        v_last := d.seq;
        v_event := d.event_id;
        v_by := d.client_no;
    END LOOP;
    INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
    VALUES (v_last, greatest(v_there.latest, p_from.latest), v_event, p_space, p_from.app_no, p_from.table_no, v_by,
            p_from.schema_version, syncd.sync_is_deleted(v_whole), p_from.record_id, v_whole)
    ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
    SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
        schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers;
    RETURN true;
END $$;

-- The change id of a change that no device sent: an export takes it along, and an import knows the change by it.
CREATE OR REPLACE FUNCTION syncd.sync_move_id(p_event uuid) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN U&'\0001' || translate(encode(substr(sha256(convert_to(p_event::text, 'UTF8')), 1, 24), 'base64'), '+/', '-_');

-- Moves a living record out of the acting user's personal space. Both feeds are locked. The deletion says where it went,
-- and is later than all that the record has.
CREATE OR REPLACE FUNCTION syncd.sync_move_record(p_client integer, p_from syncd.sync_records, p_space integer, p_largest integer)
RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_event uuid := gen_random_uuid();
    v_seq   bigint;
    v_at    timestamptz;
    v_us    bigint;
    v_text  text;
    v_gone  jsonb;
BEGIN
    IF NOT syncd.sync_move_into(p_space, p_from, p_largest) THEN
        RETURN;
    END IF;
    SELECT a.base + 1, a.written_at INTO v_seq, v_at FROM syncd.sync_advance(p_from.space_no, p_from.app_no, 1) a;
    v_us := greatest(syncd.sync_micros(v_at), p_from.latest + 1);
    v_text := syncd.sync_instant(timestamptz 'epoch' + v_us * interval '1 microsecond');
    v_gone := jsonb_build_object('value', v_text, 'at', v_text, 'movedTo', (SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = p_space));
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                    schema_version, op, record_id, change_id, fields)
    VALUES (v_seq, v_seq, p_from.seq, v_at, v_event, p_from.space_no, p_from.app_no, p_from.table_no, syncd.sync_user(), p_client,
            p_from.schema_version, 3, p_from.record_id, syncd.sync_move_id(v_event), json_build_object('deletedAt', v_gone));
    UPDATE syncd.sync_records q
    SET seq = v_seq, latest = v_us, event_id = v_event, client_no = p_client, deleted = true,
        registers = q.registers || jsonb_build_object('deletedAt', v_gone || jsonb_build_object('clientId',
            (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = p_client)))
    WHERE q.space_no = p_from.space_no AND q.app_no = p_from.app_no AND q.table_no = p_from.table_no AND q.record_id = p_from.record_id;
END $$;

-- Moves what a push calls for; the personal feed's head where something moved. p_head is as in sync_push_one, with "moves":
-- false, where nothing is to be moved yet. Raises SY007: {"away": {place: space}, "here": whether records are to be moved},
-- when changes have to go to other spaces, or the push has to come again to move records. p_now: it did, or was written.
CREATE OR REPLACE FUNCTION syncd.sync_move(p_head jsonb, p_bodies json[], p_now boolean, p_written boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_user     integer := syncd.sync_act_as(p_head ->> 'user', true);
    v_id       text := concat('_personal:', p_head ->> 'user');
    v_app      integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_head ->> 'app');
    v_personal integer := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = v_id);
    v_away     jsonb;
    v_here     boolean;
    f          record;
BEGIN
    IF v_app IS NULL OR v_personal IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_now THEN  -- as every push does it: the memberships are held and the feeds locked in the order of the spaces' ids
        FOR f IN SELECT s.space_no, s.space_id FROM syncd.sync_spaces s
                 WHERE s.space_id IN (SELECT jsonb_array_elements_text(p_head -> 'spaces') UNION SELECT v_id) ORDER BY s.space_id LOOP
            PERFORM FROM syncd.sync_memberships m WHERE m.user_no = v_user AND m.space_no = f.space_no AND m.role <> 'reader' FOR SHARE;
            IF FOUND THEN
                PERFORM syncd.sync_advance(f.space_no, v_app, 0);
            END IF;
        END LOOP;
    END IF;
    SELECT jsonb_object_agg(x.i, x.away) FILTER (WHERE x.away IS NOT NULL), bool_or(x.away IS NULL) INTO v_away, v_here
    FROM syncd.sync_moves(p_head, p_bodies, v_app, v_personal, p_written) x;
    IF v_away IS NOT NULL OR v_here AND NOT p_now THEN
        RAISE EXCEPTION 'moves' USING ERRCODE = 'SY007', DETAIL = jsonb_build_object('away', coalesce(v_away, '{}'), 'here', v_here)::text;
    END IF;
    FOR f IN SELECT DISTINCT ON (x.table_no, x.record_id) x.space_no, q AS held FROM syncd.sync_moves(p_head, p_bodies, v_app, v_personal, p_written) x
             JOIN syncd.sync_records q ON q.space_no = v_personal AND q.app_no = v_app AND q.table_no = x.table_no AND q.record_id = x.record_id
             WHERE p_now ORDER BY x.table_no, x.record_id, x.i LOOP
        PERFORM syncd.sync_move_record(syncd.sync_name(p_head ->> 'client'), f.held, f.space_no, (p_head ->> 'largest')::integer);
    END LOOP;
    RETURN CASE WHEN v_here THEN (SELECT h.head FROM syncd.sync_feeds h WHERE h.space_no = v_personal AND h.app_no = v_app) END;
END $$;

-- sync_push for devices of the first generation: with "moves" in a head, records move first. Only a push that comes alone
-- may have true there. The receipt's detail then has "moved", the head of the personal feed.
CREATE OR REPLACE FUNCTION syncd.sync_push_moving(p_heads jsonb, p_waves integer[], p_bodies json[], p_patience text DEFAULT NULL)
RETURNS SETOF syncd.sync_receipt
LANGUAGE plpgsql VOLATILE
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_from  integer := 1;
    v_head  jsonb;
    v_moved bigint;
    v       syncd.sync_receipt;
BEGIN
    IF p_patience IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_patience, true);
    END IF;
    FOR k IN 1 .. cardinality(p_waves) LOOP
        v_head := p_heads -> (k - 1);
        IF v_head ? 'moves' THEN
            IF v_head -> 'held' ? 'own' THEN
                PERFORM syncd.sync_make_spaces(v_head ->> 'user', v_head -> 'held' -> 'own');
            END IF;
            IF v_head ? 'list' THEN
                PERFORM syncd.sync_act_as(v_head ->> 'user', true);
                PERFORM syncd.sync_adopt(v_head -> 'list', to_timestamp((v_head ->> 'asOf')::bigint / 1000000.0));
            END IF;
            v_moved := syncd.sync_move(v_head, p_bodies[v_from : v_from + p_waves[k] - 1], (v_head -> 'moves')::boolean, false);
        END IF;
        v_from := v_from + p_waves[k];
    END LOOP;
    FOR v IN SELECT * FROM syncd.sync_push(p_heads, p_waves, p_bodies, p_patience) LOOP
        IF v_moved IS NOT NULL THEN
            v.detail := coalesce(v.detail, '{}') || jsonb_build_object('moved', v_moved);
        END IF;
        RETURN NEXT v;
    END LOOP;
    v_from := 1;
    FOR k IN 1 .. cardinality(p_waves) LOOP  -- one may have moved since the first look, or be in both spaces by this push alone
        v_head := p_heads -> (k - 1);
        IF v_head ? 'moves' AND v_head ? 'personal' THEN
            PERFORM syncd.sync_move(v_head, p_bodies[v_from : v_from + p_waves[k] - 1], true, true);
        END IF;
        v_from := v_from + p_waves[k];
    END LOOP;
END $$;
