-- Writing in groups: one call is many small pushes of as many devices, which share one transaction. What is plain of them, as
-- most are, is written by a few statements for all; the others go the way of a push alone, in the same transaction.
-- Called by the role that serves: sync_push_group. sync_push_together is SECURITY DEFINER: who acts is then a group, whose
-- policies are the owner's alone. They look each row's author up, by its device, and the author's membership.

-- Checks the contexts of a group's heads, where those are signed. Returns what stays in the parameter when nobody acts, or null
-- where somebody shows none: then each is asked apart. Raises SY030.
CREATE OR REPLACE FUNCTION syncd.sync_group_proven(p_heads json) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_pads bytea := (SELECT k.pads FROM syncd.sync_context_key k);
    v_rest text := ltrim(coalesce(current_setting(syncd.sync_acting_in(), true), ''), '0123456789');
    v_context text;
BEGIN
    IF v_pads IS NOT NULL THEN
        FOR v_context IN SELECT x.context FROM json_to_recordset(p_heads) AS x (context text) LOOP
            IF v_context IS NULL THEN
                RETURN NULL;
            END IF;
            v_rest := syncd.sync_proven('u', v_context, v_pads);
            PERFORM set_config(syncd.sync_acting_in(), v_rest, true);
        END LOOP;
    END IF;
    RETURN v_rest;
END $$;

-- Writes what is plain of a group. By the place of each push: p_users to p_spaces as sync_group_names has them, and p_feeds to p_ats as
-- sync_group_lock has them. p_ahead: no stamp may be beyond it, in microseconds; p_most: no record larger than so many bytes. Returns
-- the places and seqs of what was written. Raises SY004, as sync_guard does. A change id that somebody writes at this moment is a clash of transactions.
CREATE OR REPLACE FUNCTION syncd.sync_group_write(p_bodies json, p_users integer[], p_clients integer[], p_apps integer[], p_tables integer[],
    p_spaces integer[], p_feeds integer[], p_heads bigint[], p_ats timestamptz[], p_ahead bigint, p_most bigint,
    OUT places integer[], OUT seqs bigint[])
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH incoming AS MATERIALIZED (
        SELECT x.*, p_users[x.k] AS user_no, p_clients[x.k] AS client_no, p_apps[x.k] AS app_no, p_tables[x.k] AS table_no,
               p_spaces[x.k] AS space_no, p_feeds[x.k] AS feed,
               row_number() OVER (PARTITION BY p_feeds[x.k], p_tables[x.k], x.r ORDER BY x.k) AS nth
        FROM ROWS FROM (json_to_recordset(p_bodies) AS (r text, o smallint, c text, e uuid, f json, g jsonb, lo bigint, hi bigint,
                                                        v integer, a text, n text, b jsonb)) WITH ORDINALITY
             AS x (r, o, c, e, f, g, lo, hi, v, a, n, b, k)
        WHERE x.r IS NOT NULL AND p_users[x.k] > 0 AND p_heads[p_feeds[x.k]] >= 0 AND array_position(p_clients, p_clients[x.k]) = x.k
    ), met AS MATERIALIZED (
        SELECT x.*, h.seq AS prev_seq, CASE WHEN h.seq IS NULL THEN x.g ELSE h.registers || x.g END AS registers
        FROM incoming x LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r) h ON true
        WHERE x.nth = 1 AND x.hi <= p_ahead
          AND (h.seq IS NULL OR x.lo > h.latest AND NOT h.deleted)
          -- what wrote over something unseen has more to tell than its place
          AND (h.seq IS NULL OR x.b IS NULL OR h.registers @> x.b OR syncd.sync_unseen(h.registers, x.g, x.b) IS NULL)
          -- Pushed before: scalar, so that each stays one probe whatever the planner believes.
          AND (SELECT c.seq FROM syncd.sync_changes c
               WHERE c.user_no = x.user_no AND c.client_no = x.client_no AND c.change_id = x.c LIMIT 1) IS NULL
          AND (SELECT d.first_seq FROM syncd.sync_restores d
               WHERE d.user_no = x.user_no AND d.client_no = x.client_no AND d.change_id = x.c LIMIT 1) IS NULL
    ), placed AS MATERIALIZED (
        SELECT y.*, p_heads[y.feed] + row_number() OVER (PARTITION BY y.feed ORDER BY y.k) AS seq, p_ats[y.feed] AS at,
               y.registers ? 'deletedAt' AND y.registers -> 'deletedAt' -> 'value' <> 'null' AS deleted
        FROM met y WHERE pg_column_size(y.registers) <= p_most
    ), counted AS (  -- an upsert, so that each is one probe
        INSERT INTO syncd.sync_feeds AS h (space_no, app_no, head, written_at, boots, bases)
        SELECT w.space_no, w.app_no, max(w.seq), max(w.at), '{}', '{}' FROM placed w GROUP BY w.space_no, w.app_no
        ON CONFLICT (space_no, app_no) DO UPDATE SET head = EXCLUDED.head, written_at = EXCLUDED.written_at
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields)
        SELECT w.seq, w.seq, w.prev_seq, w.at, w.e, w.space_no, w.app_no, w.table_no, w.user_no, w.client_no, w.v, w.o, w.r, w.c, w.n, w.a::json, w.f
        FROM placed w
    ), added AS (
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        SELECT w.seq, w.hi, w.e, w.space_no, w.app_no, w.table_no, w.client_no, w.v, w.deleted, w.r, w.registers
        FROM placed w WHERE w.prev_seq IS NULL
    ), merged AS (
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        SELECT w.seq, w.hi, w.e, w.space_no, w.app_no, w.table_no, w.client_no, w.v, w.deleted, w.r, w.registers
        FROM placed w WHERE w.prev_seq IS NOT NULL
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT array_agg(w.k), array_agg(w.seq) INTO places, seqs FROM placed w;
END $$;

-- The numbers of the names in a group's heads, by the place of each push; the memberships of those who are writers are held. users and spaces: 0
-- for one that is none, has a name that is not there, or may not write all of the table; feeds: space and app as one number, 0 where nothing may be
-- written. skew, most: the least of what the heads say.
CREATE OR REPLACE FUNCTION syncd.sync_group_names(p_heads json, OUT users integer[], OUT clients integer[], OUT apps integer[],
    OUT tables integer[], OUT spaces integer[], OUT feeds bigint[], OUT skew bigint, OUT most bigint)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT array_agg(CASE WHEN m.named THEN m.user_no ELSE 0 END), array_agg(coalesce(y.client_no, 0)), array_agg(coalesce(y.app_no, 0)),
           array_agg(coalesce(y.table_no, 0)), array_agg(CASE WHEN m.named THEN y.space_no ELSE 0 END),
           array_agg(CASE WHEN m.user_no IS NULL OR y.app_no IS NULL THEN 0 ELSE y.space_no::bigint << 32 | y.app_no END),
           min(y.skew), min(least(y.largest, y.touched / 32))
    INTO users, clients, apps, tables, spaces, feeds, skew, most
    FROM (SELECT (SELECT u.name_no FROM syncd.sync_names u WHERE NOT u.leaving AND u.name =
                      CASE WHEN x.context IS NULL THEN x."user" ELSE substr(x.context, 121) END) AS user_no,
                 (SELECT d.name_no FROM syncd.sync_names d WHERE d.name = x.client AND NOT d.leaving) AS client_no,
                 (SELECT a.name_no FROM syncd.sync_names a WHERE a.name = x.app AND NOT a.leaving) AS app_no,
                 (SELECT t.name_no FROM syncd.sync_names t WHERE t.name = x.tables ->> 0 AND NOT t.leaving) AS table_no,
                 (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = x.spaces ->> 0) AS space_no, x.skew, x.largest, x.touched
          FROM json_to_recordset(p_heads) AS x ("user" text, context text, client text, app text, tables json, spaces json,
                                                skew bigint, largest bigint, touched bigint)
          OFFSET 0) y
    LEFT JOIN LATERAL (SELECT h.user_no, y.client_no > 0 AND y.app_no > 0 AND y.table_no > 0 AND (h.role = 'owner' OR NOT EXISTS (
                           SELECT FROM syncd.sync_writable_by w WHERE w.app_no = y.app_no AND w.table_no = y.table_no)) AS named FROM syncd.sync_memberships h
                       WHERE h.user_no = y.user_no AND h.space_no = y.space_no AND h.role <> 'reader' FOR SHARE) m ON true;
END $$;

-- Locks the feeds of a group in the order of its pushes (p_feeds: as sync_group_names has them). places: of the first push to the same
-- feed; at that place, the head before (-1: it was not written since the start) and the instant of what is written now.
CREATE OR REPLACE FUNCTION syncd.sync_group_lock(p_feeds bigint[], OUT places integer[], OUT heads bigint[], OUT ats timestamptz[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    -- sync_start, which would register one
    v_start timestamptz := (SELECT CASE WHEN s.postmaster = pg_postmaster_start_time() AND s.made_by = s.xmin
                                             AND s.folder = rtrim(pg_relation_filepath(s.tableoid), '0123456789') THEN s.started_at END
                            FROM syncd.sync_starts s ORDER BY s.started_at DESC LIMIT 1);
BEGIN
    SELECT array_agg(u.first), array_agg(CASE WHEN h.boots[cardinality(h.boots)] = v_start THEN h.head ELSE -1 END),
           array_agg(greatest(clock_timestamp(), h.written_at))
    INTO places, heads, ats
    FROM (SELECT e.feed, e.k, array_position(p_feeds, e.feed) AS first FROM unnest(p_feeds) WITH ORDINALITY AS e (feed, k) OFFSET 0) u
    LEFT JOIN LATERAL (SELECT g.boots, g.head, g.written_at FROM syncd.sync_feeds g
                       WHERE u.feed > 0 AND u.first = u.k
                         AND g.space_no = (u.feed >> 32)::integer AND g.app_no = (u.feed & 2147483647)::integer
                       FOR NO KEY UPDATE) h ON true;
END $$;

-- Writes what is plain of a group of pushes. p_heads: as sync_push_one has them, p_bodies: each push's one change, {} for one that is
-- not to be looked at. Of two pushes of one device, or to one record, only the first may be plain. Returns each push's seq; 0: nothing
-- was written of it, but its membership is held and its feed locked. Raises SY030.
CREATE OR REPLACE FUNCTION syncd.sync_push_together(p_heads json, p_bodies json) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_rest text := syncd.sync_group_proven(p_heads);
    v_seqs bigint[] := array_fill(0::bigint, ARRAY[json_array_length(p_heads)]);
    n      record;
    f      record;
    w      record;
BEGIN
    IF v_rest IS NULL THEN
        RETURN v_seqs;
    END IF;
    n := syncd.sync_group_names(p_heads);
    f := syncd.sync_group_lock(n.feeds);
    PERFORM set_config(syncd.sync_acting_in(), concat_ws(',', '0', split_part(v_rest, ',', 2), split_part(v_rest, ',', 3), split_part(v_rest, ',', 4),
        array_to_string(n.users, '_'), array_to_string(n.clients, '_'), array_to_string(n.spaces, '_')), true);
    w := syncd.sync_group_write(p_bodies, n.users, n.clients, n.apps, n.tables, n.spaces, f.places, f.heads, f.ats,
                                syncd.sync_micros(clock_timestamp()) + n.skew, n.most);
    PERFORM set_config(syncd.sync_acting_in(), v_rest, true);
    FOR i IN 1 .. coalesce(cardinality(w.places), 0) LOOP
        v_seqs[w.places[i]] := w.seqs[i];
    END LOOP;
    RETURN v_seqs;
END $$;

-- Pushes of as many devices, in the order of their feeds, each under its own user, in one transaction. p_heads, p_bodies: as
-- sync_push_together has them. p_waves: of each push that has no one change there, how many of p_rest are its own. p_patience: as
-- sync_push has it. seqs: of what was plain, and 0 for the others, whose receipts follow in their order, as sync_push has them.
CREATE OR REPLACE FUNCTION syncd.sync_push_group(p_heads json, p_bodies json, p_waves integer[], p_rest json[], p_patience text,
                                      OUT seqs bigint[], OUT receipts syncd.sync_receipt[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_heads  json[] := '{}';
    v_waves  integer[] := '{}';
    v_bodies json[] := '{}';
    v_from   integer := 1;
    v_next   integer := 1;
    d        record;
BEGIN
    PERFORM set_config('lock_timeout', p_patience, true);
    seqs := syncd.sync_push_together(p_heads, p_bodies);
    IF 0 <> ALL (seqs) THEN
        RETURN;
    END IF;
    -- Each text is read once, however many there are.
    FOR d IN SELECT x.head, x.body, x.body ->> 'r' IS NOT NULL AS single
             FROM ROWS FROM (json_array_elements(p_heads), json_array_elements(p_bodies)) WITH ORDINALITY AS x (head, body, k)
             WHERE seqs[x.k] = 0 ORDER BY x.k LOOP
        v_heads := v_heads || d.head;
        IF d.single THEN
            v_waves := v_waves || 1;
            v_bodies := v_bodies || json_build_array(d.body);
        ELSE
            v_waves := v_waves || p_waves[v_next];
            FOR i IN v_from .. v_from + p_waves[v_next] - 1 LOOP
                v_bodies := v_bodies || p_rest[i];
            END LOOP;
            v_from := v_from + p_waves[v_next];
            v_next := v_next + 1;
        END IF;
    END LOOP;
    receipts := ARRAY(SELECT r FROM syncd.sync_push(to_jsonb(v_heads), v_waves, v_bodies) r);
END $$;
