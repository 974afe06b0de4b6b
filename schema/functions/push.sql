-- Writing: one call is one push, or several small ones that share a flush. Under the feed's lock it
-- checks membership and idempotency, takes consecutive seqs, merges register by register, appends.
-- Called by the role that serves: sync_push. Those that are SECURITY DEFINER take seqs of a feed for a writer, and find
-- what the acting user's device wrote before, also where it may no longer read.

-- Takes p_count seqs of a feed for the acting user, who must be a writer in its space, and holds the feed until the end
-- of the transaction; a negative count gives back what was taken and not written. base: the head before; written_at: never falls.
CREATE OR REPLACE FUNCTION syncd.sync_advance(p_space integer, p_app integer, p_count integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_memberships m
                   WHERE m.user_no = syncd.sync_user() AND m.space_no = p_space AND m.role <> 'reader') THEN
        RAISE EXCEPTION 'not a writer' USING ERRCODE = 'insufficient_privilege';
    ELSIF p_count < 0 AND NOT EXISTS (
        SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.head + p_count >= greatest(h.horizon, (
            SELECT c.seq FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app ORDER BY c.seq DESC LIMIT 1))) THEN
        RAISE EXCEPTION 'these are written' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT t.base, t.written_at INTO base, written_at FROM syncd.sync_take(p_space, p_app, p_count) t;
END $$;

-- Takes p_count seqs of a feed, for whom nobody asks, and notes where the head stood when its first writer after a start
-- came. Of 64 starts with writes; then the oldest two become one, with the later start and the lower head, so that who is
-- older than that is rather told to start again than that all is well.
CREATE OR REPLACE FUNCTION syncd.sync_take(p_space integer, p_app integer, p_count bigint, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_start timestamptz := syncd.sync_start();
BEGIN
    INSERT INTO syncd.sync_feeds AS h (space_no, app_no, head, written_at, boots, bases)
    VALUES (p_space, p_app, p_count, clock_timestamp(), ARRAY[v_start], ARRAY[0])
    ON CONFLICT (space_no, app_no) DO UPDATE SET
        head = h.head + p_count, written_at = greatest(clock_timestamp(), h.written_at),
        boots = CASE WHEN h.boots[cardinality(h.boots)] = v_start THEN h.boots
                     WHEN cardinality(h.boots) < 64 THEN h.boots || v_start
                     ELSE h.boots[2:] || v_start END,
        bases = CASE WHEN h.boots[cardinality(h.boots)] = v_start THEN h.bases
                     WHEN cardinality(h.boots) < 64 THEN h.bases || h.head
                     ELSE h.bases[1] || h.bases[3:] || h.head END
    RETURNING h.head - p_count, h.written_at INTO base, written_at;
END $$;

-- The start of a push of one plain change, in one call: acts as the user, finds the numbers of names, holds the
-- membership and, where the user is a writer and the feed was written since the current start, takes a seq.
-- A part that is not there is null; base is null when no seq was taken.
CREATE OR REPLACE FUNCTION syncd.sync_enter(p_user text, p_client text, p_app text, p_table text, p_space text,
                                 OUT user_no integer, OUT client_no integer, OUT app_no integer, OUT table_no integer,
                                 OUT space_no integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_user   text := CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END;
    v_pads   bytea;
    v_rest   text;
    v_role   text;
BEGIN
    SELECT max(n.name_no) FILTER (WHERE n.name = v_user),
           max(n.name_no) FILTER (WHERE n.name = p_client),
           max(n.name_no) FILTER (WHERE n.name = p_app),
           max(n.name_no) FILTER (WHERE n.name = p_table),
           (SELECT k.pads FROM syncd.sync_context_key k)
    INTO user_no, client_no, app_no, table_no, v_pads
    FROM syncd.sync_names n WHERE n.name = ANY (ARRAY[v_user, p_client, p_app, p_table]) AND NOT n.leaving;
    v_rest := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('u', p_user, v_pads)
                   ELSE syncd.sync_unproven(user_no) END;
    v_rest := set_config(syncd.sync_acting_in(), coalesce(user_no, 0) || v_rest, true);
    SELECT m.space_no, m.role INTO space_no, v_role
    FROM syncd.sync_memberships m
    WHERE m.user_no = sync_enter.user_no AND m.space_no = (
        SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space)
    FOR SHARE OF m;
    IF v_role <> 'reader' AND client_no IS NOT NULL AND table_no IS NOT NULL THEN
        UPDATE syncd.sync_feeds h
        SET head = h.head + 1, written_at = greatest(clock_timestamp(), h.written_at)
        WHERE h.space_no = sync_enter.space_no AND h.app_no = sync_enter.app_no
          AND h.boots[cardinality(h.boots)] = (
              -- sync_start, which would register one
              SELECT CASE WHEN s.postmaster = pg_postmaster_start_time() AND s.made_by = s.xmin
                               AND s.folder = rtrim(pg_relation_filepath(s.tableoid), '0123456789')
                          THEN s.started_at END
              FROM syncd.sync_starts s ORDER BY s.started_at DESC LIMIT 1)
        RETURNING h.head - 1, h.written_at INTO base, written_at;
    END IF;
END $$;

-- What the acting user's device already had written, by change id, wherever it was. A restore that it asked for is there
-- too, without content: no change is the same.
CREATE OR REPLACE FUNCTION syncd.sync_receipts(p_client_no integer, p_change_ids text[])
RETURNS TABLE (change_id text, space_no integer, app_no integer, table_no integer, record_id text,
               seq bigint, event_id uuid, op smallint, fields jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.change_id, c.space_no, c.app_no, c.table_no, c.record_id, c.seq, c.event_id, c.op,
           coalesce(c.fields::jsonb, '{}') || coalesce(c.lost::jsonb, '{}')
    -- one probe an id, whatever the planner believes of the table: = ANY can become a filter
    FROM unnest(p_change_ids) AS i (change_id) CROSS JOIN LATERAL (
        SELECT * FROM syncd.sync_changes h
        WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id
        OFFSET 0) c
    UNION ALL
    SELECT r.change_id, r.space_no, r.app_no, r.table_no, r.record_id, r.first_seq, NULL::uuid, NULL::smallint, NULL::jsonb
    FROM unnest(p_change_ids) AS i (change_id) CROSS JOIN LATERAL (
        SELECT * FROM syncd.sync_restores h
        WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id
        OFFSET 0) r;
END $$;

-- Which of a device's changes are in the log already, wherever.
CREATE OR REPLACE FUNCTION syncd.sync_pushed_before(p_user text, p_client text, p_ids text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_act_as(p_user);
    RETURN ARRAY(SELECT d.change_id FROM syncd.sync_names n CROSS JOIN LATERAL syncd.sync_receipts(n.name_no, p_ids) d WHERE n.name = p_client);
END $$;

-- The numbers of spaces, in the order of their ids, also of those that the acting user is no member of: for comparing what
-- the user's device repeats with what it wrote there.
CREATE OR REPLACE FUNCTION syncd.sync_spaces_named(p_ids text[]) RETURNS integer[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(s.space_no ORDER BY n.place)
    FROM unnest(p_ids) WITH ORDINALITY AS n (id, place) LEFT JOIN syncd.sync_spaces s ON s.space_id = n.id
$$;

-- Merges incoming registers into held ones. The greater stamp wins; at an equal stamp (the same
-- device wrote twice at one instant) the incoming one, whose seq is greater. Both sides carry
-- canonical `at` texts of one width, so (at, clientId) compares as one string of bytes.
CREATE OR REPLACE FUNCTION syncd.sync_merge(p_held jsonb, p_new jsonb, OUT merged jsonb, OUT won jsonb, OUT lost jsonb, OUT conflicts jsonb)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    SELECT p_held || coalesce(jsonb_object_agg(r.key, r.new) FILTER (WHERE r.wins), '{}'),
           jsonb_object_agg(r.key, r.new - 'clientId') FILTER (WHERE r.wins),
           jsonb_object_agg(r.key, r.new - 'clientId') FILTER (WHERE NOT r.wins),
           jsonb_agg(jsonb_build_object('field', r.key, 'clientValue', r.new -> 'value', 'clientTimestamp', r.new -> 'at',
               'serverValue', r.held -> 'value', 'serverTimestamp', r.held -> 'at') ORDER BY r.key) FILTER (WHERE NOT r.wins)
    INTO merged, won, lost, conflicts
    FROM (SELECT n.key, n.value AS new, p_held -> n.key AS held,
                 NOT p_held ? n.key
                 OR concat(n.value ->> 'at', n.value ->> 'clientId') COLLATE "C"
                    >= concat(p_held -> n.key ->> 'at', p_held -> n.key ->> 'clientId') COLLATE "C" AS wins
          FROM jsonb_each(p_new) n) r;
END $$;

-- The fields of incoming registers whose client has written another value with the same stamp already; null: there are none.
CREATE OR REPLACE FUNCTION syncd.sync_twice(p_held jsonb, p_new jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT jsonb_agg(n.key) FROM jsonb_each(p_new) n
            WHERE p_held -> n.key ->> 'at' = n.value ->> 'at' AND p_held -> n.key ->> 'clientId' = n.value ->> 'clientId'
              AND (p_held -> n.key -> 'value')::text <> (n.value -> 'value')::text);
END $$;

-- Raises SY009 where the head says "apart" and there is a place with such fields: [[place, [field] or null]].
CREATE OR REPLACE FUNCTION syncd.sync_apart(p_head jsonb, p_twice jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_head ? 'apart' AND p_twice #> '{0,1}' <> 'null' THEN
        RAISE EXCEPTION 'twice' USING ERRCODE = 'SY009', DETAIL = p_twice::text;
    END IF;
END $$;

-- What the log keeps of a change to a record that was deleted: the whole record. A device that was new
-- while the record was a tombstone has none of it, and would else take the change's few registers for all.
-- The registers of others carry their `clientId`, the change's own do not.
CREATE OR REPLACE FUNCTION syncd.sync_whole(p_registers jsonb, p_fields json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (p_registers || p_fields::jsonb)::json;

-- Whether changes that lose are logged with the record, as those to deleted ones: their author's devices show what they wrote, and
-- have no answer that would put them right.
CREATE OR REPLACE FUNCTION syncd.sync_tells() RETURNS boolean
LANGUAGE sql STABLE
RETURN current_setting('syncd.tells', true) = 'yes';

-- A change's content as its device sent it: values, and instants before the server lowered any.
CREATE OR REPLACE FUNCTION syncd.sync_content(p_fields jsonb, p_op integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(f.key, jsonb_build_array(
            CASE WHEN p_op = 3 AND f.key = 'deletedAt' THEN NULL ELSE f.value -> 'value' END,
            CASE WHEN f.value ? 'sent' THEN f.value -> 'sent' ELSE f.value -> 'at' END))
        FROM jsonb_each(p_fields) f WHERE NOT f.value ? 'clientId');

-- The seq of a change to a tombstone. Raises SY007 where that says that its record moved, which whoever pushes has to know.
CREATE OR REPLACE FUNCTION syncd.sync_woken(p_head jsonb, p_moved boolean, p_seq bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_moved AND NOT p_head ?| ARRAY['moves', 'follows'] THEN
        RAISE EXCEPTION 'moves' USING ERRCODE = 'SY007', DETAIL = '{"follow": true}';
    END IF;
    RETURN p_seq;
END $$;

-- The changes of a push that its device had pushed before: place in the push, first seq and event
-- id, and whether the content is still the same.
CREATE OR REPLACE FUNCTION syncd.sync_repeats(p_client integer, p_app integer, p_ids text[], p_bodies json[],
                                   p_spaces integer[], p_tables integer[])
RETURNS TABLE (i integer, seq bigint, event_id uuid, same boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT x.i, d.seq, d.event_id,
           d.app_no = p_app AND d.space_no = p_spaces[x.s] AND d.table_no = p_tables[x.t] AND d.record_id = x.r
           AND d.op = x.o AND syncd.sync_content(d.fields, d.op) = syncd.sync_content(x.f, x.o)
    FROM syncd.sync_receipts(p_client, p_ids) d
    JOIN (SELECT y.* FROM unnest(p_bodies) AS b (body)
          CROSS JOIN LATERAL json_to_recordset(b.body) AS y (i integer, s integer, t integer, r text, o integer, c text, f jsonb)
         ) x ON x.c = d.change_id;
END $$;

-- The bytes of a stored value that is unpacked, at most: a compressed one is up to 255 times as large.
CREATE OR REPLACE FUNCTION syncd.sync_size_at_most(p_held jsonb) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN p_held IS NULL THEN 0 WHEN pg_column_compression(p_held) IS NULL THEN pg_column_size(p_held)
            ELSE 255 * pg_column_size(p_held)::bigint END;

-- Merges and appends changes of which no two are of one record. Returns the conflicts, by place in the push. woken: whether
-- the record was a tombstone, null for one that says that its record moved. p_most: where the records and what is written to
-- them may be more than so many bytes as text, nothing is done, and one row with the place 0 says so; null: no matter. A jsonb
-- is at most 32 times as long as text: above all numbers with an exponent. A row with a negated place has the fields that
-- sync_twice finds in that change, as its conflicts.
CREATE OR REPLACE FUNCTION syncd.sync_apply(p_user integer, p_client integer, p_app integer, p_spaces integer[], p_tables integer[],
                                p_ends bigint[], p_seqs bigint[], p_at timestamptz, p_largest integer, p_most bigint, p_body json)
RETURNS TABLE (i integer, all_lost boolean, conflicts jsonb, too_large boolean, woken boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT x.*, p_spaces[x.s] AS space_no, p_tables[x.t] AS table_no, p_seqs[x.i] AS seq
        FROM json_to_recordset(p_body) AS x (i integer, s integer, t integer, r text, o smallint, c text, e uuid, f json,
                                             g jsonb, lo bigint, hi bigint, v integer, a text, n text)
        WHERE p_seqs[x.i] > 0
    ), met AS MATERIALIZED (
        SELECT x.*, h.registers AS held, h.seq AS prev_seq, h.latest, h.deleted AS was_deleted,
               h.latest IS NULL OR x.lo > h.latest AS newer
        FROM incoming x
        LEFT JOIN LATERAL (
            -- one probe a change, without statistics too: only the primary key has the order of the first at or after an id
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = p_app AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r
        ) h ON true
    ), gate AS (  -- what it may be at most is mostly little enough; else it is measured, where that costs little
        SELECT p_most IS NULL OR CASE WHEN u.size <= p_most / 32 THEN true WHEN u.size <= 2 * p_most THEN (
            SELECT sum(octet_length(y.g::text) + coalesce(octet_length(y.held::text), 0)) <= p_most FROM met y) ELSE false END AS small
        FROM (SELECT coalesce(sum(pg_column_size(y.g) + syncd.sync_size_at_most(y.held)), 0) AS size FROM met y) u
    ), merged AS MATERIALIZED (
        SELECT y.i, y.space_no, y.table_no, y.seq, y.r, y.o, y.c, y.e, y.v, y.a, y.n, y.prev_seq, y.s, y.was_deleted, greatest(y.latest, y.hi) AS latest,
               y.was_deleted AND y.held -> 'deletedAt' ? 'movedTo' AS moved,
               CASE WHEN y.held IS NULL THEN y.g WHEN y.newer THEN y.held || y.g ELSE z.merged END AS registers,
               CASE WHEN y.newer THEN y.f ELSE z.won::json END AS fields,
               z.lost, z.conflicts
        FROM met y
        -- OFFSET 0 keeps the test before the call: what is newer throughout is never merged by field
        LEFT JOIN LATERAL (SELECT m.won, m.lost, m.conflicts, m.merged FROM (SELECT WHERE NOT y.newer OFFSET 0) late
                           CROSS JOIN LATERAL syncd.sync_merge(y.held, y.g) m OFFSET 0) z ON true
        WHERE (SELECT u.small FROM gate u)
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT w.seq, p_ends[w.s], w.prev_seq, p_at, w.e, w.space_no, p_app, w.table_no, p_user, p_client, w.v, w.o, w.r, w.c, w.n, w.a::json,
               CASE WHEN w.was_deleted AND w.fields IS NOT NULL OR w.lost IS NOT NULL AND syncd.sync_tells()
                    THEN syncd.sync_whole(w.registers, coalesce(w.fields, '{}')) ELSE w.fields END, w.lost::json
        FROM merged w
    ), stored AS (
        INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version,
                                             deleted, record_id, registers)
        SELECT w.seq, w.latest, w.e, w.space_no, p_app, w.table_no, p_client, w.v, w.registers ? 'deletedAt' AND w.registers -> 'deletedAt' -> 'value' <> 'null', w.r, w.registers
        FROM merged w
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT w.i, w.fields IS NULL, w.conflicts, pg_column_size(w.registers) > p_largest,
           CASE WHEN w.moved THEN NULL ELSE coalesce(w.was_deleted, false) END
    FROM merged w WHERE w.lost IS NOT NULL OR w.was_deleted OR pg_column_size(w.registers) > p_largest
    UNION ALL SELECT -y.i, NULL, z.fields, NULL, NULL FROM met y CROSS JOIN LATERAL (SELECT syncd.sync_twice(y.held, y.g) AS fields WHERE NOT y.newer OFFSET 0) z WHERE z.fields IS NOT NULL
    UNION ALL SELECT 0, NULL, NULL, NULL, NULL FROM gate u WHERE NOT u.small;
END $$;

-- The same for a restore, which is refused whole where it touches more than 32 MiB. Raises SY010.
CREATE OR REPLACE FUNCTION syncd.sync_wave(p_user integer, p_client integer, p_app integer, p_spaces integer[], p_tables integer[],
                                p_ends bigint[], p_seqs bigint[], p_at timestamptz, p_largest integer, p_body json)
RETURNS TABLE (i integer, all_lost boolean, conflicts jsonb, too_large boolean, woken boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF (SELECT t.beyond <> '{}' FROM syncd.sync_beyond(
            array_fill(p_app, ARRAY[cardinality(p_spaces)]), p_spaces, p_tables, p_seqs, 33554432, ARRAY[p_body]) t) THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = '{"touched": 33554432}';
    END IF;
    RETURN QUERY SELECT a.* FROM syncd.sync_apply(p_user, p_client, p_app, p_spaces, p_tables, p_ends, p_seqs, p_at, p_largest, NULL, p_body) a;
END $$;

-- The changes of a push that make it touch more than p_most bytes, and those that are not alone in the first of p_bodies. What it
-- touches are the records as they are and what it writes to them, as JSON text; of a deleted record, which the log keeps
-- whole with each change, as often as it is changed. Changes count in their order, record by record. It reads no more than it has to. A
-- change's space, app and table are columns before its record is looked up: with an expression there the planner gives up the order
-- of the primary key, and a restore of 10,000 records takes half a minute.
CREATE OR REPLACE FUNCTION syncd.sync_beyond(p_apps integer[], p_spaces integer[], p_tables integer[], p_seqs bigint[], p_most bigint,
                                  p_bodies json[], OUT beyond integer[], OUT again integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_left   bigint := p_most;
    v_read   bigint := 0;
    v_record bigint;
    v_size   bigint;
    d        record;
BEGIN
    beyond := '{}';
    again := '{}';
    FOR d IN SELECT x.i, x.g, x.n, x.m > 1 OR x.w > 1 AS again, h.registers, h.deleted
             FROM (SELECT y.*, b.w, p_spaces[coalesce(y.s, y.k)] AS space_no, p_apps[coalesce(y.s, y.k)] AS app_no, p_tables[y.t] AS table_no, row_number() OVER record AS n, min(y.i) OVER whole AS first, count(*) OVER whole AS m
                   FROM unnest(p_bodies) WITH ORDINALITY AS b (body, w)
                   CROSS JOIN LATERAL json_to_recordset(b.body) AS y (i integer, s integer, k integer, t integer, r text, g jsonb)
                   WHERE p_seqs[y.i] > 0
                   WINDOW whole AS (PARTITION BY y.s, y.k, y.t, y.r), record AS (PARTITION BY y.s, y.k, y.t, y.r ORDER BY y.i)) x
             LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
                SELECT * FROM (
                    SELECT q.registers, q.deleted, q.record_id FROM syncd.sync_records q
                    WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                    ORDER BY q.record_id LIMIT 1) first
                WHERE first.record_id = x.r) h ON true
             ORDER BY x.first, x.i LOOP
        IF d.again THEN
            again := again || d.i;
        END IF;
        IF v_read > 2 * p_most THEN  -- of so much most was too much: the rest is not even looked at
            beyond := beyond || d.i;
            CONTINUE;
        ELSIF d.n = 1 THEN
            v_record := coalesce(octet_length(d.registers::text), 0);
            v_read := v_read + v_record;
        END IF;
        v_size := octet_length(d.g::text) + v_record;
        IF v_size > v_left THEN
            beyond := beyond || d.i;
            CONTINUE;
        END IF;
        v_left := v_left - v_size;
        IF d.deleted IS NOT TRUE THEN
            v_record := 0;  -- it is paid for
        END IF;
    END LOOP;
    beyond := ARRAY(SELECT b FROM unnest(beyond) b ORDER BY b);
END $$;

-- A record, or a row of nulls. One probe of the primary key, as in sync_apply.
CREATE OR REPLACE FUNCTION syncd.sync_record_at(p_space integer, p_app integer, p_table integer, p_id text) RETURNS syncd.sync_records
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v syncd.sync_records;
BEGIN
    SELECT q.* INTO v FROM syncd.sync_records q
    WHERE q.space_no = p_space AND q.app_no = p_app AND q.table_no = p_table AND q.record_id >= p_id
    ORDER BY q.record_id LIMIT 1;
    RETURN CASE WHEN v.record_id = p_id THEN v END;
END $$;

-- The registers that changes of a push write, and what the records hold of the same and of `deletedAt` (place 0), each with
-- whether it wins against those before it: the order of a record's changes is that of their places. stood: what one that
-- lost was beaten by, for the first ones, of some 8 MB in all. twice: the record holds another value with the same stamp, as
-- sync_twice has it, told by their sizes where those differ: a text of what is held would be made for each change. k: the
-- record, as in sync_append_folded. p_apps: of each of p_spaces.
CREATE OR REPLACE FUNCTION syncd.sync_judged_registers(p_apps integer[], p_spaces integer[], p_tables integer[], p_seqs bigint[], p_bodies json[])
RETURNS TABLE (rec bigint, i integer, key text, value jsonb, wins boolean, stood jsonb, twice boolean)
LANGUAGE plpgsql STABLE SET enable_nestloop = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT x.*, dense_rank() OVER (ORDER BY x.s, x.t, x.r) AS rec
        FROM (SELECT y.i, coalesce(y.s, y.k) AS s, y.t, y.r, y.g FROM unnest(p_bodies) AS b (body)
              CROSS JOIN LATERAL json_to_recordset(b.body) AS y (i integer, s integer, k integer, t integer, r text, g jsonb)
              WHERE p_seqs[y.i] > 0) x
    ), own AS MATERIALIZED (
        SELECT x.rec, x.i, w.key, w.value FROM incoming x CROSS JOIN LATERAL jsonb_each(x.g) w
    ), held AS (
        SELECT x.rec, 0, w.key, w.value
        FROM (SELECT DISTINCT y.rec, y.s, y.t, y.r FROM incoming y) x
        CROSS JOIN LATERAL syncd.sync_record_at(p_spaces[x.s], p_apps[x.s], p_tables[x.t], x.r) h
        CROSS JOIN LATERAL jsonb_each(h.registers) w
        WHERE w.key = 'deletedAt' OR (x.rec, w.key) IN (SELECT o.rec, o.key FROM own o)
    ), judged AS MATERIALIZED (
        SELECT w.rec, w.i, w.key, w.value, coalesce(w.stamp >= max(w.stamp) OVER before, true) AS wins
        FROM (SELECT u.*, concat(u.value ->> 'at', u.value ->> 'clientId') COLLATE "C" AS stamp
              FROM (SELECT * FROM own UNION ALL SELECT * FROM held) u) w
        WINDOW before AS (PARTITION BY w.rec, w.key ORDER BY w.i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), beaten AS (  -- by which of them: the last before it that won
        SELECT j.rec, j.i, j.key, j.wins, max(j.i) FILTER (WHERE j.wins) OVER before AS by FROM judged j
        WINDOW before AS (PARTITION BY j.rec, j.key ORDER BY j.i ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), told AS (
        SELECT t.* FROM (
            SELECT b.*, sum(pg_column_size(j.value)) OVER (ORDER BY b.i, b.key) AS size
            FROM beaten b JOIN judged j ON j.rec = b.rec AND j.key = b.key AND j.i = b.by WHERE NOT b.wins) t
        WHERE t.size <= 8388608
    )
    SELECT j.rec, j.i, j.key, j.value, j.wins, s.value,
           h.value ->> 'at' = j.value ->> 'at' AND h.value ->> 'clientId' = j.value ->> 'clientId'
           AND (pg_column_size(h.value -> 'value') <> pg_column_size(j.value -> 'value')
                OR (h.value -> 'value')::text <> (j.value -> 'value')::text)
    FROM judged j
    LEFT JOIN judged h ON h.rec = j.rec AND h.key = j.key AND h.i = 0 AND j.i > 0
    LEFT JOIN told t ON t.rec = j.rec AND t.i = j.i AND t.key = j.key
    LEFT JOIN judged s ON s.rec = t.rec AND s.i = t.by AND s.key = t.key;
END $$;

-- As sync_apply, for changes of which several are of one record: those are folded first, and the record is merged once, so that
-- the cost is linear in what is written and the record. Each change has its own row in the log, as if it had come alone. No
-- nested loops: the planner takes what comes for a hundred rows. An import's have a feed (k), an author (w) and a device (u) of their own, the
-- latter among p_tables, and by change the end of its push and its time; `p`: changes of its record before it are missing.
CREATE OR REPLACE FUNCTION syncd.sync_append_folded(p_user integer, p_client integer, p_apps integer[], p_spaces integer[], p_tables integer[],
    p_ends bigint[], p_seqs bigint[], p_at timestamptz, p_largest integer, p_bodies json[], p_own_ends bigint[], p_own_ats timestamptz[])
RETURNS TABLE (i integer, all_lost boolean, conflicts jsonb, too_large boolean, woken boolean)
LANGUAGE plpgsql VOLATILE SET enable_nestloop = off AS $$
BEGIN
    RETURN QUERY WITH incoming AS MATERIALIZED (
        SELECT x.*, p_spaces[coalesce(x.s, x.k)] AS space_no, p_apps[coalesce(x.s, x.k)] AS app_no, p_tables[x.t] AS table_no, p_seqs[x.i] AS seq,
               dense_rank() OVER (ORDER BY x.s, x.k, x.t, x.r) AS rec, coalesce(p_tables[x.w], p_user) AS user_no, coalesce(p_tables[x.u], p_client) AS client_no
        FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, w integer, u integer, t integer, r text, o smallint, c text,
                                                           e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text, p boolean)
        WHERE p_seqs[x.i] > 0
    ), judged AS MATERIALIZED (
        SELECT * FROM syncd.sync_judged_registers(p_apps, p_spaces, p_tables, p_seqs, p_bodies)
    ), met AS MATERIALIZED (
        SELECT x.rec, h.* FROM (SELECT DISTINCT y.rec, y.space_no, y.app_no, y.table_no, y.r FROM incoming y) x
        LEFT JOIN LATERAL syncd.sync_record_at(x.space_no, x.app_no, x.table_no, x.r) h ON true
    ), folded AS MATERIALIZED (
        SELECT m.*, o.merged, CASE WHEN pg_column_size(o.merged) > p_largest THEN coalesce(pg_column_size(m.registers || '{}'), 0) END AS large
        FROM met m LEFT JOIN (SELECT j.rec, jsonb_object_agg(j.key, j.value ORDER BY j.i) AS written FROM judged j
                              WHERE j.i > 0 AND j.wins GROUP BY j.rec) w ON w.rec = m.rec
        CROSS JOIN LATERAL (SELECT CASE WHEN m.registers IS NULL THEN w.written ELSE m.registers || coalesce(w.written, '{}') END AS merged OFFSET 0) o
    ), result AS (
        SELECT j.i, jsonb_object_agg(j.key, j.value - 'clientId') FILTER (WHERE j.wins) AS won,
               jsonb_object_agg(j.key, j.value - 'clientId') FILTER (WHERE NOT j.wins) AS lost,
               jsonb_agg(jsonb_build_object('field', j.key, 'clientValue', j.value -> 'value', 'clientTimestamp', j.value -> 'at',
                   'serverValue', j.stood -> 'value', 'serverTimestamp', j.stood -> 'at') ORDER BY j.key) FILTER (WHERE j.stood IS NOT NULL) AS conflicts
        FROM judged j WHERE j.i > 0 GROUP BY j.i
    ), steps AS MATERIALIZED (  -- died: the place of the register `deletedAt` that stands before the change; size: an upper bound
        SELECT x.*, m.latest, coalesce(lag(x.seq) OVER record, m.seq) AS prev_seq, lead(x.i) OVER record IS NULL AS last,
               x.lo > coalesce(greatest(m.latest, max(x.hi) OVER before), -1) AS newer, max(x.hi) OVER record AS hi_here,
               coalesce(max(j.i) OVER before, 0) AS died, sum(pg_column_size(x.g)) OVER record AS size
        FROM incoming x JOIN met m ON m.rec = x.rec LEFT JOIN judged j ON j.rec = x.rec AND j.i = x.i AND j.key = 'deletedAt' AND j.wins
        WINDOW record AS (PARTITION BY x.rec ORDER BY x.i), before AS (record ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), merged AS MATERIALIZED (
        SELECT s.*, CASE WHEN s.died = 0 THEN m.deleted ELSE d.value -> 'value' <> 'null' END AS was_deleted, d.value ? 'movedTo' AS moved,
               CASE WHEN s.newer THEN s.f ELSE z.won::json END AS fields, z.lost, z.conflicts,
               pg_column_size(m.merged) > p_largest AND (s.last OR m.large + s.size > p_largest) AS too_large
        FROM steps s JOIN folded m ON m.rec = s.rec JOIN result z ON z.i = s.i LEFT JOIN judged d ON d.rec = s.rec AND d.i = s.died AND d.key = 'deletedAt'
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT w.seq, coalesce(p_own_ends[w.i], p_ends[w.s]), CASE WHEN w.p THEN coalesce(-w.prev_seq, 0) ELSE w.prev_seq END,
               coalesce(p_own_ats[w.i], p_at), w.e, w.space_no, w.app_no, w.table_no, w.user_no, w.client_no, w.v, w.o, w.r, w.c, w.n, w.a::json,
               CASE WHEN w.last AND syncd.sync_tells() AND EXISTS (SELECT FROM merged l WHERE l.rec = w.rec AND l.lost IS NOT NULL) THEN syncd.sync_whole(m.merged, coalesce(w.fields, '{}'))
                   WHEN w.was_deleted THEN syncd.sync_whole(coalesce(m.registers, '{}') || coalesce((
                   SELECT jsonb_object_agg(j.key, j.value ORDER BY j.i) FROM judged j WHERE j.rec = w.rec AND j.i BETWEEN 1 AND w.i AND j.wins), '{}'), w.fields) ELSE w.fields END, w.lost::json
        FROM merged w JOIN folded m ON m.rec = w.rec
    ), stored AS (
        INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        SELECT w.seq, greatest(w.latest, w.hi_here), w.e, w.space_no, w.app_no, w.table_no, w.client_no, w.v, syncd.sync_is_deleted(m.merged), w.r, m.merged
        FROM steps w JOIN folded m ON m.rec = w.rec WHERE w.last
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT w.i, w.fields IS NULL, w.conflicts, w.too_large, CASE WHEN w.was_deleted AND w.moved THEN NULL ELSE coalesce(w.was_deleted, false) END
    FROM merged w WHERE w.lost IS NOT NULL OR w.was_deleted OR w.too_large
    UNION ALL SELECT -j.i, NULL, jsonb_agg(j.key ORDER BY j.key), NULL, NULL FROM judged j WHERE j.twice GROUP BY j.i ORDER BY 1;
END $$;

-- Merges and appends the changes of a push that have a seq. Returns as sync_apply. Raises SY008 (places that make the push
-- touch more than p_most bytes).
CREATE OR REPLACE FUNCTION syncd.sync_apply_push(p_user integer, p_client integer, p_app integer, p_spaces integer[], p_tables integer[],
                                      p_ends bigint[], p_seqs bigint[], p_at timestamptz, p_largest integer, p_most bigint, p_bodies json[])
RETURNS TABLE (i integer, all_lost boolean, conflicts jsonb, too_large boolean, woken boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_beyond integer[];
    v_again  integer[];
    v_seqs   bigint[];
    d        record;
BEGIN
    IF cardinality(p_bodies) = 1 THEN
        FOR d IN SELECT a.* FROM syncd.sync_apply(p_user, p_client, p_app, p_spaces, p_tables, p_ends, p_seqs, p_at, p_largest,
                                                  p_most, p_bodies[1]) a LOOP
            IF d.i = 0 THEN
                v_again := '{}';
            ELSE
                i := d.i; all_lost := d.all_lost; conflicts := d.conflicts; too_large := d.too_large; woken := d.woken;
                RETURN NEXT;
            END IF;
        END LOOP;
        IF v_again IS NULL THEN
            RETURN;
        END IF;
    END IF;
    SELECT t.beyond, t.again INTO v_beyond, v_again FROM syncd.sync_beyond(
        array_fill(p_app, ARRAY[cardinality(p_spaces)]), p_spaces, p_tables, p_seqs, p_most, p_bodies) t;
    IF v_beyond <> '{}' THEN
        RAISE EXCEPTION 'touched' USING ERRCODE = 'SY008', DETAIL = array_to_json(v_beyond)::text;
    END IF;
    v_seqs := ARRAY(SELECT CASE WHEN u.o = ANY (v_again) THEN 0 ELSE u.q END FROM unnest(p_seqs) WITH ORDINALITY AS u (q, o) ORDER BY u.o);
    RETURN QUERY SELECT a.* FROM syncd.sync_apply(p_user, p_client, p_app, p_spaces, p_tables, p_ends, v_seqs, p_at, p_largest, NULL, p_bodies[1]) a;
    IF v_again <> '{}' THEN
        v_seqs := ARRAY(SELECT CASE WHEN u.o = ANY (v_again) THEN u.q ELSE 0 END FROM unnest(p_seqs) WITH ORDINALITY AS u (q, o) ORDER BY u.o);
        RETURN QUERY SELECT a.* FROM syncd.sync_append_folded(p_user, p_client, array_fill(p_app, ARRAY[cardinality(p_spaces)]), p_spaces, p_tables,
                                                                p_ends, v_seqs, p_at, p_largest, p_bodies, NULL, NULL) a;
    END IF;
END $$;

-- How far a device's own stamps on the records of this push have come, in microseconds: a lowered
-- stamp must still be greater, or its later edit would lose to its earlier one.
CREATE OR REPLACE FUNCTION syncd.sync_own_latest(p_client text, p_app integer, p_spaces integer[], p_tables integer[], p_bodies json[])
RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(max(syncd.sync_micros((g.value ->> 'at')::timestamptz)), 0)
        FROM (SELECT DISTINCT y.s, y.t, y.r FROM unnest(p_bodies) AS b (body)
              CROSS JOIN LATERAL json_to_recordset(b.body) AS y (s integer, t integer, r text)) x
        CROSS JOIN LATERAL (SELECT q.registers, q.record_id FROM syncd.sync_records q
            WHERE q.space_no = p_spaces[x.s] AND q.app_no = p_app AND q.table_no = p_tables[x.t] AND q.record_id >= x.r
            ORDER BY q.record_id LIMIT 1) q
        CROSS JOIN LATERAL jsonb_each(q.registers) g
        WHERE q.record_id = x.r AND g.value ->> 'clientId' = p_client);
END $$;

-- Where a user may write: of each space, in the order of their ids, its number (0: not there), and a letter as in a receipt. The
-- memberships are held.
CREATE OR REPLACE FUNCTION syncd.sync_push_may(p_user integer, p_spaces text[], OUT spaces integer[], OUT whys text[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_no   integer;
    v_role text;
BEGIN
    spaces := '{}';
    whys := '{}';
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        SELECT s.space_no, m.role INTO v_no, v_role
        FROM syncd.sync_spaces s JOIN syncd.sync_memberships m ON m.space_no = s.space_no
        WHERE s.space_id = p_spaces[k] AND m.user_no = p_user FOR SHARE OF m;
        whys := whys || CASE WHEN v_no IS NULL THEN 'n' WHEN v_role = 'reader' THEN 'r' ELSE 'a' END;
        spaces := spaces || CASE WHEN v_no IS NULL OR v_role = 'reader' THEN 0 ELSE v_no END;
    END LOOP;
END $$;

-- The numbers of a push's client, app and tables. Names are made for what of it will be written: not for what the acting user may
-- not write (p_whys: as sync_push_may), nor for what was written before or has the change id of something else; those are null.
-- Raises SY011 (as sync_names_needed) and SY010 (device_copied).
CREATE OR REPLACE FUNCTION syncd.sync_push_names(p_head jsonb, p_bodies json[], p_whys text[]) RETURNS integer[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_said   text[] := ARRAY[p_head ->> 'client', p_head ->> 'app'] || ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'tables') e);
    v_known  integer[] := syncd.sync_names_known(v_said);
    v_done   text[];
    v_places integer[];
    v_names  text[];
BEGIN
    IF array_position(v_known, NULL) IS NULL AND NOT p_head ? 'incarnations' OR 'a' <> ALL (p_whys) THEN
        RETURN v_known;
    END IF;
    v_done := ARRAY(SELECT r.change_id FROM syncd.sync_receipts(v_known[1], ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'ids') e)) r);
    SELECT array_agg(x.i ORDER BY x.i, n.o), array_agg(n.name ORDER BY x.i, n.o) INTO v_places, v_names
    FROM unnest(p_bodies) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, t integer, c text)
    CROSS JOIN LATERAL (VALUES (1, v_said[1]), (2, v_said[2]), (3, v_said[x.t + 2])) AS n (o, name)
    WHERE p_whys[x.s] = 'a' AND (x.c IS NULL OR x.c <> ALL (v_done));
    IF v_places IS NULL THEN
        RETURN v_known;
    END IF;
    PERFORM syncd.sync_names_needed(v_places, v_names);
    IF p_head ? 'incarnations' AND syncd.sync_device(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ->> 'client', ARRAY(
            SELECT jsonb_array_elements_text(p_head -> 'incarnations'))) = 'other' THEN
        RAISE EXCEPTION 'device_copied' USING ERRCODE = 'SY010';
    END IF;
    RETURN syncd.sync_names_known(v_said);
END $$;

-- Takes seqs for the changes of a push wherever the acting user may write (p_whys: as sync_push_may), in the order of their space ids,
-- everywhere, so that pushes cannot wait for each other in a ring. p_of: the place of each change's space; null: there is one, of p_n
-- changes. bases: the heads before, ends: after; 0 where nothing is taken.
CREATE OR REPLACE FUNCTION syncd.sync_push_take(p_spaces integer[], p_whys text[], p_app integer, p_of integer[], p_n integer,
                                     OUT bases bigint[], OUT ends bigint[], OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_base  bigint;
    v_count integer;
BEGIN
    bases := '{}';
    ends := '{}';
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        v_base := 0;
        v_count := 0;
        IF p_whys[k] = 'a' AND p_app IS NOT NULL THEN
            v_count := CASE WHEN p_of IS NULL THEN p_n ELSE cardinality(array_positions(p_of, k)) END;
            SELECT a.base, a.written_at INTO v_base, written_at FROM syncd.sync_advance(p_spaces[k], p_app, v_count) a;
        END IF;
        bases := bases || v_base;
        ends := ends || v_base + v_count;
    END LOOP;
    written_at := coalesce(written_at, clock_timestamp());
END $$;

-- The places in the log of a push's changes, for which seqs from p_bases to p_ends were taken: at once where all is plain, one by one where
-- something was refused or repeated. seqs: 0 where a change has none, and that of the first time where it is repeated, of which events
-- has the event ids. ends: of the seqs that are used; the others are given back. p_names: as sync_push_names has them.
CREATE OR REPLACE FUNCTION syncd.sync_push_places(p_head jsonb, p_bodies json[], p_names integer[], p_spaces integer[], p_whys text[], p_of integer[],
    p_bases bigint[], p_ends bigint[], OUT marks text[], OUT seqs bigint[], OUT ends bigint[], OUT events jsonb, OUT repeats integer)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_n   integer := (p_head ->> 'n')::integer;
    v_ids text[] := ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'ids') e);
    v_no  integer;
    d     record;
BEGIN
    ends := p_ends; events := '{}'; repeats := 0;
    IF EXISTS (SELECT FROM syncd.sync_receipts(p_names[1], v_ids)) THEN
        marks := array_fill(NULL::text, ARRAY[v_n]);
        seqs := array_fill(0::bigint, ARRAY[v_n]);
        FOR d IN SELECT * FROM syncd.sync_repeats(p_names[1], p_names[2], v_ids, p_bodies, syncd.sync_spaces_named(
                ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'spaces') e)), p_names[3:]) LOOP
            marks[d.i] := CASE WHEN d.same THEN 'd' ELSE 'u' END;
            seqs[d.i] := CASE WHEN d.same THEN d.seq ELSE 0 END;
            IF d.same THEN
                events := events || jsonb_build_object(d.i, d.event_id);
            END IF;
            repeats := repeats + 1;
        END LOOP;
    END IF;
    IF p_of IS NOT NULL OR repeats > 0 OR p_whys[1] <> 'a' THEN
        marks := coalesce(marks, array_fill(NULL::text, ARRAY[v_n]));
        seqs := coalesce(seqs, array_fill(0::bigint, ARRAY[v_n]));
        ends := p_bases;
        FOR k IN 1 .. v_n LOOP
            CONTINUE WHEN marks[k] IS NOT NULL;  -- was it done comes before may it be done: the first answer may have been lost
            v_no := coalesce(p_of[k], 1);
            marks[k] := p_whys[v_no];
            IF p_whys[v_no] = 'a' AND (p_names[1] IS NULL OR p_names[2] IS NULL) THEN
                -- it was there at the first look, and compaction has dropped it since
                RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure';
            ELSIF p_whys[v_no] = 'a' THEN
                ends[v_no] := ends[v_no] + 1;
                seqs[k] := ends[v_no];
            END IF;
        END LOOP;
        IF repeats > 0 THEN
            FOR k IN 1 .. cardinality(p_spaces) LOOP
                IF ends[k] < p_ends[k] THEN
                    PERFORM syncd.sync_advance(p_spaces[k], p_names[2], (ends[k] - p_ends[k])::integer);
                END IF;
            END LOOP;
        END IF;
    ELSE
        seqs := ARRAY(SELECT p_bases[1] + g FROM generate_series(1, v_n) g);
        marks := array_fill('a'::text, ARRAY[v_n]);
    END IF;
END $$;

-- Applies the changes of a push that are marked `a` (sync_apply_push), and marks those `s` that lost to what was there. conflicts: with
-- the places of their changes; woken: the seqs of changes to deleted records. Raises SY001, SY007, SY008, SY009.
CREATE OR REPLACE FUNCTION syncd.sync_push_merge(p_head jsonb, p_bodies json[], p_user integer, p_names integer[], p_spaces integer[], p_ends bigint[],
    p_marks text[], p_seqs bigint[], p_repeats integer, p_at timestamptz, OUT marks text[], OUT conflicts jsonb, OUT woken bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    -- a repeated change has its first seq in the answer, but must not be applied again
    v_seqs  bigint[] := CASE WHEN p_repeats = 0 THEN p_seqs ELSE ARRAY(SELECT CASE WHEN u.m = 'a' THEN u.q ELSE 0 END
                                 FROM unnest(p_marks, p_seqs) WITH ORDINALITY AS u (m, q, o) ORDER BY u.o) END;
    v_large integer[] := '{}';
    v_twice jsonb := '[]';
    d       record;
BEGIN
    marks := p_marks; conflicts := '[]'; woken := '{}';
    FOR d IN SELECT * FROM syncd.sync_apply_push(p_user, p_names[1], p_names[2], p_spaces, p_names[3:], p_ends, v_seqs, p_at,
            (p_head ->> 'largest')::integer, coalesce((p_head ->> 'touched')::bigint, 33554432), p_bodies) LOOP
        IF d.i < 0 THEN
            v_twice := v_twice || jsonb_build_array(jsonb_build_array(-d.i, d.conflicts));
            CONTINUE;
        END IF;
        IF d.too_large THEN
            v_large := v_large || d.i;
        END IF;
        IF d.all_lost THEN
            marks[d.i] := 's';
        END IF;
        IF d.woken IS NOT FALSE THEN
            woken := woken || syncd.sync_woken(p_head, d.woken IS NULL, p_seqs[d.i]);
        END IF;
        conflicts := conflicts || jsonb_build_array(jsonb_build_array(d.i, d.conflicts));
    END LOOP;
    IF v_large <> '{}' THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = array_to_json(v_large)::text;
    END IF;
    PERFORM syncd.sync_apart(p_head, v_twice);
END $$;

-- One push. p_head: {"user", "client", "app", "n": changes, "spaces": [id, sorted], "tables": [name, sorted], "sp": [space of
-- each change]?, "ids": [changeId or null], "hi": us, "skew": us, "largest": bytes, "touched": bytes (else 32 MiB), "atomic"?, "personal"?, "list"?, "asOf"?,
-- "since"?, "how"?, "held"?, "tells"? (sync_tells), "moves"?, "follows"?, "apart"?, "incarnations"?}. p_bodies: the changes in waves, no record twice in one. "held"
-- (functions/held.sql) is there where what may not be written is kept: it has to be known beforehand, as with "atomic".
-- "incarnations": of a device whose name was not there (sync_device).
-- Raises SY001 (records too large: their places), SY002 (stamps ahead of the clock: {"now", "own"}), SY003 (refused: marks),
-- SY007 (records that moved away, unless the head says "moves" or "follows": functions/moves.sql), SY008 (changes that make it
-- touch more than it may: their places), with "apart" SY009 (stamps that their client has given already to another value:
-- [[place, [field]]]), SY011 (changes that need too many names: their places).
CREATE OR REPLACE FUNCTION syncd.sync_push_one(p_head jsonb, p_bodies json[]) RETURNS syncd.sync_receipt
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v         syncd.sync_receipt;
    v_user    integer := syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ?| ARRAY['list', 'personal'] OR p_head -> 'held' ? 'put');
    v_ids     text[] := ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'spaces') e);
    v_of      integer[] := CASE WHEN cardinality(v_ids) > 1 THEN ARRAY(SELECT e::integer FROM jsonb_array_elements_text(p_head -> 'sp') e) END;
    v_names   integer[];
    v_may     record;
    v_taken   record;
    v_place   record;
    v_merged  record;
    v_clashes jsonb := '[]';
    v_woken   bigint[] := '{}';
BEGIN
    PERFORM syncd.sync_adopt_said(p_head);
    -- Memberships are held until commit, so a removal waits for this push or stops it. Then names are made, for what may be
    -- written. Then feeds are locked.
    v_may := syncd.sync_push_may(v_user, v_ids);
    v_names := syncd.sync_push_names(p_head, p_bodies, v_may.whys);
    v_taken := syncd.sync_push_take(v_may.spaces, v_may.whys, v_names[2], v_of, (p_head ->> 'n')::integer);
    v_place := syncd.sync_push_places(p_head, p_bodies, v_names, v_may.spaces, v_may.whys, v_of, v_taken.bases, v_taken.ends);
    IF p_head ?| ARRAY['atomic', 'held'] AND array_to_string(v_place.marks, '') ~ '[unr]' THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = 'SY003', DETAIL = array_to_string(v_place.marks, '');
    END IF;

    v.seqs := v_place.seqs;
    v.marks := array_to_string(v_place.marks, '');
    IF array_position(v_place.marks, 'a') IS NOT NULL THEN
        IF (p_head ->> 'hi')::bigint > syncd.sync_micros(clock_timestamp()) + (p_head ->> 'skew')::bigint THEN
            RAISE EXCEPTION 'clock' USING ERRCODE = 'SY002', DETAIL = jsonb_build_object(
                'now', syncd.sync_micros(clock_timestamp()), 'marks', v.marks,
                'own', syncd.sync_own_latest(p_head ->> 'client', v_names[2], v_may.spaces, v_names[3:], p_bodies))::text;
        END IF;
        v_merged := syncd.sync_push_merge(p_head, p_bodies, v_user, v_names, v_may.spaces, v_place.ends, v_place.marks, v_place.seqs,
                                          v_place.repeats, v_taken.written_at);
        v.marks := array_to_string(v_merged.marks, '');
        v_clashes := v_merged.conflicts;
        v_woken := v_merged.woken;
    END IF;
    IF v_place.events <> '{}' OR v_clashes <> '[]' THEN
        v.detail := jsonb_build_object('events', v_place.events, 'conflicts', v_clashes);
    END IF;
    IF p_head ? 'since' THEN
        v.page := syncd.sync_pull_acting(v_user, p_head ->> 'app', p_head -> 'since', p_head -> 'how', v_may.spaces, v_taken.bases, v_woken);
        IF v_place.repeats > 0 AND p_head -> 'how' ? 'legacy' THEN
            v.page := syncd.sync_legacy_repeats(v.page, v_names[2], v_may.spaces, v_of, v_place.marks, v_place.seqs);
        END IF;
    END IF;
    RETURN v;
END $$;

-- The bounds of a push of one change, for one that may be beyond. Raises SY001, SY008.
CREATE OR REPLACE FUNCTION syncd.sync_check_size(p_registers jsonb, p_head jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF pg_column_size(p_registers) > (p_head ->> 'largest')::integer THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = '[1]';
    ELSIF octet_length(p_registers::text) > (p_head ->> 'touched')::bigint THEN
        RAISE EXCEPTION 'touched' USING ERRCODE = 'SY008', DETAIL = '[1]';
    END IF;
END $$;

-- A push of one change where all is plain: names, feed and membership known, a clock that is right, nothing
-- repeated. It does what sync_push_one does with scalars instead of sets, at a third of the cost. For anything
-- else it answers null, with nothing written, and sync_push_one decides.
CREATE OR REPLACE FUNCTION syncd.sync_push_plain(p_head jsonb, p_body json) RETURNS syncd.sync_receipt
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v           syncd.sync_receipt;
    v_registers jsonb;
    v_fields    json;
    v_lost      json;
    v_conflicts jsonb;
    v_deleted   boolean;
    v_woken     bigint[] := '{}';
    k           record;
    x           syncd.sync_written_change;
    v_held      jsonb;
    v_held_id   text;
    v_prev      bigint;
    v_latest    bigint;
    m           record;
BEGIN
    k := syncd.sync_enter(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ->> 'client', p_head ->> 'app',
                          p_head -> 'tables' ->> 0, p_head -> 'spaces' ->> 0);
    x := json_populate_record(NULL::syncd.sync_written_change, p_body -> 0);
    IF k.base IS NULL THEN
        RETURN NULL;
    ELSIF x.hi > syncd.sync_micros(clock_timestamp()) + (p_head ->> 'skew')::bigint THEN
        PERFORM syncd.sync_advance(k.space_no, k.app_no, -1);
        RETURN NULL;
    END IF;

    SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id INTO v_held, v_prev, v_latest, v_deleted, v_held_id FROM syncd.sync_records q
    WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id >= x.r
    ORDER BY q.record_id LIMIT 1;  -- one probe of the primary key, as in sync_apply
    v.marks := 'a';
    IF v_held_id IS DISTINCT FROM x.r THEN
        v_prev := NULL; v_latest := NULL; v_deleted := NULL;
        v_registers := x.g;
        v_fields := x.f;
    ELSIF x.lo > v_latest THEN
        v_registers := v_held || x.g;
        v_fields := x.f;
    ELSE
        m := syncd.sync_merge(v_held, x.g);
        v_registers := m.merged;
        v_fields := m.won; v_lost := m.lost; v_conflicts := m.conflicts;
        IF v_fields IS NULL THEN
            v.marks := 's';
        ELSE
            PERFORM syncd.sync_apart(p_head, jsonb_build_array(jsonb_build_array(1, syncd.sync_twice(v_held, x.g))));
        END IF;
    END IF;
    IF pg_column_size(v_registers) > least((p_head ->> 'largest')::integer, (p_head ->> 'touched')::bigint / 32) THEN
        PERFORM syncd.sync_check_size(v_registers, p_head);
    END IF;

    IF v_deleted THEN
        v_woken := ARRAY[syncd.sync_woken(p_head, v_held -> 'deletedAt' ? 'movedTo', k.base + 1)];
        v_fields := syncd.sync_whole(v_registers, v_fields);
    END IF;

    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                    client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
    SELECT k.base + 1, k.base + 1, v_prev, k.written_at, x.e, k.space_no, k.app_no, k.table_no, k.user_no,
           k.client_no, x.v, x.o, x.r, x.c, x.n, x.a::json, v_fields, v_lost
    WHERE NOT EXISTS (SELECT FROM syncd.sync_restores d WHERE d.user_no = k.user_no AND d.client_no = k.client_no AND d.change_id = x.c)
    ON CONFLICT (user_no, client_no, change_id) WHERE change_id IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN  -- pushed before
        PERFORM syncd.sync_advance(k.space_no, k.app_no, -1);
        RETURN NULL;
    END IF;
    -- Under the feed's lock nobody else can have made the record: an insert of its own is checked by one policy, not three.
    v_deleted := v_registers ? 'deletedAt' AND v_registers -> 'deletedAt' -> 'value' <> 'null';
    IF v_prev IS NULL THEN
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version,
                                        deleted, record_id, registers)
        VALUES (k.base + 1, x.hi, x.e, k.space_no, k.app_no, k.table_no, k.client_no, x.v, v_deleted, x.r, v_registers);
    ELSE
        UPDATE syncd.sync_records q
        SET seq = k.base + 1, latest = greatest(v_latest, x.hi), event_id = x.e, client_no = k.client_no,
            schema_version = x.v, deleted = v_deleted, registers = v_registers
        WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id = x.r
          AND q.seq = v_prev;  -- so that the other index finds one row as well
    END IF;

    v.seqs := ARRAY[k.base + 1];
    IF v_conflicts IS NOT NULL THEN
        v.detail := jsonb_build_object('conflicts', jsonb_build_array(jsonb_build_array(1, v_conflicts)));
    END IF;
    IF p_head ? 'since' THEN
        v.page := syncd.sync_pull_acting(k.user_no, p_head ->> 'app', p_head -> 'since', p_head -> 'how', ARRAY[k.space_no], ARRAY[k.base], v_woken);
    END IF;
    RETURN v;
END $$;

-- Pushes, each under its own user, in one transaction. p_waves: how many of p_bodies belong to each.
-- p_patience: how long to wait for a lock, for a group whose members can also be pushed alone.
CREATE OR REPLACE FUNCTION syncd.sync_push(p_heads jsonb, p_waves integer[], p_bodies json[], p_patience text DEFAULT NULL) RETURNS SETOF syncd.sync_receipt
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_from integer := 1;
    v_head jsonb;
    v      syncd.sync_receipt;
BEGIN
    IF p_patience IS NOT NULL THEN
        PERFORM set_config('lock_timeout', p_patience, true);
    END IF;
    FOR k IN 1 .. cardinality(p_waves) LOOP
        v := NULL;
        v_head := p_heads -> (k - 1);
        IF v_head -> 'held' ? 'own' THEN
            PERFORM syncd.sync_make_spaces(coalesce(v_head ->> 'context', v_head ->> 'user'), v_head -> 'held' -> 'own', v_head -> 'held' -> 'bounds');
        END IF;
        IF v_head ->> 'n' = '1' AND NOT v_head ?| ARRAY['list', 'incarnations', 'tells'] THEN
            v := syncd.sync_push_plain(v_head, p_bodies[v_from]);
        END IF;
        IF v.marks IS NULL THEN
            PERFORM syncd.sync_start();
            IF v_head ? 'tells' THEN
                PERFORM set_config('syncd.tells', 'yes', true);
            END IF;
            v := syncd.sync_push_one(v_head, p_bodies[v_from : v_from + p_waves[k] - 1]);
            IF v_head ? 'tells' THEN
                PERFORM set_config('syncd.tells', '', true);
            END IF;
        END IF;
        IF v_head -> 'since' ? 'row' THEN
            PERFORM syncd.sync_cursor_used(syncd.sync_user(), v_head -> 'since');
        END IF;
        IF v_head -> 'held' ?| ARRAY['put', 'release'] THEN
            -- after the feeds are locked, as everywhere
            PERFORM syncd.sync_hold(v_head ->> 'client', v_head ->> 'app', v_head -> 'held');
        END IF;
        RETURN NEXT v;
        v_from := v_from + p_waves[k];
    END LOOP;
END $$;
