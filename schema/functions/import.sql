-- Import of changes: appends to the log by the same merge as a push, with the times, devices and seqs that the lines of
-- an export name.
-- Called by the role that serves, as the acting user; by an operator, whom row security does not bind, for everybody's.

-- Merges and appends the changes of one wave of an import: no record twice. As sync_apply does, but each change has a
-- feed, an author, a device and a time of its own. Returns those whose record became too large. A folded change of a
-- record that is not there gets 0 for the change before it.
CREATE OR REPLACE FUNCTION syncd.sync_import_wave(p_names integer[], p_spaces integer[], p_apps integer[], p_ends bigint[], p_seqs bigint[],
                                       p_ats timestamptz[], p_largest integer, p_body json) RETURNS SETOF integer
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT x.*, p_spaces[x.k] AS space_no, p_apps[x.k] AS app_no, p_names[x.t] AS table_no, p_seqs[x.i] AS seq
        FROM json_to_recordset(p_body) AS x (i integer, k integer, w integer, u integer, t integer, r text, o smallint, c text,
                                             e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text, p boolean)
        WHERE p_seqs[x.i] > 0
    ), met AS MATERIALIZED (
        SELECT x.*, h.registers AS held, h.seq AS prev_seq, h.latest, h.deleted AS was_deleted,
               h.latest IS NULL OR x.lo > h.latest AS newer
        FROM incoming x
        LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r
        ) h ON true
    ), merged AS MATERIALIZED (
        SELECT y.*, greatest(y.latest, y.hi) AS newest,
               CASE WHEN y.held IS NULL THEN y.g WHEN y.newer THEN y.held || y.g ELSE z.merged END AS registers,
               CASE WHEN y.newer THEN y.f ELSE syncd.sync_imported(z.won, y.f) END AS fields, z.lost
        FROM met y
        LEFT JOIN LATERAL (SELECT m.won, m.lost, m.merged FROM (SELECT WHERE NOT y.newer OFFSET 0) late
                           CROSS JOIN LATERAL syncd.sync_merge(y.held, y.g) m OFFSET 0) z ON true
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT m.seq, p_ends[m.i], CASE WHEN m.p THEN coalesce(-m.prev_seq, 0) ELSE m.prev_seq END, p_ats[m.i], m.e, m.space_no, m.app_no, m.table_no, p_names[m.w],
               p_names[m.u], m.v, m.o, m.r, m.c, m.n, m.a::json,
               CASE WHEN m.was_deleted THEN syncd.sync_whole(m.registers, m.fields) ELSE m.fields END, m.lost::json
        FROM merged m
    ), stored AS (
        INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version,
                                             deleted, record_id, registers)
        SELECT m.seq, m.newest, m.e, m.space_no, m.app_no, m.table_no, p_names[m.u], m.v,
               m.registers ? 'deletedAt' AND m.registers -> 'deletedAt' -> 'value' <> 'null', m.r, m.registers
        FROM merged m
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT m.i FROM merged m WHERE pg_column_size(m.registers) > p_largest;
END $$;

-- Appends the changes of an import: those of records that have one in the batch by sync_import_wave, the others folded. Returns as that does.
CREATE OR REPLACE FUNCTION syncd.sync_import_append(p_names integer[], p_spaces integer[], p_apps integer[], p_ends bigint[], p_seqs bigint[],
                                         p_ats timestamptz[], p_largest integer, p_waves json[]) RETURNS SETOF integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_again  integer[];
    v_single bigint[] := p_seqs;
    v_folded bigint[];
BEGIN
    IF cardinality(p_waves) > 1 THEN
        v_again := ARRAY(SELECT y.i FROM (
            SELECT x.i, count(*) OVER (PARTITION BY x.k, x.t, x.r) AS n
            FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, k integer, t integer, r text)) y WHERE y.n > 1);
        v_folded := array_fill(0::bigint, ARRAY[cardinality(p_seqs)]);
        FOR k IN 1 .. cardinality(v_again) LOOP
            v_folded[v_again[k]] := p_seqs[v_again[k]];
            v_single[v_again[k]] := 0;
        END LOOP;
        RETURN QUERY SELECT a.i FROM syncd.sync_append_folded(NULL, NULL, p_apps, p_spaces, p_names, NULL, v_folded, NULL, p_largest, p_waves, p_ends, p_ats) a
                     WHERE a.too_large;
    END IF;
    RETURN QUERY SELECT w FROM syncd.sync_import_wave(p_names, p_spaces, p_apps, p_ends, v_single, p_ats, p_largest, p_waves[1]) w;
END $$;

-- The numbers of an import's names. An operator's makes all of them; any other those of changes that may be written (p_whys: of each
-- feed a letter, as in a receipt) and were not, nor have the change id of something else.
CREATE OR REPLACE FUNCTION syncd.sync_import_names(p_head jsonb, p_feeds integer[], p_ids text[], p_devices integer[], p_waves json[], p_whys text[])
RETURNS integer[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_said   text[] := ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'names') e);
    v_known  integer[] := syncd.sync_names_known(v_said);
    v_places integer[];
    v_names  text[];
BEGIN
    IF array_position(v_known, NULL) IS NULL OR 'a' <> ALL (p_whys) THEN
        RETURN v_known;
    ELSIF NOT p_head ? 'user' THEN
        PERFORM syncd.sync_names_put(v_said, NULL);
        RETURN syncd.sync_names_known(v_said);
    END IF;
    SELECT array_agg(x.i ORDER BY x.i, n.o), array_agg(n.name ORDER BY x.i, n.o) INTO v_places, v_names
    FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, k integer, u integer, t integer)
    CROSS JOIN LATERAL (VALUES (1, v_said[x.u]), (2, v_said[(p_head -> 'feeds' -> (x.k - 1) ->> 'a')::integer]), (3, v_said[x.t])) AS n (o, name)
    WHERE p_whys[x.k] = 'a' AND NOT EXISTS (SELECT FROM syncd.sync_used_ids(v_known[p_devices[x.i]], ARRAY[p_ids[x.i]]));
    IF v_places IS NOT NULL THEN
        PERFORM syncd.sync_names_needed(v_places, v_names);
    END IF;
    RETURN syncd.sync_names_known(v_said);
END $$;

-- Which changes of an import have the change id of one that their author's device wrote, wherever, and whether it is the same. Of
-- others' it tells an operator alone: for that it acts as each author meanwhile, which those that it is called by may not.
CREATE OR REPLACE FUNCTION syncd.sync_import_same(p_names integer[], p_spaces integer[], p_apps integer[], p_feeds integer[], p_events uuid[],
                                       p_ids text[], p_authors integer[], p_devices integer[], p_marks text[], p_waves json[])
RETURNS TABLE (i integer, same boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_acting text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_user   integer := syncd.sync_user();
    f        record;
BEGIN
    IF v_user IS NULL AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'nobody acts' USING ERRCODE = 'insufficient_privilege';
    END IF;
    FOR f IN SELECT p.author, p.device, array_agg(p.id) AS ids
             FROM unnest(p_authors, p_devices, p_ids, p_marks) AS p (author, device, id, mark)
             WHERE p.mark = 'a' AND p.id IS NOT NULL AND (v_user IS NULL OR p_names[p.author] = v_user)
             GROUP BY p.author, p.device LOOP
        PERFORM set_config(syncd.sync_acting_in(), coalesce(p_names[f.author]::text, ''), true);
        -- Mostly none of them is there: then their texts need not be read.
        CONTINUE WHEN NOT EXISTS (SELECT FROM syncd.sync_receipts(p_names[f.device], f.ids));
        RETURN QUERY
        SELECT p.i::integer, c.event_id = p.event OR syncd.sync_same_content(c.fields, c.op, x.f, x.o) AND c.space_no = p_spaces[p.feed]
               AND c.app_no = p_apps[p.feed] AND c.record_id = x.r AND c.table_no = p_names[x.t]
        FROM syncd.sync_receipts(p_names[f.device], f.ids) c
        JOIN unnest(p_feeds, p_events, p_authors, p_devices, p_ids, p_marks) WITH ORDINALITY AS p (feed, event, author, device, id, mark, i)
          ON p.id = c.change_id AND p.author = f.author AND p.device = f.device AND p.mark = 'a'
        JOIN (SELECT y.* FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body)
              AS y (i integer, t integer, r text, o integer, f jsonb)) x ON x.i = p.i;
    END LOOP;
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
END $$;

-- The numbers of an import's spaces (0: not there), and of each a letter as in a receipt. p_user: null for an operator, who may write
-- everywhere; of anybody else the memberships are held, as in a push.
CREATE OR REPLACE FUNCTION syncd.sync_import_may(p_user integer, p_spaces text[], OUT spaces integer[], OUT whys text[])
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_user IS NULL THEN
        SELECT array_agg(coalesce(s.space_no, 0) ORDER BY e.k), array_agg(CASE WHEN s.space_no IS NULL THEN 'n' ELSE 'a' END ORDER BY e.k)
        INTO spaces, whys FROM unnest(p_spaces) WITH ORDINALITY AS e (id, k) LEFT JOIN syncd.sync_spaces s ON s.space_id = e.id;
    ELSE
        SELECT m.spaces, m.whys INTO spaces, whys FROM syncd.sync_push_may(p_user, p_spaces) m;
    END IF;
END $$;

-- Locks the feeds of an import: the numbers of their apps, and their heads. p_user: as in sync_import_may.
CREATE OR REPLACE FUNCTION syncd.sync_import_lock(p_user integer, p_head jsonb, p_names integer[], p_spaces integer[],
                                       OUT apps integer[], OUT heads bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_app  integer;
    v_head bigint;
BEGIN
    apps := '{}';
    heads := '{}';
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        v_app := p_names[(p_head -> 'feeds' -> (k - 1) ->> 'a')::integer];
        v_head := 0;
        IF p_spaces[k] > 0 AND p_user IS NULL THEN
            SELECT a.base INTO v_head FROM syncd.sync_take(p_spaces[k], v_app, 0) a;
        ELSIF p_spaces[k] > 0 AND v_app IS NOT NULL THEN
            SELECT a.base INTO v_head FROM syncd.sync_advance(p_spaces[k], v_app, 0) a;
        END IF;
        apps := apps || v_app;
        heads := heads || v_head;
    END LOOP;
END $$;

-- By change of an import, whether it is to be appended, there already or refused: a letter as sync_import has it. A change is there at its
-- place in the feed that it came from, or anywhere under its device's id for it.
CREATE OR REPLACE FUNCTION syncd.sync_import_marks(p_names integer[], p_spaces integer[], p_whys text[], p_apps integer[], p_heads bigint[],
                                        p_feeds integer[], p_seqs bigint[], p_events uuid[], p_ids text[], p_authors integer[],
                                        p_devices integer[], p_waves json[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_marks text[] := ARRAY(SELECT p_whys[p.feed] FROM unnest(p_feeds) WITH ORDINALITY AS p (feed, i) ORDER BY p.i);
    d       record;
BEGIN
    FOR d IN SELECT p.i FROM unnest(p_feeds, p_seqs, p_events) WITH ORDINALITY AS p (feed, seq, event, i)
             CROSS JOIN LATERAL (SELECT c.event_id, c.user_no FROM syncd.sync_changes c
                 WHERE c.space_no = p_spaces[p.feed] AND c.app_no = p_apps[p.feed] AND c.seq = p.seq OFFSET 0) c
             WHERE p.seq <= p_heads[p.feed] AND c.event_id = p.event AND c.user_no = p_names[p_authors[p.i]] LOOP
        v_marks[d.i] := 'd';
    END LOOP;
    FOR d IN SELECT s.* FROM syncd.sync_import_same(p_names, p_spaces, p_apps, p_feeds, p_events, p_ids, p_authors, p_devices, v_marks, p_waves) s LOOP
        v_marks[d.i] := CASE WHEN d.same THEN 'd' ELSE 'u' END;
    END LOOP;
    RETURN v_marks;
END $$;

-- Takes seqs of one feed, number p_k of an import, for its p_count changes that are to be appended: as they were in the export, up to p_last
-- (`kept`), where it stood at p_head before them as well, else the next ones. reached: the new head. A user skips fewer than 2^20 of a
-- feed's numbers at once: what was folded where an export comes from can leave such a gap, which nobody needs.
CREATE OR REPLACE FUNCTION syncd.sync_import_take(p_user integer, p_space integer, p_app integer, p_head bigint, p_after bigint, p_last bigint,
                                       p_count bigint, OUT kept boolean, OUT reached bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    kept := p_after = p_head AND p_last - p_head < CASE WHEN p_user IS NULL THEN 1 << 30 ELSE 1 << 20 END;
    reached := CASE WHEN kept THEN p_last ELSE p_head + p_count END;
    IF p_user IS NULL THEN
        SELECT a.written_at INTO written_at FROM syncd.sync_take(p_space, p_app, reached - p_head) a;
    ELSE
        SELECT a.written_at INTO written_at FROM syncd.sync_advance(p_space, p_app, (reached - p_head)::integer) a;
    END IF;
END $$;

-- The places of an import's changes in the log: by change its seq (0: it is not appended), the end of its push and its time, which is kept
-- with the seq, and never falls; by feed its new head (0: nothing is appended).
CREATE OR REPLACE FUNCTION syncd.sync_import_places(p_user integer, p_head jsonb, p_spaces integer[], p_apps integer[], p_heads bigint[],
                                         p_feeds integer[], p_seqs bigint[], p_ends bigint[], p_ats timestamptz[], p_marks text[],
                                         OUT seqs bigint[], OUT ends bigint[], OUT ats timestamptz[], OUT heads bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_last_at timestamptz;
    v_kept    boolean[];
    v_written timestamptz[];
    v_since   timestamptz[];
    t         record;
    d         record;
BEGIN
    heads := array_fill(0::bigint, ARRAY[cardinality(p_spaces)]);
    FOR d IN SELECT p.feed AS k, count(*) AS count, max(p.seq) AS last
             FROM unnest(p_feeds, p_seqs, p_marks) AS p (feed, seq, mark) WHERE p.mark = 'a' GROUP BY p.feed ORDER BY p.feed LOOP
        t := syncd.sync_import_take(p_user, p_spaces[d.k], p_apps[d.k], p_heads[d.k], (p_head -> 'feeds' -> (d.k - 1) ->> 'after')::bigint, d.last, d.count);
        SELECT c.created_at INTO v_last_at FROM syncd.sync_changes c
        WHERE c.space_no = p_spaces[d.k] AND c.app_no = p_apps[d.k] AND c.seq <= p_heads[d.k] ORDER BY c.seq DESC LIMIT 1;
        v_kept[d.k] := t.kept; v_written[d.k] := t.written_at; v_since[d.k] := v_last_at; heads[d.k] := t.reached;
    END LOOP;
    SELECT array_agg(CASE WHEN y.here THEN y.place ELSE 0 END ORDER BY y.i), array_agg(CASE WHEN y.here THEN y.last ELSE y.pushed END ORDER BY y.i),
           array_agg(CASE WHEN NOT y.here THEN y.at WHEN v_kept[y.k] THEN greatest(v_since[y.k], y.latest) ELSE v_written[y.k] END ORDER BY y.i)
    INTO seqs, ends, ats
    FROM (SELECT x.*, max(x.place) OVER (PARTITION BY x.k, x.here, x.pushed) AS last,
                 max(least(x.at, v_written[x.k])) OVER (PARTITION BY x.k, x.here ORDER BY x.i) AS latest
          FROM (SELECT p.*, CASE WHEN v_kept[p.k] THEN p.seq ELSE p_heads[p.k] + row_number() OVER (PARTITION BY p.k, p.here ORDER BY p.i) END AS place
                FROM (SELECT f.k, f.seq, f.pushed, f.at, f.i, f.mark = 'a' AS here
                      FROM unnest(p_feeds, p_seqs, p_ends, p_marks, p_ats) WITH ORDINALITY AS f (k, seq, pushed, mark, at, i)) p) x) y;
END $$;

-- One batch of an import, whole pushes in the order of the log. p_head: {"user"?, "list"?, "asOf"?, "personal"?,
-- "largest", "touched"?, "names": [users, apps, tables, devices], "feeds": [{"s": space, "a": app (place in names), "after": the seq
-- before this batch in the export}]}, feeds in the order of their spaces' ids; without "user" it is an operator's.
-- By change: its feed, seq, end of push, time, event id, change id (null: none), author and device (places in names).
-- p_waves: what the log keeps of them, in waves, no record twice in one.
-- marks, by change: a appended, d there already, u change id used for something else, n no such space, r not a writer.
-- A feed that stands where the export stood gets the same seqs; any other gets new ones, at the time of the import.
-- Raises SY001 (records too large: their places), SY004 (of an operator's, what was erased: their places; else no places), SY008 (the first change that makes it touch more bytes than "touched"), SY011 (changes
-- that need too many names: their places), SY012 (as sync_push_one).
CREATE OR REPLACE FUNCTION syncd.sync_import(p_head jsonb, p_feeds integer[], p_seqs bigint[], p_ends bigint[], p_ats text[], p_events uuid[],
                                  p_ids text[], p_authors integer[], p_devices integer[], p_waves json[],
                                  OUT marks text, OUT heads bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    v_user  integer;
    v_ids   text[] := ARRAY(SELECT e.f ->> 's' FROM jsonb_array_elements(p_head -> 'feeds') WITH ORDINALITY AS e (f, k) ORDER BY e.k);
    v_names integer[];
    v_marks text[];
    v_large integer[];
    v_gone  integer[];
    v_first integer;
    m       record;
    f       record;
    p       record;
BEGIN
    IF p_head ? 'user' THEN
        v_user := syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ?| ARRAY['list', 'personal']);
        PERFORM syncd.sync_adopt_said(p_head);
    END IF;
    -- Memberships are held, names made, and feeds locked, as in a push.
    m := syncd.sync_import_may(v_user, v_ids);
    IF v_user IS NULL AND has_function_privilege('syncd.sync_import_erased(jsonb, integer[], timestamptz[], integer[], json[])', 'EXECUTE') THEN
        v_gone := syncd.sync_import_erased(p_head, p_feeds, p_ats::timestamptz[], p_authors, p_waves);
        IF v_gone <> '{}' THEN
            RAISE EXCEPTION 'erased' USING ERRCODE = 'SY004', DETAIL = array_to_json(v_gone)::text;
        END IF;
    END IF;
    v_names := syncd.sync_import_names(p_head, p_feeds, p_ids, p_devices, p_waves, m.whys);
    f := syncd.sync_import_lock(v_user, p_head, v_names, m.spaces);
    v_marks := syncd.sync_import_marks(v_names, m.spaces, m.whys, f.apps, f.heads, p_feeds, p_seqs, p_events, p_ids, p_authors, p_devices, p_waves);
    IF v_user IS NOT NULL THEN
        PERFORM syncd.sync_check_writable(v_user, f.apps, m.spaces, v_names, v_marks, p_waves);
    END IF;
    p := syncd.sync_import_places(v_user, p_head, m.spaces, f.apps, f.heads, p_feeds, p_seqs, p_ends, p_ats::timestamptz[], v_marks);
    IF p_head ? 'touched' THEN
        SELECT min(e) INTO v_first FROM syncd.sync_beyond(f.apps, m.spaces, v_names, p.seqs, (p_head ->> 'touched')::bigint, p_waves) t, unnest(t.beyond) e;
        IF v_first IS NOT NULL THEN
            RAISE EXCEPTION 'touched' USING ERRCODE = 'SY008', DETAIL = json_build_array(v_first)::text;
        END IF;
    END IF;
    v_large := ARRAY(SELECT syncd.sync_import_append(v_names, m.spaces, f.apps, p.ends, p.seqs, p.ats, (p_head ->> 'largest')::integer, p_waves));
    IF v_large <> '{}' THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = array_to_json(v_large)::text;
    END IF;
    marks := array_to_string(v_marks, '');
    heads := p.heads;
END $$;
