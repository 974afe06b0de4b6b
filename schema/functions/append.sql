-- Changes into the log and the state: those of a push are merged with the records as they are, appended, and stored.
-- Called by functions alone.

-- Merges and appends changes of which no two are of one record. Returns the conflicts, by place in the push. woken: whether
-- the record was a tombstone, null for one that says that its record moved. p_most: where the records and what is written to
-- them may be more than so many bytes as text, nothing is done, and one row with the place 0 says so; null: no matter. A jsonb
-- is at most 32 times as long as text: above all numbers with an exponent. A row with a negated place has the fields that
-- sync_twice finds in that change, as its conflicts. What a change wrote over unseen (functions/unseen.sql) is among its conflicts; its `b`
-- says what its writer had seen.
CREATE OR REPLACE FUNCTION syncd.sync_apply(p_user integer, p_client integer, p_app integer, p_spaces integer[], p_tables integer[],
                                p_ends bigint[], p_seqs bigint[], p_at timestamptz, p_largest integer, p_most bigint, p_body json)
RETURNS TABLE (i integer, all_lost boolean, conflicts jsonb, too_large boolean, woken boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT x.*, p_spaces[x.s] AS space_no, p_tables[x.t] AS table_no, p_seqs[x.i] AS seq
        FROM json_to_recordset(p_body) AS x (i integer, s integer, t integer, r text, o smallint, c text, e uuid, f json,
                                             g jsonb, lo bigint, hi bigint, v integer, a text, n text, b jsonb)
        WHERE p_seqs[x.i] > 0
    ), met AS MATERIALIZED (
        SELECT x.*, h.registers AS held, h.seq AS prev_seq, h.latest, h.deleted AS was_deleted,
               h.latest IS NULL OR x.lo > h.latest AS newer
        FROM incoming x
        LEFT JOIN LATERAL (  -- one probe a change, without statistics too: only the primary key has the order of the first at or after an id
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = p_app AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r) h ON true
    ), gate AS (  -- what it may be at most is mostly little enough; else it is measured, where that costs little
        SELECT p_most IS NULL OR CASE WHEN u.size <= p_most / 32 THEN true WHEN u.size <= 2 * p_most THEN (
            SELECT sum(octet_length(y.g::text) + coalesce(octet_length(y.held::text), 0)) <= p_most FROM met y) ELSE false END AS small
        FROM (SELECT coalesce(sum(pg_column_size(y.g) + syncd.sync_size_at_most(y.held)), 0) AS size FROM met y) u
    ), merged AS MATERIALIZED (
        SELECT y.i, y.space_no, y.table_no, y.seq, y.r, y.o, y.c, y.e, y.v, y.a, y.n, y.prev_seq, y.s, y.was_deleted, greatest(y.latest, y.hi) AS latest,
               y.was_deleted AND y.held -> 'deletedAt' ? 'movedTo' AS moved,
               CASE WHEN y.held IS NULL THEN y.g WHEN y.newer THEN y.held || y.g ELSE z.merged END AS registers,
               CASE WHEN u.unseen IS NOT NULL THEN syncd.sync_marked(CASE WHEN y.newer THEN y.f ELSE z.won::json END, u.unseen, y.b)
                    WHEN y.newer THEN y.f ELSE z.won::json END AS fields,
               z.lost, CASE WHEN u.unseen IS NULL THEN z.conflicts ELSE syncd.sync_told(z.conflicts, u.unseen) END AS conflicts
        FROM met y
        -- OFFSET 0 keeps the test before the call: what is newer throughout is never merged by field
        LEFT JOIN LATERAL (SELECT m.won, m.lost, m.conflicts, m.merged FROM (SELECT WHERE NOT y.newer OFFSET 0) late
                           CROSS JOIN LATERAL syncd.sync_merge(y.held, y.g) m OFFSET 0) z ON true
        LEFT JOIN LATERAL (SELECT syncd.sync_unseen(y.held, y.g, y.b) AS unseen FROM (SELECT WHERE NOT y.held @> y.b OR y.b IS NOT NULL AND y.was_deleted OFFSET 0) other OFFSET 0) u ON true
        WHERE (SELECT t.small FROM gate t)
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
    FROM merged w WHERE w.conflicts IS NOT NULL OR w.was_deleted OR pg_column_size(w.registers) > p_largest
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
        SELECT x.*, p_spaces[coalesce(x.s, x.k)] AS space_no, p_apps[coalesce(x.s, x.k)] AS app_no, p_tables[x.t] AS table_no, p_seqs[x.i] AS seq, dense_rank() OVER (ORDER BY x.s, x.k, x.t, x.r) AS rec, coalesce(p_tables[x.w], p_user) AS user_no, coalesce(p_tables[x.u], p_client) AS client_no
        FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, w integer, u integer, t integer, r text, o smallint, c text, e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text, p boolean, b jsonb)
        WHERE p_seqs[x.i] > 0
    ), judged AS MATERIALIZED (SELECT * FROM syncd.sync_judged_registers(p_apps, p_spaces, p_tables, p_seqs, p_bodies)
    ), met AS MATERIALIZED (
        SELECT x.rec, h.* FROM (SELECT DISTINCT y.rec, y.space_no, y.app_no, y.table_no, y.r FROM incoming y) x
        LEFT JOIN LATERAL syncd.sync_record_at(x.space_no, x.app_no, x.table_no, x.r) h ON true
    ), folded AS MATERIALIZED (
        SELECT m.*, o.merged, CASE WHEN pg_column_size(o.merged) > p_largest THEN coalesce(pg_column_size(m.registers || '{}'), 0) END AS large
        FROM met m LEFT JOIN (SELECT j.rec, jsonb_object_agg(j.key, j.value ORDER BY j.i) AS written FROM judged j
                              WHERE j.i > 0 AND j.wins GROUP BY j.rec) w ON w.rec = m.rec
        CROSS JOIN LATERAL (SELECT CASE WHEN m.registers IS NULL THEN w.written ELSE m.registers || coalesce(w.written, '{}') END AS merged OFFSET 0) o
    ), result AS (  -- unseen: what the record holds of others is overwritten by the first of its changes that wins
        SELECT j.i, jsonb_object_agg(j.key, j.value - 'clientId') FILTER (WHERE j.wins) AS won,
               jsonb_object_agg(j.key, j.value - 'clientId') FILTER (WHERE NOT j.wins) AS lost,
               jsonb_agg(jsonb_build_object('field', j.key, 'clientValue', j.value -> 'value', 'clientTimestamp', j.value -> 'at',
                   'serverValue', j.stood -> 'value', 'serverTimestamp', j.stood -> 'at', 'by', j.stood -> 'clientId') ORDER BY j.key) FILTER (WHERE j.stood IS NOT NULL) AS conflicts,
               jsonb_agg(syncd.sync_overwritten(j.key, h.value) ORDER BY j.key) FILTER (WHERE j.i = j.first AND x.b IS NOT NULL AND syncd.sync_is_unseen(j.key, h.value, j.value, x.b)) AS unseen
        FROM (SELECT *, min(w.i) FILTER (WHERE w.wins AND w.i > 0) OVER (PARTITION BY w.rec, w.key) AS first FROM judged w) j JOIN incoming x ON x.i = j.i LEFT JOIN judged h ON h.rec = j.rec AND h.key = j.key AND h.i = 0 WHERE j.i > 0 GROUP BY j.i
    ), grown AS MATERIALIZED (  -- by how much a change makes a record larger that becomes too large
        SELECT u.rec, u.i, sum(u.by) AS by FROM (SELECT j.rec, j.i, pg_column_size(j.value) - coalesce(lag(pg_column_size(j.value)) OVER (PARTITION BY j.rec, j.key ORDER BY j.i), -octet_length(j.key)) AS by FROM judged j JOIN folded m ON m.rec = j.rec WHERE j.wins AND m.large IS NOT NULL) u WHERE u.i > 0 GROUP BY u.rec, u.i
    ), steps AS MATERIALIZED (  -- died: the place of the register `deletedAt` that stands before the change; size: of what the changes added
        SELECT x.*, m.latest, coalesce(lag(x.seq) OVER record, m.seq) AS prev_seq, lead(x.i) OVER record IS NULL AS last,
               x.lo > coalesce(greatest(m.latest, max(x.hi) OVER before), -1) AS newer, max(x.hi) OVER record AS hi_here,
               coalesce(max(j.i) OVER before, 0) AS died, coalesce(sum(g.by) OVER record, 0) AS size
        FROM incoming x JOIN met m ON m.rec = x.rec LEFT JOIN grown g ON g.rec = x.rec AND g.i = x.i LEFT JOIN judged j ON j.rec = x.rec AND j.i = x.i AND j.key = 'deletedAt' AND j.wins
        WINDOW record AS (PARTITION BY x.rec ORDER BY x.i), before AS (record ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), merged AS MATERIALIZED (
        SELECT s.*, CASE WHEN s.died = 0 THEN m.deleted ELSE d.value -> 'value' <> 'null' END AS was_deleted, d.value ? 'movedTo' AS moved,
               CASE WHEN z.unseen IS NOT NULL THEN syncd.sync_marked(CASE WHEN s.newer THEN s.f ELSE z.won::json END, z.unseen, s.b)
                    WHEN s.newer THEN s.f WHEN s.w IS NULL THEN z.won::json ELSE syncd.sync_imported(z.won, s.f) END AS fields, z.lost,
               CASE WHEN s.b IS NULL THEN z.conflicts ELSE syncd.sync_told(z.conflicts, z.unseen, CASE WHEN s.died = 0 THEN d.value END, s.g) END AS conflicts,
               m.large IS NOT NULL AND (s.last OR s.i > coalesce(max(s.i) FILTER (WHERE m.large + s.size <= p_largest AND NOT s.last) OVER (PARTITION BY s.rec), 0)) AS too_large
        FROM steps s JOIN folded m ON m.rec = s.rec JOIN result z ON z.i = s.i LEFT JOIN judged d ON d.rec = s.rec AND d.i = s.died AND d.key = 'deletedAt'
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no, client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
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
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no, schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT w.i, w.fields IS NULL, w.conflicts, w.too_large, CASE WHEN w.was_deleted AND w.moved THEN NULL ELSE coalesce(w.was_deleted, false) END
    FROM merged w WHERE w.lost IS NOT NULL OR w.conflicts IS NOT NULL OR w.was_deleted OR w.too_large
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
