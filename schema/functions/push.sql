-- Writing: one call is one push, or several small ones that share a flush. Under the feed's lock it checks membership
-- and what was pushed before (functions/idempotency.sql), takes consecutive seqs (functions/feeds.sql), and has the changes merged
-- register by register (functions/merge.sql) and appended (functions/append.sql).
-- Called by the role that serves: sync_push.

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
    v_done := ARRAY(SELECT syncd.sync_used_ids(v_known[1], ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'ids') e)));
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
    IF EXISTS (SELECT FROM syncd.sync_used_ids(p_names[1], v_ids)) THEN
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
-- [[place, [field]]]), SY011 (changes that need too many names: their places), SY012 (changes that the user's role may not write: [[place,
-- field or null, text]]).
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
    PERFORM syncd.sync_check_writable(v_user, array_fill(v_names[2], ARRAY[cardinality(v_ids)]), v_may.spaces, v_names[3:], v_place.marks, p_bodies);

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

-- Whether a push may have to make what others wait for: a name, or what is held. p_head: as in sync_push_one.
CREATE OR REPLACE FUNCTION syncd.sync_push_makes(p_head jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN p_head ? 'incarnations' OR array_position(syncd.sync_names_known(
        ARRAY[p_head ->> 'user', p_head ->> 'client', p_head ->> 'app'] || ARRAY(SELECT jsonb_array_elements_text(p_head -> 'tables'))), NULL) IS NOT NULL;
END $$;

-- Whether a push has a change that its user may not write: it would undo those of a group. Those that were written before are asked as well.
CREATE OR REPLACE FUNCTION syncd.sync_push_unwritable(p_head jsonb, p_bodies json[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_names integer[];
    v_user  integer;
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_writable_by) THEN
        RETURN false;
    END IF;
    v_names := syncd.sync_names_known(ARRAY[p_head ->> 'app'] || ARRAY(SELECT jsonb_array_elements_text(p_head -> 'tables')));
    IF NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = v_names[1] AND w.table_no = ANY (v_names[2:])) THEN
        RETURN false;
    END IF;
    v_user := syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'));
    RETURN EXISTS (
        SELECT FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (s integer, t integer, g jsonb)
        JOIN syncd.sync_spaces p ON p.space_id = p_head -> 'spaces' ->> (x.s - 1)
        JOIN syncd.sync_memberships m ON m.user_no = v_user AND m.space_no = p.space_no AND m.role <> 'owner'
        WHERE syncd.sync_unwritable_field(m.role, v_names[1], v_names[x.t + 1], ARRAY(SELECT jsonb_object_keys(x.g))) IS NOT NULL);
END $$;

-- Pushes, each under its own user, in one transaction. p_waves: how many of p_bodies belong to each.
-- p_patience: how long to wait for a lock, for a group whose members can also be pushed alone. A push whose head says "grouped"
-- and that would make something gets a receipt of nulls, and is to come alone: it would wait for others with a name while the
-- group has feeds, and a push that comes alone has names first. So does one that has what its user may not write.
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
        v_from := v_from + p_waves[k];
        IF v_head -> 'held' ?| ARRAY['own', 'put', 'release'] THEN
            IF v_head ? 'grouped' THEN
                RETURN NEXT v;
                CONTINUE;
            ELSIF v_head -> 'held' ? 'own' THEN
                PERFORM syncd.sync_make_spaces(coalesce(v_head ->> 'context', v_head ->> 'user'), v_head -> 'held' -> 'own', v_head -> 'held' -> 'bounds');
            END IF;
        END IF;
        IF v_head ->> 'n' = '1' AND NOT v_head ?| ARRAY['list', 'incarnations', 'tells'] THEN
            v := syncd.sync_push_single(v_head, p_bodies[v_from - p_waves[k]]);
        END IF;
        IF v.marks IS NULL THEN
            IF v_head ? 'grouped' AND (syncd.sync_push_makes(v_head)
                                       OR syncd.sync_push_unwritable(v_head, p_bodies[v_from - p_waves[k] : v_from - 1])) THEN
                RETURN NEXT v;
                CONTINUE;
            END IF;
            PERFORM syncd.sync_start();
            IF v_head ? 'tells' THEN
                PERFORM set_config('syncd.tells', 'yes', true);
            END IF;
            v := syncd.sync_push_one(v_head, p_bodies[v_from - p_waves[k] : v_from - 1]);
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
    END LOOP;
END $$;
