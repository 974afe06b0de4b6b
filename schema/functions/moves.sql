-- One life per record, for devices of the first generation, which know a record by its table and id alone: what one wrote
-- in its user's personal space and writes under the id of another space moves there, whole; and what a device that has not
-- heard of it still writes in the personal space goes where the record went.
-- Called by the role that serves: sync_push_moving, for pushes of that kind, and sync_push_following, for a push of a
-- device of ours to a record that moved.

-- The changes of a push whose record is elsewhere, as the acting user. away: the space that it moved to, of a change to
-- the personal space; null: it is in the personal space still, if only as a tombstone, and the change goes to the space space_no. p_written: the
-- push was written already; before that, a change that is a retry moves nothing. A retry of what was written in the personal
-- space before the record moved stays there, where it is known.
CREATE OR REPLACE FUNCTION syncd.sync_moves(p_head jsonb, p_bodies json[], p_app integer, p_personal integer, p_written boolean)
RETURNS TABLE (i integer, space_no integer, table_no integer, record_id text, away text)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT x.i, s.space_no, t.name_no, x.r, CASE WHEN s.space_no = p_personal THEN q.moved END
    FROM unnest(p_bodies) AS b (body)
    CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, t integer, r text, c text)
    JOIN syncd.sync_names t ON t.name = p_head -> 'tables' ->> (x.t - 1)
    JOIN syncd.sync_spaces s ON s.space_id = p_head -> 'spaces' ->> (x.s - 1)
    JOIN syncd.sync_memberships m ON m.user_no = syncd.sync_user() AND m.space_no = s.space_no AND m.role <> 'reader'
    CROSS JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
        SELECT r.record_id, CASE WHEN r.deleted THEN r.registers -> 'deletedAt' ->> 'movedTo' END AS moved, r.seq,
               r.deleted AND syncd.sync_is_erased(r.registers) AS erased FROM syncd.sync_records r
        WHERE r.space_no = p_personal AND r.app_no = p_app AND r.table_no = t.name_no AND r.record_id >= x.r
        ORDER BY r.record_id LIMIT 1) q
    WHERE q.record_id = x.r AND NOT q.erased AND CASE
        WHEN s.space_no = p_personal THEN q.moved IS NOT NULL AND (x.c IS NULL OR NOT EXISTS (
            SELECT FROM syncd.sync_names d, syncd.sync_receipts(d.name_no, ARRAY[x.c]) k
            WHERE d.name = p_head ->> 'client' AND k.space_no = p_personal AND k.seq < q.seq))
        ELSE q.moved IS NULL AND (p_written OR x.c IS NULL OR NOT EXISTS (
            SELECT FROM syncd.sync_names d, syncd.sync_used_ids(d.name_no, ARRAY[x.c]) WHERE d.name = p_head ->> 'client')) END;
END $$;

-- Takes seqs of a feed for a move; written_at is when its changes are said to have come: now, or in an import, which sets
-- syncd.import_at, then, but not before what the feed has. An import asks nobody for a membership, and only an operator
-- may call sync_take.
CREATE OR REPLACE FUNCTION syncd.sync_move_places(p_space integer, p_app integer, p_count integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_import text := coalesce(current_setting('syncd.import_at', true), '');
BEGIN
    IF v_import = '' THEN
        SELECT a.base, a.written_at INTO base, written_at FROM syncd.sync_advance(p_space, p_app, p_count) a;
        RETURN;
    END IF;
    SELECT a.base, least(a.written_at, v_import::timestamptz) INTO base, written_at FROM syncd.sync_take(p_space, p_app, p_count) a;
    written_at := greatest(written_at, (SELECT c.created_at FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app ORDER BY c.seq DESC LIMIT 1));
END $$;

-- The registers of a record, each with the `origin` and the `actor` of the change that it was won from, and of those of a revert without what makes them
-- one: what it took back does not go along. Both are null where the record's chain is longer than the steps that are left (sync_steps_left): 2 kB of
-- changes and actors count as one, and 16 kB of what is left of a record that is written in one more part.
CREATE OR REPLACE FUNCTION syncd.sync_writers(p_record syncd.sync_records) RETURNS TABLE (key text, value jsonb, origin text, actor text)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_sought jsonb := p_record.registers || '{}';
    v_left   integer := syncd.sync_steps_left();
    v_at     bigint := p_record.seq;
    v_found  text[];
    c        record;
BEGIN
    WHILE v_at > 0 AND v_sought <> '{}' AND v_left > 0 LOOP
        SELECT h.prev_seq, d.name, h.origin, coalesce(h.lost::jsonb, '{}') || syncd.sync_written(h.fields)::jsonb AS written,
               CASE WHEN syncd.sync_reverts(h.actor::jsonb, h.client_no) IS NULL THEN h.actor::text
                    ELSE nullif((h.actor::jsonb - ARRAY['reverted', 'after'])::text, '{}') END AS actor
        INTO c FROM syncd.sync_changes h JOIN syncd.sync_names d ON d.name_no = h.client_no
        WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq = v_at;
        EXIT WHEN NOT FOUND;
        v_found := ARRAY(SELECT w.key FROM jsonb_each(c.written) w
                         WHERE v_sought -> w.key ->> 'at' = w.value ->> 'at' AND v_sought -> w.key ->> 'clientId' = c.name);
        RETURN QUERY SELECT f, v_sought -> f, c.origin, c.actor FROM unnest(v_found) f;
        v_sought := v_sought - v_found;
        v_left := v_left - 1 - (pg_column_size(c.written) + coalesce(octet_length(c.actor), 0)) / 2048 - CASE WHEN v_found <> '{}' THEN pg_column_size(v_sought) / 16384 ELSE 0 END;
        v_at := abs(c.prev_seq);
    END LOOP;
    PERFORM set_config('syncd.steps', v_left::text, true);
    RETURN QUERY SELECT w.key, w.value, NULL::text, NULL::text FROM jsonb_each(v_sought) w;
END $$;

-- What a move writes of a record: [{"registers", "device": number, "origin", "actor": text, "made": whether it made or deleted the record}], a
-- change for each device, origin and actor, that which made or deleted the record first.
CREATE OR REPLACE FUNCTION syncd.sync_move_parts(p_from syncd.sync_records) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object('registers', p.registers, 'device', syncd.sync_name(p.device), 'origin', p.origin, 'actor', p.actor, 'made', p.made)
                                  ORDER BY p.made DESC, p.device COLLATE "C", p.origin COLLATE "C" NULLS FIRST, p.actor COLLATE "C" NULLS FIRST), '[]')
        FROM (SELECT w.value ->> 'clientId' AS device, w.origin, w.actor, jsonb_object_agg(w.key, w.value) AS registers, bool_or(w.key = 'deletedAt') AS made
              FROM syncd.sync_writers(p_from) w GROUP BY 1, 2, 3) p);
END $$;

-- Writes the registers of a record into a space as changes of the devices that wrote them (sync_move_parts); where the record is there already, they
-- merge. Whether that was done: not where it would be larger than p_largest, nor where it may be one whose tombstone that space has forgotten. The feed is locked.
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
    v_dead  boolean;
    v_parts jsonb;
    d       record;
    m       record;
BEGIN
    SELECT * INTO v_there FROM syncd.sync_records q
    WHERE q.space_no = p_space AND q.app_no = p_from.app_no AND q.table_no = p_from.table_no AND q.record_id = p_from.record_id;
    v_whole := coalesce(v_there.registers, '{}');
    v_dead := coalesce(v_there.deleted, false);
    IF pg_column_size(v_whole) + pg_column_size(p_from.registers) > p_largest OR v_there.seq IS NULL AND EXISTS (
            SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_from.app_no AND h.forgotten_us > 0
            AND syncd.sync_unremembered(h.forgotten_us, CASE WHEN p_from.registers ? 'deletedAt' THEN 1 ELSE 2 END, p_from.registers::json)) THEN
        RETURN false;
    END IF;
    v_parts := syncd.sync_move_parts(p_from);
    SELECT a.base, a.written_at INTO v_base, v_at FROM syncd.sync_move_places(p_space, p_from.app_no, jsonb_array_length(v_parts)) a;
    FOR d IN SELECT (e.part ->> 'device')::integer AS client_no, e.part -> 'registers' AS registers, (e.part ->> 'made')::boolean AS made,
                    e.part ->> 'origin' AS origin, e.part ->> 'actor' AS actor, gen_random_uuid() AS event_id, v_base + e.n AS seq
             FROM jsonb_array_elements(v_parts) WITH ORDINALITY AS e (part, n) ORDER BY e.n LOOP
        m := syncd.sync_merge(v_whole, d.registers);
        v_whole := m.merged;
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                        schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT d.seq, v_base + jsonb_array_length(v_parts), coalesce(v_last, v_there.seq), v_at, d.event_id, p_space, p_from.app_no, p_from.table_no,
               syncd.sync_user(), d.client_no, p_from.schema_version, CASE WHEN NOT d.made THEN 2 WHEN syncd.sync_is_deleted(d.registers) THEN 3 WHEN v_there.seq IS NULL THEN 1 ELSE 2 END,
               p_from.record_id, syncd.sync_move_id(d.event_id), d.origin, d.actor::json,
               CASE WHEN v_dead THEN syncd.sync_whole(v_whole, m.won::json) ELSE m.won::json END, m.lost::json;
        v_dead := v_dead OR syncd.sync_is_deleted(v_whole);
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

-- Marks a record of the acting user's personal space as moved, also one that never was there. Both feeds are locked. The deletion says where it went, is
-- later than all that the record has, and is the server's: a device could write at that instant too.
CREATE OR REPLACE FUNCTION syncd.sync_move_away(p_client text, p_from syncd.sync_records, p_space integer) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_name   text := syncd.sync_server_for(p_client);
    v_client integer := syncd.sync_name(v_name);
    v_event  uuid := gen_random_uuid();
    v_seq    bigint;
    v_at     timestamptz;
    v_us     bigint;
    v_text   text;
    v_gone   jsonb;
BEGIN
    SELECT a.base + 1, a.written_at INTO v_seq, v_at FROM syncd.sync_move_places(p_from.space_no, p_from.app_no, 1) a;
    v_us := greatest(syncd.sync_micros(v_at), p_from.latest + 1);
    v_text := syncd.sync_instant(timestamptz 'epoch' + v_us * interval '1 microsecond');
    v_gone := jsonb_build_object('value', v_text, 'at', v_text, 'movedTo', (SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = p_space));
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                    schema_version, op, record_id, change_id, fields)
    SELECT v_seq, v_seq, p_from.seq, v_at, v_event, p_from.space_no, p_from.app_no, p_from.table_no, syncd.sync_user(), v_client,
           p_from.schema_version, 3, p_from.record_id, syncd.sync_move_id(v_event),
           CASE WHEN p_from.deleted THEN syncd.sync_whole(p_from.registers, g.fields) ELSE g.fields END
    FROM (SELECT json_build_object('deletedAt', v_gone) AS fields) g;
    INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
    VALUES (v_seq, v_us, v_event, p_from.space_no, p_from.app_no, p_from.table_no, v_client, p_from.schema_version, true, p_from.record_id,
            jsonb_build_object('deletedAt', v_gone || jsonb_build_object('clientId', v_name)))
    ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
    SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
        deleted = true, registers = q.registers || EXCLUDED.registers;
END $$;

-- Makes the names of a push and its moves, holds the acting user's memberships and locks the feeds, in the order of the spaces' ids,
-- as every push does it. p_head: as in sync_push_one.
CREATE OR REPLACE FUNCTION syncd.sync_move_begin(p_head jsonb, p_app integer, p_spaces text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM syncd.sync_names_first(ARRAY[p_head ->> 'client', syncd.sync_server_for(p_head ->> 'client')]
                                   || ARRAY(SELECT jsonb_array_elements_text(p_head -> 'tables')));
    PERFORM syncd.sync_move_lock(p_app, p_spaces);
END $$;

-- Holds the acting user's memberships and locks the feeds.
CREATE OR REPLACE FUNCTION syncd.sync_move_lock(p_app integer, p_spaces text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    f record;
BEGIN
    FOR f IN SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = ANY (p_spaces) ORDER BY s.space_id LOOP
        PERFORM FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.space_no = f.space_no AND m.role <> 'reader' FOR SHARE;
        IF FOUND THEN
            PERFORM syncd.sync_advance(f.space_no, p_app, 0);
        END IF;
    END LOOP;
END $$;

-- Moves what a push calls for; the personal feed's head where something moved. p_head is as in sync_push_one, with "moves":
-- false, where nothing is to be moved yet. Raises SY007: {"away": {place: space}, "here": whether records are to be moved},
-- when changes have to go to other spaces, or the push has to come again to move records. p_now: it did, or was written.
-- Raises SY008: the places of changes whose records are too large to be moved by one push; SY012: whose records may not be written where they go.
CREATE OR REPLACE FUNCTION syncd.sync_move(p_head jsonb, p_bodies json[], p_now boolean, p_written boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_user     integer := syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'));
    v_id       text := concat('_personal:', p_head ->> 'user');
    v_app      integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_head ->> 'app');
    v_personal integer := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = v_id);
    v_away     jsonb;
    v_here     boolean;
    v_left     bigint := coalesce((p_head ->> 'touched')::bigint, 33554432);
    v_beyond   integer[] := '{}';
    v_denied   jsonb := '[]';
    f          record;
BEGIN
    IF v_app IS NULL OR v_personal IS NULL THEN
        RETURN NULL;
    END IF;
    IF p_now AND NOT p_written THEN  -- what was written was written under these locks
        PERFORM syncd.sync_move_begin(p_head, v_app, ARRAY(SELECT jsonb_array_elements_text(p_head -> 'spaces')) || v_id);
    END IF;
    SELECT jsonb_object_agg(x.i, x.away) FILTER (WHERE x.away IS NOT NULL), bool_or(x.away IS NULL) INTO v_away, v_here
    FROM syncd.sync_moves(p_head, p_bodies, v_app, v_personal, p_written) x;
    IF v_away IS NOT NULL OR v_here AND NOT p_now THEN
        RAISE EXCEPTION 'moves' USING ERRCODE = 'SY007', DETAIL = jsonb_build_object('away', coalesce(v_away, '{}'), 'here', v_here)::text;
    END IF;
    IF v_here IS NULL THEN
        RETURN NULL;  -- mostly: what follows looks again
    END IF;
    FOR f IN SELECT DISTINCT ON (x.table_no, x.record_id) x.space_no, q AS held, array_agg(x.i) OVER (PARTITION BY x.table_no, x.record_id) AS places FROM syncd.sync_moves(p_head, p_bodies, v_app, v_personal, p_written) x
             JOIN syncd.sync_records q ON q.space_no = v_personal AND q.app_no = v_app AND q.table_no = x.table_no AND q.record_id = x.record_id
             WHERE p_now ORDER BY x.table_no, x.record_id, x.i LOOP
        v_left := v_left - octet_length((f.held).registers::text);
        v_denied := v_denied || syncd.sync_unwritable_move(f.space_no, f.held, f.places);
        IF v_left < 0 THEN
            v_beyond := v_beyond || f.places;
        ELSIF v_denied = '[]' AND syncd.sync_move_into(f.space_no, f.held, (p_head ->> 'largest')::integer) THEN
            PERFORM syncd.sync_move_away(p_head ->> 'client', f.held, f.space_no);
        END IF;
    END LOOP;
    PERFORM syncd.sync_refuse_unwritable(v_denied);
    IF v_beyond <> '{}' THEN
        RAISE EXCEPTION 'touched' USING ERRCODE = 'SY008', DETAIL = array_to_json(v_beyond)::text;
    END IF;
    RETURN CASE WHEN v_here THEN (SELECT h.head FROM syncd.sync_feeds h WHERE h.space_no = v_personal AND h.app_no = v_app) END;
END $$;

-- sync_push for devices of the first generation: with "moves" in a head, records move first. Only a push that comes alone
-- may have true there. The receipt's detail then has "moved": {the personal space: the head of its feed}.
CREATE OR REPLACE FUNCTION syncd.sync_push_moving(p_heads jsonb, p_waves integer[], p_bodies json[], p_patience text DEFAULT NULL)
RETURNS SETOF syncd.sync_receipt
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
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
                PERFORM syncd.sync_make_spaces(coalesce(v_head ->> 'context', v_head ->> 'user'), v_head -> 'held' -> 'own', v_head -> 'held' -> 'bounds');
            END IF;
            IF v_head ? 'list' THEN
                PERFORM syncd.sync_act_as(coalesce(v_head ->> 'context', v_head ->> 'user'), true);
                PERFORM syncd.sync_adopt(v_head -> 'list', to_timestamp((v_head ->> 'asOf')::bigint / 1000000.0));
            END IF;
            v_moved := syncd.sync_move(v_head, p_bodies[v_from : v_from + p_waves[k] - 1], (v_head -> 'moves')::boolean, false);
        END IF;
        v_from := v_from + p_waves[k];
    END LOOP;
    FOR v IN SELECT * FROM syncd.sync_push(p_heads, p_waves, p_bodies, p_patience) LOOP
        IF v_moved IS NOT NULL THEN
            v.detail := coalesce(v.detail, '{}') || jsonb_build_object('moved', jsonb_build_object(
                concat('_personal:', v_head ->> 'user'), v_moved));
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

-- Writes a change of the acting user's device, with these registers, to a record that moved into a space, too. p_from: the
-- record in the personal space, where the change has p_seq; if it lives there now, or was deleted there, it moves again.
-- Whether that was done: as sync_move_into.
CREATE OR REPLACE FUNCTION syncd.sync_follow(p_head jsonb, p_space integer, p_from syncd.sync_records, p_registers jsonb, p_hi bigint,
                                  p_seq bigint, p_version integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_change syncd.sync_records := p_from;
BEGIN
    v_change.registers := p_registers;
    v_change.latest := p_hi;
    v_change.seq := p_seq;
    v_change.schema_version := p_version;
    IF NOT syncd.sync_move_into(p_space, v_change, (p_head ->> 'largest')::integer) THEN
        RETURN false;
    END IF;
    IF p_from.registers -> 'deletedAt' ->> 'movedTo' IS NULL THEN
        PERFORM syncd.sync_move_away(p_head ->> 'client', p_from, p_space);
    END IF;
    RETURN true;
END $$;

-- Which changes of a push the acting user may not write where their records went, of p_away ({place: space}): a letter each,
-- as in a receipt.
CREATE OR REPLACE FUNCTION syncd.sync_follow_marks(p_away jsonb, p_bodies json[]) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT string_agg(CASE WHEN x.o = 1 OR NOT p_away ? x.i::text THEN 'a' ELSE coalesce((
            SELECT CASE m.role WHEN 'reader' THEN 'r' ELSE 'a' END
            FROM syncd.sync_spaces s JOIN syncd.sync_memberships m ON m.space_no = s.space_no
            WHERE s.space_id = p_away ->> x.i::text AND m.user_no = syncd.sync_user()), 'n') END, '' ORDER BY x.i)
        FROM unnest(p_bodies) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, o integer));
END $$;

-- sync_push for one push of a device of ours, which comes alone, with changes to records that left the personal space (SY007):
-- what it writes there it writes where they went, too, and it does not bring them back. Where its user may not write there,
-- an insert makes a record in the personal space; other changes are refused. The receipt's detail has "moved": {space: the
-- head of its feed}. Raises SY003, SY007 and what sync_push raises.
CREATE OR REPLACE FUNCTION syncd.sync_push_following(p_heads jsonb, p_waves integer[], p_bodies json[], p_patience text DEFAULT NULL)
RETURNS SETOF syncd.sync_receipt
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_head     jsonb := p_heads -> 0;
    v_user     integer := syncd.sync_act_as(coalesce(v_head ->> 'context', v_head ->> 'user'), v_head ? 'list');
    v_id       text := concat('_personal:', v_head ->> 'user');
    v_app      integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = v_head ->> 'app');
    v_personal integer := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = v_id);
    v_spaces   text[];
    v_away     jsonb;
    v_marks    text;
    v          syncd.sync_receipt;
    v_from     syncd.sync_records;
    x          record;
BEGIN
    IF p_patience IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_patience, true);
    END IF;
    IF v_head ? 'list' THEN
        PERFORM syncd.sync_adopt(v_head -> 'list', to_timestamp((v_head ->> 'asOf')::bigint / 1000000.0));
    END IF;
    v_spaces := ARRAY(SELECT m.away FROM syncd.sync_moves(v_head, p_bodies, v_app, v_personal, true) m WHERE m.away IS NOT NULL)
        || ARRAY(SELECT jsonb_array_elements_text(v_head -> 'spaces')) || v_id;
    PERFORM syncd.sync_move_begin(v_head, v_app, v_spaces);
    SELECT coalesce(jsonb_object_agg(m.i, m.away), '{}') INTO v_away
    FROM syncd.sync_moves(v_head, p_bodies, v_app, v_personal, true) m WHERE m.away IS NOT NULL;
    IF EXISTS (SELECT FROM jsonb_each_text(v_away) a WHERE a.value <> ALL (v_spaces)) THEN
        RAISE EXCEPTION 'moves' USING ERRCODE = 'SY007', DETAIL = '{"follow": true}';  -- it went on meanwhile
    END IF;
    v_marks := syncd.sync_follow_marks(v_away, p_bodies);
    IF v_marks ~ '[nr]' THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = 'SY003', DETAIL = v_marks;
    END IF;
    PERFORM syncd.sync_check_follow(v_away, v_app, v_head -> 'tables', p_bodies);
    SELECT p.* INTO v FROM syncd.sync_push(p_heads, p_waves, p_bodies, p_patience) p;
    FOR x IN SELECT s.space_no, s.space_id, y.*, t.name_no
             FROM unnest(p_bodies) AS b (body)
             CROSS JOIN LATERAL json_to_recordset(b.body) AS y (i integer, t integer, r text, g jsonb, hi bigint, v integer)
             JOIN syncd.sync_names t ON t.name = v_head -> 'tables' ->> (y.t - 1)
             JOIN syncd.sync_spaces s ON s.space_id = v_away ->> y.i::text
             JOIN syncd.sync_memberships m ON m.user_no = v_user AND m.space_no = s.space_no AND m.role <> 'reader'
             WHERE substr(v.marks, y.i, 1) IN ('a', 's') ORDER BY y.i LOOP
        SELECT q.* INTO v_from FROM syncd.sync_records q
        WHERE q.space_no = v_personal AND q.app_no = v_app AND q.table_no = x.name_no AND q.record_id = x.r;
        IF syncd.sync_follow(v_head, x.space_no, v_from, x.g, x.hi, v.seqs[x.i], x.v) THEN
            v.detail := coalesce(v.detail, '{}') || jsonb_build_object('moved', coalesce(v.detail -> 'moved', '{}') || (
                SELECT jsonb_object_agg(s.space_id, h.head) FROM syncd.sync_feeds h JOIN syncd.sync_spaces s ON s.space_no = h.space_no
                WHERE h.app_no = v_app AND h.space_no IN (v_personal, x.space_no)));
        END IF;
    END LOOP;
    RETURN NEXT v;
END $$;
