-- Compaction: what was overwritten long ago leaves the log, feed by feed, below a horizon. What the horizon finds current
-- stays, so the folded log, replayed, still makes the same state, and every look at the horizon or after it is exact.
-- Deletions stay as stripped tombstones, stamps without values; when those go too, devices that may not know of them start again.
-- Called by the role that compacts, which may do just this. The role that serves can neither call nor do what is done here,
-- but for what a push needs: sync_unremembered, sync_unremembered_in, and sync_guard, a trigger of sync_changes.

-- Takes a lease that is free, stale, or p_holder's own. False where somebody else holds it.
CREATE OR REPLACE FUNCTION syncd.sync_lease_take(p_name text, p_holder uuid, p_stale interval) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_leases (name, holder, beat_at) VALUES (p_name, p_holder, '-infinity') ON CONFLICT DO NOTHING;
    -- a holder that is at work has the row locked: that is not waited for
    PERFORM FROM syncd.sync_leases l WHERE l.name = p_name AND (l.holder = p_holder OR l.beat_at < clock_timestamp() - p_stale)
        FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE syncd.sync_leases l SET holder = p_holder, beat_at = clock_timestamp() WHERE l.name = p_name;
    RETURN true;
END $$;

-- Says that the holder is there, and keeps the lease until this transaction ends. Raises SY020 when it was lost.
CREATE OR REPLACE FUNCTION syncd.sync_lease_beat(p_name text, p_holder uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE syncd.sync_leases l SET beat_at = clock_timestamp() WHERE l.name = p_name AND l.holder = p_holder;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'SY020';
    END IF;
END $$;

-- Whether a change deleted its record itself: one that met a tombstone carries that, as another's.
CREATE OR REPLACE FUNCTION syncd.sync_own_deletion(p_fields json) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_fields #>> '{deletedAt,value}' IS NOT NULL AND p_fields #> '{deletedAt,clientId}' IS NULL;

-- A change as a line of JSON text: what an archive keeps of it. The same members as in an export.
CREATE OR REPLACE FUNCTION syncd.sync_archive_line(p_change syncd.sync_changes) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT jsonb_strip_nulls(jsonb_build_object(
        'appId', a.name, 'userId', u.name, 'createdAt', syncd.sync_instant(p_change.created_at), 'eventId', p_change.event_id,
        'seq', p_change.seq, 'pushEnd', nullif(p_change.push_end, p_change.seq), 'table', t.name, 'id', p_change.record_id,
        'op', (ARRAY['insert', 'update', 'delete'])[p_change.op], 'spaceId', s.space_id, 'clientId', d.name,
        'deletedAt', CASE WHEN p_change.op = 3 THEN coalesce(p_change.fields -> 'deletedAt', p_change.lost -> 'deletedAt') ->> 'at' END,
        'changeId', CASE WHEN p_change.change_id >= U&'\0020' THEN p_change.change_id END,
        'contentId', CASE WHEN starts_with(p_change.change_id, U&'\0001') THEN substr(p_change.change_id, 2) END,
        'schemaVersion', p_change.schema_version, 'origin', p_change.origin))
        || jsonb_build_object('fields', coalesce(p_change.fields, '{}'))
        || CASE WHEN p_change.actor IS NULL THEN '{}' ELSE jsonb_build_object('actor', p_change.actor) END
        || CASE WHEN p_change.lost IS NULL THEN '{}' ELSE jsonb_build_object('superseded', p_change.lost) END
    FROM syncd.sync_names a, syncd.sync_names u, syncd.sync_names t, syncd.sync_names d, syncd.sync_spaces s
    WHERE a.name_no = p_change.app_no AND u.name_no = p_change.user_no AND t.name_no = p_change.table_no
      AND d.name_no = p_change.client_no AND s.space_no = p_change.space_no)::text;

-- The feeds with something to fold that was written before p_before, and how far each may be: between two pushes.
CREATE OR REPLACE FUNCTION syncd.sync_foldable(p_space text, p_before timestamptz)
RETURNS TABLE (space_no integer, app_no integer, folded bigint, upto bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT h.space_no, h.app_no, coalesce(d.folded, 0), b.upto
    FROM syncd.sync_feeds h
    LEFT JOIN syncd.sync_compactions d ON d.space_no = h.space_no AND d.app_no = h.app_no
    CROSS JOIN LATERAL (SELECT CASE WHEN h.written_at < p_before THEN h.head
                                    ELSE syncd.sync_seq_before(h.space_no, h.app_no, h.head, p_before) END AS upto) b
    WHERE b.upto > coalesce(d.folded, 0)
      AND (p_space IS NULL OR h.space_no = (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space))
    ORDER BY h.space_no, h.app_no;
END $$;

-- Raises a feed's horizon, before anything is folded there: who is behind it is sent the state from then on.
CREATE OR REPLACE FUNCTION syncd.sync_raise_horizon(p_space integer, p_app integer, p_upto bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_compactions (space_no, app_no) VALUES (p_space, p_app) ON CONFLICT DO NOTHING;
    UPDATE syncd.sync_feeds h SET horizon = p_upto WHERE h.space_no = p_space AND h.app_no = p_app AND h.horizon < p_upto;
END $$;

-- A record's registers without their values, but for its tombstone: the stamps still beat what is older, and when
-- the record comes back they beat, being equal, the values that devices still have.
CREATE OR REPLACE FUNCTION syncd.sync_husk(p_registers jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(r.key, CASE WHEN r.key = 'deletedAt' THEN r.value ELSE r.value || '{"value": null}' END)
        FROM jsonb_each(p_registers) r);

-- Folds a feed from where it was folded up to p_upto, some p_rows changes of it: each record that was changed there keeps
-- the changes whose registers were current at the end, and its newest. A chain that lost a link says so: its `prev_seq`
-- becomes minus that of the next change which is left, or names one that is gone. `emptied`: tombstones that were stripped.
-- `lines`: with p_archive, the changes that go, separated by U+001E.
CREATE OR REPLACE FUNCTION syncd.sync_fold(p_space integer, p_app integer, p_upto bigint, p_rows integer, p_archive boolean,
                                OUT upto bigint, OUT looked bigint, OUT dropped bigint, OUT emptied bigint, OUT lines text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_from bigint;
BEGIN
    -- locked against erasures, which lock it too
    SELECT d.folded INTO STRICT v_from FROM syncd.sync_compactions d WHERE d.space_no = p_space AND d.app_no = p_app FOR UPDATE;
    SELECT c.push_end INTO upto FROM syncd.sync_changes c
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= v_from + p_rows ORDER BY c.seq LIMIT 1;
    upto := least(coalesce(upto, p_upto), p_upto);
    WITH RECURSIVE tops AS MATERIALIZED (
        SELECT max(c.seq) AS seq, count(*) AS n FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_from AND c.seq <= sync_fold.upto
        GROUP BY c.table_no, c.record_id
    ), walk AS (
        SELECT c.ctid AS place, t.seq AS top, c.seq, c.prev_seq, '{}'::text[] AS seen, false AS buried, syncd.sync_own_fields(c.fields) AS own,
               syncd.sync_own_deletion(c.fields) AS deletes
        FROM tops t CROSS JOIN LATERAL (
            SELECT h.ctid, h.* FROM syncd.sync_changes h WHERE h.space_no = p_space AND h.app_no = p_app AND h.seq = t.seq OFFSET 0) c
        UNION ALL
        SELECT c.ctid, w.top, c.seq, c.prev_seq, w.seen || w.own, w.buried OR w.deletes AND NOT 'deletedAt' = ANY (w.seen),
               syncd.sync_own_fields(c.fields), syncd.sync_own_deletion(c.fields)
        FROM walk w CROSS JOIN LATERAL (
            SELECT h.ctid, h.* FROM syncd.sync_changes h
            WHERE h.space_no = p_space AND h.app_no = p_app AND h.seq = abs(w.prev_seq) OFFSET 0) c
    ), judged AS MATERIALIZED (
        SELECT w.place, w.top, w.seq, w.prev_seq, w.seq = w.top OR NOT w.buried AND NOT w.own <@ w.seen AS stays FROM walk w
    ), relinked AS (
        UPDATE syncd.sync_changes c SET prev_seq = -k.older
        FROM (SELECT j.place, j.prev_seq, lead(j.seq) OVER (PARTITION BY j.top ORDER BY j.seq DESC) AS older FROM judged j WHERE j.stays) k
        WHERE c.ctid = k.place AND abs(k.prev_seq) <> k.older
    ), gone AS (
        -- by their places, which nobody else changes: however young the table's statistics are, nothing is scanned
        DELETE FROM syncd.sync_changes c WHERE c.ctid = ANY (ARRAY(SELECT j.place FROM judged j WHERE NOT j.stays))
        RETURNING c.*
    )
    SELECT (SELECT coalesce(sum(t.n), 0) FROM tops t), count(*),
           string_agg(syncd.sync_archive_line(g::syncd.sync_changes), U&'\001E' ORDER BY g.seq) FILTER (WHERE p_archive)
    INTO looked, dropped, lines FROM gone g;
    UPDATE syncd.sync_records r SET registers = syncd.sync_husk(r.registers)
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_from AND r.seq <= sync_fold.upto AND r.deleted;
    GET DIAGNOSTICS emptied = ROW_COUNT;
    UPDATE syncd.sync_compactions d SET folded = sync_fold.upto WHERE d.space_no = p_space AND d.app_no = p_app;
END $$;

-- The feeds with tombstones to look for that were written before p_before, which must be folded that far.
CREATE OR REPLACE FUNCTION syncd.sync_forgettable(p_space text, p_before timestamptz)
RETURNS TABLE (space_no integer, app_no integer, searched bigint, upto bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT h.space_no, h.app_no, d.searched, b.upto
    FROM syncd.sync_feeds h
    JOIN syncd.sync_compactions d ON d.space_no = h.space_no AND d.app_no = h.app_no
    CROSS JOIN LATERAL (SELECT least(d.folded, CASE WHEN h.written_at < p_before THEN h.head
                               ELSE syncd.sync_seq_before(h.space_no, h.app_no, h.head, p_before) END) AS upto) b
    WHERE b.upto > d.searched
      AND (p_space IS NULL OR h.space_no = (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space))
    ORDER BY h.space_no, h.app_no;
END $$;

-- Forgets some tombstones of a feed, at most p_limit, up to p_upto, with all that the log has of their records; what was erased is never
-- forgotten. Under
-- the feed's lock, as a push that has just read one of them would write to what is gone.
CREATE OR REPLACE FUNCTION syncd.sync_forget(p_space integer, p_app integer, p_upto bigint, p_limit integer, p_archive boolean,
                                  OUT searched bigint, OUT forgotten bigint, OUT dropped bigint, OUT lines text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_from bigint;
    v_seqs bigint[];
BEGIN
    SELECT d.searched INTO STRICT v_from FROM syncd.sync_compactions d WHERE d.space_no = p_space AND d.app_no = p_app FOR UPDATE;
    PERFORM FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app FOR UPDATE;
    SELECT array_agg(t.seq), max(t.seq) INTO v_seqs, searched
    FROM (SELECT r.seq FROM syncd.sync_records r
          WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_from AND r.seq <= p_upto AND r.deleted
            AND NOT syncd.sync_is_erased(r.registers)
          ORDER BY r.seq LIMIT p_limit) t;
    forgotten := coalesce(cardinality(v_seqs), 0);
    IF forgotten < p_limit THEN
        searched := p_upto;
    END IF;
    UPDATE syncd.sync_compactions d SET searched = sync_forget.searched WHERE d.space_no = p_space AND d.app_no = p_app;
    dropped := 0;
    IF forgotten = 0 THEN
        RETURN;
    END IF;
    UPDATE syncd.sync_feeds h SET forgotten = greatest(h.forgotten, g.seq), forgotten_us = greatest(h.forgotten_us, g.latest)
    FROM (SELECT max(r.seq) AS seq, max(r.latest) AS latest FROM syncd.sync_records r
          WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq = ANY (v_seqs)) g
    WHERE h.space_no = p_space AND h.app_no = p_app;
    DELETE FROM syncd.sync_records r WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq = ANY (v_seqs);
    WITH RECURSIVE walk AS (
        SELECT c.place, c.prev_seq FROM unnest(v_seqs) AS v (seq) CROSS JOIN LATERAL (
            SELECT h.ctid AS place, h.prev_seq FROM syncd.sync_changes h
            WHERE h.space_no = p_space AND h.app_no = p_app AND h.seq = v.seq OFFSET 0) c
        UNION ALL
        SELECT c.place, c.prev_seq FROM walk w CROSS JOIN LATERAL (
            SELECT h.ctid AS place, h.prev_seq FROM syncd.sync_changes h
            WHERE h.space_no = p_space AND h.app_no = p_app AND h.seq = abs(w.prev_seq) OFFSET 0) c
    ), gone AS (
        DELETE FROM syncd.sync_changes c WHERE c.ctid = ANY (ARRAY(SELECT w.place FROM walk w)) RETURNING c.*
    )
    SELECT count(*), string_agg(syncd.sync_archive_line(g::syncd.sync_changes), U&'\001E' ORDER BY g.seq) FILTER (WHERE p_archive)
    INTO dropped, lines FROM gone g;
END $$;

-- A feed that has forgotten tombstones does not know any more which unknown records were deleted. A first change of one
-- is taken where it is an insert (whose `deletedAt` says since when the record is there) that is younger than all that was
-- forgotten: an update never brings a record back.
CREATE OR REPLACE FUNCTION syncd.sync_unremembered(p_forgotten bigint, p_op integer, p_fields json) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_op = 2 OR p_op = 1 AND syncd.sync_micros((p_fields -> 'deletedAt' ->> 'at')::timestamptz) <= p_forgotten;

CREATE OR REPLACE FUNCTION syncd.sync_guard() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_forgotten bigint;
BEGIN
    SELECT h.forgotten_us INTO v_forgotten FROM syncd.sync_feeds h
    WHERE h.space_no = NEW.space_no AND h.app_no = NEW.app_no;
    IF v_forgotten > 0 THEN
        IF syncd.sync_unremembered(v_forgotten, NEW.op, NEW.fields) THEN
            RAISE EXCEPTION 'unremembered' USING ERRCODE = 'SY004';
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- Which changes of a push or an import that raised SY004 are at fault, by their places: those of erased records, and all of an unknown
-- record up to its first good insert. p_head, p_bodies: as sync_push_one or sync_import got them, whose members are named alike but for feeds.
CREATE OR REPLACE FUNCTION syncd.sync_unremembered_in(p_head jsonb, p_bodies json[]) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_tables jsonb := coalesce(p_head -> 'tables', p_head -> 'names');
BEGIN
    IF p_head ? 'user' THEN
        PERFORM syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'));
    END IF;
    RETURN syncd.sync_erased_in(p_head, p_bodies) || ARRAY(
        SELECT y.i FROM (
            SELECT x.i, bool_and(syncd.sync_unremembered(h.forgotten_us, x.o, x.f))
                            OVER (PARTITION BY p.space_no, a.name_no, x.t, x.r ORDER BY x.i) AS bad
            FROM unnest(p_bodies) AS b (body)
            CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, t integer, r text, o integer, f json)
            JOIN syncd.sync_spaces p ON p.space_id = coalesce(p_head -> 'spaces' ->> (x.s - 1), p_head -> 'feeds' -> (x.k - 1) ->> 's')
            JOIN syncd.sync_names a ON a.name = coalesce(p_head ->> 'app', v_tables ->> ((p_head -> 'feeds' -> (x.k - 1) ->> 'a')::integer - 1))
            LEFT JOIN syncd.sync_names t ON t.name = v_tables ->> (x.t - 1)
            JOIN syncd.sync_feeds h ON h.space_no = p.space_no AND h.app_no = a.name_no AND h.forgotten > 0
            WHERE NOT EXISTS (SELECT FROM syncd.sync_records q
                WHERE q.space_no = p.space_no AND q.app_no = a.name_no AND q.table_no = t.name_no AND q.record_id = x.r)) y
        WHERE y.bad ORDER BY y.i);
END $$;

-- Those of them that are of erased records alone.
CREATE OR REPLACE FUNCTION syncd.sync_erased_only(p_head jsonb, p_bodies json[]) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    PERFORM syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'));
    RETURN syncd.sync_erased_in(p_head, p_bodies);
END $$;

-- The newest p_limit names to which nothing refers but, perhaps, the log and the state, which sync_names_used looks through. A number
-- in any column that ends in `_no`, `_by` or `owners` counts as one of a name, so that a new table need not be named here. Where the
-- owner does not see all rows of one, nothing is idle.
CREATE OR REPLACE FUNCTION syncd.sync_names_idle(p_limit integer) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_unused text;
    v_blind  boolean;
    v        integer[];
BEGIN
    SELECT string_agg(format(CASE WHEN a.attname = 'owners' THEN 'NOT EXISTS (SELECT FROM syncd.%I r WHERE n.name_no = ANY (r.%I))'
                             ELSE 'NOT EXISTS (SELECT FROM syncd.%I r WHERE r.%I = n.name_no)' END, c.relname, a.attname), ' AND '),
           bool_or(c.relforcerowsecurity AND NOT EXISTS (
               SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND c.relowner = ANY (p.polroles)
               AND pg_get_expr(p.polqual, p.polrelid) = 'true'))
    INTO v_unused, v_blind
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind = 'r' AND a.attname ~ '(_no|_by|owners)$'
      AND a.atttypid IN ('integer'::regtype, 'bigint'::regtype, 'bigint[]'::regtype, 'integer[]'::regtype)
      AND a.attname NOT IN ('space_no', 'held_no', 'event_no', 'audit_no')
      -- the log and the state are looked through; of the records of digests, the buckets have each app and table; a cursor of a
      -- user who is in no space has no position
      AND c.relname NOT IN ('sync_names', 'sync_changes', 'sync_records', 'sync_digest_records', 'sync_cursors');
    IF v_blind THEN
        RETURN '{}';
    END IF;
    EXECUTE format('SELECT ARRAY(SELECT n.name_no FROM syncd.sync_names n WHERE %s ORDER BY n.name_no DESC LIMIT $1)', v_unused)
    INTO v USING p_limit;
    RETURN v;
END $$;

-- The names in the next p_rows changes of the log, or records of the state, after a place (space, app, seq), and where that ends;
-- null where there is no more.
CREATE OR REPLACE FUNCTION syncd.sync_names_used(p_state boolean, p_after bigint[], p_rows integer, OUT upto bigint[], OUT used integer[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF p_state THEN
        SELECT (array_agg(ARRAY[c.space_no, c.app_no, c.seq] ORDER BY c.space_no DESC, c.app_no DESC, c.seq DESC))[1:1],
               array_agg(DISTINCT c.table_no) || array_agg(DISTINCT c.client_no) INTO upto, used
        FROM (SELECT r.space_no, r.app_no, r.seq, r.table_no, r.client_no FROM syncd.sync_records r
              WHERE (r.space_no, r.app_no, r.seq) > (p_after[1], p_after[2], p_after[3])
              ORDER BY r.space_no, r.app_no, r.seq LIMIT p_rows) c;
    ELSE
        SELECT (array_agg(ARRAY[c.space_no, c.app_no, c.seq] ORDER BY c.space_no DESC, c.app_no DESC, c.seq DESC))[1:1],
               array_agg(DISTINCT c.table_no) || array_agg(DISTINCT c.client_no) || array_agg(DISTINCT c.user_no) INTO upto, used
        FROM (SELECT h.space_no, h.app_no, h.seq, h.table_no, h.client_no, h.user_no FROM syncd.sync_changes h
              WHERE (h.space_no, h.app_no, h.seq) > (p_after[1], p_after[2], p_after[3])
              ORDER BY h.space_no, h.app_no, h.seq LIMIT p_rows) c;
    END IF;
    upto := ARRAY(SELECT unnest(upto));
END $$;

-- Marks names as about to be removed, or takes that back. A writer that looks one up takes it back too.
CREATE OR REPLACE FUNCTION syncd.sync_names_leave(p_names integer[], p_leaving boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE syncd.sync_names n SET leaving = p_leaving WHERE n.name_no = ANY (p_names) AND n.leaving <> p_leaving;
END $$;

-- The other transactions that have read names and go on: one may have found a name before it was marked, and write with it. Of
-- p_readers, those that are still there; null: all.
CREATE OR REPLACE FUNCTION syncd.sync_names_readers(p_readers text[]) RETURNS text[]
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT DISTINCT l.virtualtransaction FROM pg_locks l
                 WHERE l.locktype = 'relation' AND l.relation = 'syncd.sync_names'::regclass AND l.pid <> pg_backend_pid()
                   AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                   AND (p_readers IS NULL OR l.virtualtransaction = ANY (p_readers)))
$$;

-- Removes names that are still marked; how many. Nobody who began after they were marked writes with one, so it is enough that
-- nothing referred to them when all who began before were done.
CREATE OR REPLACE FUNCTION syncd.sync_names_remove(p_names integer[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_reached bigint := syncd.sync_numbers_reached('name');
    v_count   bigint;
BEGIN
    -- That of the greatest number there is stays until there is a greater one, or its number could come again.
    DELETE FROM syncd.sync_names n WHERE n.name_no = ANY (p_names) AND n.leaving AND n.name_no < v_reached;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;
