-- Writing from the application's own backend: in its transaction, by a role of its own, as the users that it names. What is written goes
-- the way of a push, so that row security decides each change, the feed's lock makes the order, and a rollback leaves nothing.
-- Called by syncd_writer: write and read, which are SECURITY DEFINER. The others are called by those, as the owner.

-- Holds the acting user's memberships in spaces (in the order of their ids) and locks the feeds of those where the user may write, in that
-- order, as pushes do; a feed that is not there is made. Returns as sync_push_may.
CREATE OR REPLACE FUNCTION syncd.sync_write_lock(p_user integer, p_app text, p_spaces text[], OUT spaces integer[], OUT whys text[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_may record := syncd.sync_push_may(p_user, p_spaces);
    v_app integer;
BEGIN
    spaces := v_may.spaces; whys := v_may.whys;
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        CONTINUE WHEN whys[k] <> 'a';
        v_app := coalesce(v_app, syncd.sync_name(p_app));
        PERFORM FROM syncd.sync_feeds h WHERE h.space_no = spaces[k] AND h.app_no = v_app FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            PERFORM syncd.sync_take(spaces[k], v_app, 0);
        END IF;
    END LOOP;
END $$;

-- Makes the names that a call needs and that are not there, where the acting user may write: before its feeds are locked, as a push does.
CREATE OR REPLACE FUNCTION syncd.sync_write_names(p_user integer, p_call jsonb, p_changes jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_own    text[] := ARRAY[p_call ->> 'client', p_call ->> 'app'];
    v_there  text[] := ARRAY(SELECT jsonb_array_elements_text(p_call -> 'spaces'));
    v_tables text[] := ARRAY(SELECT DISTINCT c ->> 'table' FROM jsonb_array_elements(p_changes) c WHERE jsonb_typeof(c -> 'table') = 'string');
    v_whys   text[];
BEGIN
    IF array_position(syncd.sync_names_known(v_own || v_tables), NULL) IS NULL THEN
        RETURN;
    END IF;
    v_whys := (syncd.sync_push_may(p_user, v_there)).whys;
    v_tables := ARRAY(
        SELECT DISTINCT c.c ->> 'table' FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS c (c, k)
        WHERE NOT p_call -> 'out' ? c.k::text AND v_whys[array_position(v_there, coalesce(c.c ->> 'spaceId', p_call ->> 'own'))] = 'a');
    IF v_tables <> '{}' THEN
        PERFORM syncd.sync_names_first(v_own || v_tables);
    END IF;
END $$;

-- A change that is refused, as a result.
CREATE OR REPLACE FUNCTION syncd.sync_write_refusal(p_change jsonb, p_code text, p_field text, p_detail text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_strip_nulls(jsonb_build_object('status', 'rejected', 'code', p_code, 'field', p_field, 'detail', p_detail, 'changeId', p_change -> 'changeId'));

-- The results of changes that need not be pushed, by place: those of spaces where the user may not write, those whose id was used
-- before, by this client and user, and those whose id is there twice.
CREATE OR REPLACE FUNCTION syncd.sync_write_known(p_call jsonb, p_changes jsonb, p_whys text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_client integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'client');
    v_ids    text[] := ARRAY(SELECT c ->> 'changeId' FROM jsonb_array_elements(p_changes) c WHERE c ? 'changeId');
    v_there  text[] := ARRAY(SELECT jsonb_array_elements_text(p_call -> 'spaces'));
BEGIN
    RETURN (
        SELECT coalesce(jsonb_object_agg(z.k, z.result) FILTER (WHERE z.result IS NOT NULL), '{}') FROM (
            SELECT y.k, CASE
                -- was it done comes before may it be done
                WHEN d.change_id IS NOT NULL THEN CASE
                    WHEN d.space_no = (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = v_there[y.s])
                         AND d.app_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app')
                         AND d.table_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = y.c ->> 'table')
                         AND d.record_id = y.c ->> 'id' AND d.op = coalesce(array_position(ARRAY['insert', 'update', 'delete'], y.c ->> 'op'), d.op)
                         AND (SELECT coalesce(jsonb_object_agg(f.key, f.value -> 'value'), '{}') FROM jsonb_each(d.fields) f
                              WHERE NOT f.value ? 'clientId' AND f.key <> 'deletedAt') = coalesce(y.c -> 'fields', '{}')
                    THEN jsonb_build_object('status', 'duplicate', 'changeId', d.change_id, 'seq', d.seq, 'eventId', d.event_id, 'spaceId', v_there[y.s])
                    ELSE syncd.sync_write_refusal(y.c, 'change_id_reused', 'changeId', 'another change has this id') END
                WHEN y.again > 1 AND y.c = y.first THEN jsonb_build_object('status', 'duplicate', 'changeId', y.c -> 'changeId', 'spaceId', v_there[y.s])
                WHEN y.again > 1 THEN syncd.sync_write_refusal(y.c, 'change_id_reused', 'changeId', 'another change of this call has this id')
                WHEN p_whys[y.s] = 'n' THEN syncd.sync_write_refusal(y.c, 'space_not_found', 'spaceId', 'the user is no member of such a space')
                WHEN p_whys[y.s] = 'r' THEN syncd.sync_write_refusal(y.c, 'not_a_writer', 'spaceId', 'the user may read there, not write') END AS result
            FROM (SELECT c.k, c.c, array_position(v_there, coalesce(c.c ->> 'spaceId', p_call ->> 'own')) AS s,
                         CASE WHEN c.c ? 'changeId' THEN row_number() OVER same END AS again, first_value(c.c) OVER same AS first
                  FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS c (c, k)
                  WHERE NOT p_call -> 'out' ? c.k::text
                  WINDOW same AS (PARTITION BY c.c ->> 'changeId' ORDER BY c.k)) y
            LEFT JOIN syncd.sync_receipts(v_client, v_ids) d ON d.change_id = y.c ->> 'changeId') z);
END $$;

-- The changes of a call that are to be pushed, as a push takes them: each with one stamp, which is the clock's or, where that is not enough,
-- above all that the record has. Without an "op" it is an insert where there is no such record. The feeds are locked.
CREATE OR REPLACE FUNCTION syncd.sync_write_bodies(p_call jsonb, p_changes jsonb, p_spaces integer[], OUT head jsonb, OUT bodies json[], OUT places integer[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now   bigint := syncd.sync_micros(clock_timestamp());
    v_app   integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app');
    v_there text[] := ARRAY(SELECT jsonb_array_elements_text(p_call -> 'spaces'));
BEGIN
    WITH said AS MATERIALIZED (
        SELECT c.k::integer AS k, c.c, c.c ->> 'table' AS t, c.c ->> 'id' AS r, coalesce(c.c ->> 'spaceId', p_call ->> 'own') AS s
        FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS c (c, k) WHERE NOT p_call -> 'out' ? c.k::text
    ), met AS MATERIALIZED (
        SELECT y.*, row_number() OVER (ORDER BY y.k) AS i, row_number() OVER same AS nth, syncd.sync_uuid_now() AS e,
               greatest(v_now, h.latest + 1) + row_number() OVER same - 1 AS us, coalesce(array_position(ARRAY['insert', 'update', 'delete'], y.c ->> 'op'),
               CASE WHEN h.latest IS NULL AND row_number() OVER same = 1 THEN 1 ELSE 2 END) AS o
        FROM said y LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (
                SELECT q.latest, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = p_spaces[array_position(v_there, y.s)] AND q.app_no = v_app
                  AND q.table_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = y.t) AND q.record_id >= y.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = y.r) h ON true
        WINDOW same AS (PARTITION BY y.s, y.t, y.r ORDER BY y.k)
    ), names AS (
        SELECT array_agg(DISTINCT m.s COLLATE "C") AS spaces, array_agg(DISTINCT m.t COLLATE "C") AS tables FROM met m
    ), written AS MATERIALIZED (
        SELECT m.*, (SELECT jsonb_object_agg(f.key, jsonb_build_object('value', f.value, 'at', w.at)) FROM (
                SELECT * FROM jsonb_each(coalesce(m.c -> 'fields', '{}'))
                UNION ALL SELECT 'deletedAt', CASE m.o WHEN 3 THEN to_jsonb(w.at) ELSE 'null' END WHERE m.o <> 2) f) AS f
        FROM met m CROSS JOIN LATERAL (SELECT syncd.sync_instant(timestamptz 'epoch' + m.us * interval '1 microsecond') AS at) w
    ), waves AS (
        SELECT w.nth, json_agg(json_build_object('i', w.i, 's', array_position(n.spaces, w.s), 't', array_position(n.tables, w.t), 'r', w.r,
                   'o', w.o, 'c', coalesce(w.c ->> 'changeId', w.e::text), 'e', w.e, 'f', w.f, 'g', (
                       SELECT jsonb_object_agg(f.key, f.value || jsonb_build_object('clientId', p_call -> 'client')) FROM jsonb_each(w.f) f),
                   'lo', w.us, 'hi', w.us, 'v', w.c -> 'schemaVersion', 'a', syncd.sync_actor_said(w.c -> 'actor')::text, 'n', w.c ->> 'origin') ORDER BY w.i) AS body
        FROM written w CROSS JOIN names n GROUP BY w.nth
    )
    SELECT jsonb_build_object('user', p_call -> 'user', 'client', p_call -> 'client', 'app', p_call -> 'app', 'n', count(*), 'spaces', max(n.spaces),
               'tables', max(n.tables), 'sp', jsonb_agg(array_position(n.spaces, w.s) ORDER BY w.i),
               'ids', jsonb_agg(coalesce(w.c ->> 'changeId', w.e::text) ORDER BY w.i), 'events', jsonb_agg(w.e ORDER BY w.i), 'hi', max(w.us),
               'skew', 100000000000000000, 'largest', 16777216, 'touched', 33554432, 'at', jsonb_agg(w.us ORDER BY w.i)),
           (SELECT array_agg(v.body ORDER BY v.nth) FROM waves v), array_agg(w.k ORDER BY w.i)
    INTO head, bodies, places
    FROM written w CROSS JOIN names n;
END $$;

-- The codes of changes that a push was refused for, by their places in it: what it raised, and with what detail. Null: that is no
-- fault of single changes.
CREATE OR REPLACE FUNCTION syncd.sync_write_codes(p_state text, p_detail text, p_head jsonb, p_bodies json[], OUT code text, OUT places integer[])
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    code := CASE p_state WHEN 'SY001' THEN 'record_too_large' WHEN 'SY008' THEN 'push_too_large' WHEN 'SY004' THEN 'record_forgotten'
                         WHEN 'SY003' THEN 'not_a_writer' END;
    places := CASE p_state
        WHEN 'SY004' THEN syncd.sync_unremembered_in(p_head, p_bodies)
        WHEN 'SY003' THEN ARRAY(SELECT m.i FROM string_to_table(p_detail, NULL) WITH ORDINALITY AS m (mark, i) WHERE m.mark IN ('n', 'r'))
        ELSE ARRAY(SELECT jsonb_array_elements_text(p_detail::jsonb)::integer) END;
END $$;

-- The results of changes that the user's role may not write (p_said: as SY012 says it), by place.
CREATE OR REPLACE FUNCTION syncd.sync_write_unwritable(p_said jsonb, p_places integer[], p_changes jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(p_places[(e ->> 0)::integer], syncd.sync_write_refusal(
                   p_changes -> (p_places[(e ->> 0)::integer] - 1), 'rule_refused', coalesce('fields/' || (e ->> 1), 'table'), e ->> 2))
        FROM jsonb_array_elements(p_said) e);

-- The results of changes that were pushed, by place, beside those that are known (p_out).
CREATE OR REPLACE FUNCTION syncd.sync_write_results(p_out jsonb, p_head jsonb, p_places integer[], p_receipt syncd.sync_receipt) RETURNS jsonb
LANGUAGE sql STABLE
RETURN p_out || (
    SELECT jsonb_object_agg(p.k, CASE m.mark
        WHEN 'u' THEN jsonb_build_object('status', 'rejected', 'code', 'change_id_reused', 'field', 'changeId', 'detail', 'another change has this id',
                                         'changeId', p_head -> 'ids' -> p.o)
        ELSE jsonb_build_object('status', CASE m.mark WHEN 'd' THEN 'duplicate' WHEN 's' THEN 'superseded' ELSE 'applied' END, 'changeId', p_head -> 'ids' -> p.o,
            'seq', p_receipt.seqs[p.i], 'eventId', coalesce(p_receipt.detail -> 'events' -> p.i::text, p_head -> 'events' -> p.o),
            'spaceId', p_head -> 'spaces' -> ((p_head -> 'sp' ->> p.o)::integer - 1),
            'at', syncd.sync_instant(timestamptz 'epoch' + (p_head -> 'at' ->> p.o)::bigint * interval '1 microsecond')) END)
    FROM (SELECT u.k, u.i, u.i::integer - 1 AS o FROM unnest(p_places) WITH ORDINALITY AS u (k, i)) p
    CROSS JOIN LATERAL (SELECT substr(p_receipt.marks, p.i::integer, 1) AS mark) m);

-- Acts as the user and writes, as one push, the changes that can be written; what one is refused for is left out, and the others are tried
-- again. p_call: {"user", "app", "client", "own", "spaces", "out": results that are known, by place}. Returns all results by place.
-- All is done in the block that the refusals of single changes undo: a row that is locked outside of it and written within has two lockers.
CREATE OR REPLACE FUNCTION syncd.sync_write_push(p_call jsonb, p_changes jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_spaces  text[] := ARRAY(SELECT jsonb_array_elements_text(p_call -> 'spaces'));
    v_call    jsonb := p_call;
    v_follows jsonb := '{}';
    v_user    integer;
    v_may     record;
    b         record;
    v         syncd.sync_receipt;
    v_state   text;
    v_detail  text;
BEGIN
    LOOP
        BEGIN
            v_user := syncd.sync_act_as(p_call ->> 'user', p_call ->> 'own' = ANY (v_spaces));
            IF p_call ->> 'own' = ANY (v_spaces) THEN
                PERFORM syncd.sync_personal_space();
            END IF;
            PERFORM syncd.sync_write_names(v_user, v_call, p_changes);
            v_may := syncd.sync_write_lock(v_user, p_call ->> 'app', v_spaces);
            v_call := v_call || jsonb_build_object('out', syncd.sync_write_known(v_call, p_changes, v_may.whys) || (v_call -> 'out'));
            b := syncd.sync_write_bodies(v_call, p_changes, v_may.spaces);
            IF b.places IS NULL THEN
                RETURN v_call -> 'out';
            ELSIF v_follows <> '{}' THEN
                v := (SELECT p FROM syncd.sync_push_following(jsonb_build_array(b.head || v_follows), ARRAY[cardinality(b.bodies)], b.bodies) p);
            ELSE
                v := (SELECT p FROM syncd.sync_push(jsonb_build_array(b.head), ARRAY[cardinality(b.bodies)], b.bodies) p);
            END IF;
            RETURN syncd.sync_write_results(v_call -> 'out', b.head, b.places, v);
        EXCEPTION
            WHEN SQLSTATE 'SY001' OR SQLSTATE 'SY003' OR SQLSTATE 'SY004' OR SQLSTATE 'SY008' THEN
                GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_detail = PG_EXCEPTION_DETAIL;
                SELECT v_call || jsonb_build_object('out', (v_call -> 'out') || jsonb_object_agg(
                           b.places[u.i], syncd.sync_write_refusal(p_changes -> (b.places[u.i] - 1), c.code, 'id', NULL)))
                INTO v_call FROM syncd.sync_write_codes(v_state, v_detail, b.head, b.bodies) c CROSS JOIN LATERAL unnest(c.places) AS u (i);
            WHEN SQLSTATE 'SY012' THEN
                GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
                v_call := v_call || jsonb_build_object('out', (v_call -> 'out') || syncd.sync_write_unwritable(v_detail::jsonb, b.places, p_changes));
            WHEN SQLSTATE 'SY007' THEN
                v_follows := '{"follows": true}';
        END;
    END LOOP;
END $$;

-- Raises invalid_parameter_value for what is no call at all.
CREATE OR REPLACE FUNCTION syncd.sync_write_check(p_app text, p_user text, p_changes jsonb, p_client text, p_on_refused text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_wrong text := coalesce('user ' || syncd.sync_fault_in_user(p_user), 'app ' || syncd.sync_fault_in_id(p_app), 'client ' || syncd.sync_fault_in_client(p_client),
        CASE WHEN p_on_refused IS NULL OR p_on_refused NOT IN ('raise', 'return') THEN 'on_refused must be raise or return'
             WHEN jsonb_typeof(p_changes) IS DISTINCT FROM 'array' THEN 'changes must be an array'
             WHEN jsonb_array_length(p_changes) NOT BETWEEN 1 AND 1000 THEN 'changes must be 1 to 1,000' END);
BEGIN
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION '%', v_wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- A call as sync_write_push takes it, with the refusals of what is no change.
CREATE OR REPLACE FUNCTION syncd.sync_write_call(p_app text, p_user text, p_changes jsonb, p_client text) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_own text := concat('_personal:', p_user);
BEGIN
    RETURN (
        SELECT jsonb_build_object('user', p_user, 'app', p_app, 'client', syncd.sync_server_for(p_client), 'own', v_own,
            'spaces', coalesce(jsonb_agg(DISTINCT coalesce(c.c ->> 'spaceId', v_own) COLLATE "C") FILTER (WHERE f.detail IS NULL), '[]'),
            'out', coalesce(jsonb_object_agg(c.k, syncd.sync_write_refusal(CASE jsonb_typeof(c.c) WHEN 'object' THEN c.c END, f.code, f.field, f.detail))
                            FILTER (WHERE f.detail IS NOT NULL), '{}'))
        FROM jsonb_array_elements(p_changes) WITH ORDINALITY AS c (c, k) CROSS JOIN LATERAL syncd.sync_write_fault(c.c, v_own) f);
END $$;

-- Raises SY040 for changes that are refused, where there are some: with the first one's code as the message, and all results as the detail.
CREATE OR REPLACE FUNCTION syncd.sync_write_refused(p_results jsonb) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    d record;
BEGIN
    SELECT e.key, e.value INTO d FROM jsonb_each(p_results) e WHERE e.value ->> 'status' = 'rejected' ORDER BY e.key::integer LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%', concat_ws(' ', d.value ->> 'code', concat('(change ', d.key, coalesce(concat(', ', d.value ->> 'field'), ''), ')'), d.value ->> 'detail')
            USING ERRCODE = 'SY040', DETAIL = p_results::text, HINT = 'Nothing of this call was written. To go on with the other changes, give on_refused => ''return''.';
    END IF;
END $$;

-- Writes what can be written of a call, and returns the results in order. Raises SY040, unless p_on_refused is 'return'.
CREATE OR REPLACE FUNCTION syncd.sync_write_all(p_call jsonb, p_changes jsonb, p_on_refused text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_results jsonb := p_call -> 'out';
BEGIN
    IF p_on_refused = 'raise' THEN
        PERFORM syncd.sync_write_refused(v_results);
    END IF;
    IF p_call -> 'spaces' <> '[]' THEN
        v_results := syncd.sync_write_push(p_call, p_changes);
    END IF;
    IF p_on_refused = 'raise' THEN
        PERFORM syncd.sync_write_refused(v_results);
    END IF;
    RETURN (SELECT jsonb_agg(v_results -> k::text ORDER BY k) FROM generate_series(1, jsonb_array_length(p_changes)) k);
END $$;

-- Tells the servers, at commit, how far the feeds are that were written to (syncd/bus/hints.py).
CREATE OR REPLACE FUNCTION syncd.sync_write_hint(p_app text, p_results jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_app  text := syncd.sync_hint_key(p_app);
    v_one  jsonb := p_results -> 0;
    v_said text;
BEGIN
    IF jsonb_array_length(p_results) = 1 THEN
        IF v_one ->> 'status' = 'applied' THEN
            v_said := pg_notify('syncd_hints', concat('f', syncd.sync_hint_key(v_one ->> 'spaceId'), v_app, v_one ->> 'seq'));
        END IF;
        RETURN;
    END IF;
    PERFORM pg_notify('syncd_hints', concat('f', syncd.sync_hint_key(w.space), v_app, w.seq))
    FROM (SELECT e ->> 'spaceId' AS space, max((e ->> 'seq')::bigint) AS seq FROM jsonb_array_elements(p_results) e
          WHERE e ->> 'status' IN ('applied', 'superseded') GROUP BY 1) w;
END $$;

-- Writes changes as a user, in the caller's transaction. p_changes: an array of {"table", "id", "op"?: "insert" | "update" | "delete",
-- "fields"?: {name: value}, "spaceId"?: else the user's personal space, "changeId"?, "schemaVersion"?, "actor"?, "origin"?}. p_client: which
-- part of the backend writes; its change ids are its own. Returns their results in order: {"status": "applied" | "duplicate" | "rejected",
-- "changeId", "seq", "eventId", "spaceId", "at", "code", "field", "detail"}. Raises SY040 (sync_write_refused) unless p_on_refused is
-- 'return', 22023 for what is no call, 55P03 where a feed is not to be had within the lock_timeout, or five seconds where there is none.
CREATE OR REPLACE FUNCTION syncd.write(p_app text, p_user text, p_changes jsonb, p_client text DEFAULT 'backend', p_on_refused text DEFAULT 'raise') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_acting  text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_timeout text := current_setting('lock_timeout');
    v_said    text;
    v_result  jsonb;
    v_results jsonb;
BEGIN
    -- Assigned, as what is performed is a statement, which costs as much again.
    v_said := syncd.sync_write_check(p_app, p_user, p_changes, p_client, p_on_refused);
    IF v_timeout = '0' THEN
        v_said := set_config('lock_timeout', '5s', true);
    END IF;
    -- What listeners were told must not be lost with the machine.
    IF current_setting('synchronous_commit') = 'off' THEN
        v_said := set_config('synchronous_commit', 'on', true);
    END IF;
    v_said := set_config(syncd.sync_acting_in(), ',owner', true);
    IF jsonb_array_length(p_changes) = 1 AND syncd.sync_write_plain(p_changes -> 0) THEN
        v_result := syncd.sync_write_single(p_app, p_user, syncd.sync_server_for(p_client),
            coalesce(p_changes -> 0 ->> 'spaceId', concat('_personal:', p_user)), p_changes -> 0);
    END IF;
    IF v_result IS NULL THEN
        v_results := syncd.sync_write_all(syncd.sync_write_call(p_app, p_user, p_changes, p_client), p_changes, p_on_refused);
    ELSE
        v_results := jsonb_build_array(v_result);
    END IF;
    v_said := set_config(syncd.sync_acting_in(), v_acting, true);
    v_said := set_config('lock_timeout', v_timeout, true);
    v_said := syncd.sync_write_hint(p_app, v_results);
    RETURN v_results;
END $$;

-- Reads as a user: a record, where p_what has "id", or a page of a space. p_what: {"spaceId"?: else the personal space, "table", "id", or
-- "table"?: no other, "after"?: {"table", "id"}, "limit"?: 1 to 1,000; "seq" or "at"?: a moment, else now}. Returns {"records": [a record as the history has
-- it], "seq", "complete", "after"?}. Raises SY041 with the code as the message: space_not_found, history_gone, seq_ahead.
CREATE OR REPLACE FUNCTION syncd.read(p_app text, p_user text, p_what jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_acting text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_wrong  text := coalesce('user ' || syncd.sync_fault_in_user(p_user), 'app ' || syncd.sync_fault_in_id(p_app),
        CASE WHEN jsonb_typeof(p_what) IS DISTINCT FROM 'object' THEN 'what must be an object'
             WHEN p_what ? 'id' AND NOT p_what ? 'table' THEN 'a record has a table' END);
    v_call   jsonb;
    v        syncd.sync_past_page;
    v_said   text;
    v_code   text;
BEGIN
    IF v_wrong IS NOT NULL THEN
        RAISE EXCEPTION '%', v_wrong USING ERRCODE = 'invalid_parameter_value';
    END IF;
    v_call := jsonb_strip_nulls(jsonb_build_object('user', p_user, 'app', p_app, 'space', coalesce(p_what ->> 'spaceId', concat('_personal:', p_user)),
        'what', CASE WHEN p_what ? 'id' THEN 'record' ELSE 'space' END, 'only', CASE WHEN NOT p_what ? 'id' THEN p_what ->> 'table' END,
        'table', CASE WHEN p_what ? 'id' THEN p_what ->> 'table' ELSE p_what -> 'after' ->> 'table' END, 'id', coalesce(p_what ->> 'id', p_what -> 'after' ->> 'id'), 'seq', (p_what ->> 'seq')::bigint,
        'at', syncd.sync_micros((p_what ->> 'at')::timestamptz),
        'limit', least(greatest(coalesce((p_what ->> 'limit')::integer, 1000), 1), 1000), 'bytes', 33554432));
    PERFORM set_config(syncd.sync_acting_in(), ',owner', true);
    BEGIN
        v := syncd.sync_past(v_call);
    EXCEPTION WHEN SQLSTATE 'SY010' THEN
        GET STACKED DIAGNOSTICS v_code = MESSAGE_TEXT, v_said = PG_EXCEPTION_DETAIL;
        IF v_code <> 'record_not_found' THEN  -- which is no reason to end the caller's transaction
            RAISE EXCEPTION '%', v_code USING ERRCODE = 'SY041', DETAIL = v_said;
        END IF;
        v.complete := true;
    END;
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
    RETURN jsonb_strip_nulls(jsonb_build_object('seq', v.seq, 'complete', v.complete,
               'after', CASE WHEN v.more THEN jsonb_build_object('table', v.last_table, 'id', v.last_id) END))
        || jsonb_build_object('records', concat('[', v.body, ']')::jsonb);
END $$;
