-- Cursors of users in many spaces. Such a cursor names a row of sync_cursors, and says itself only what has moved since: a seq of
-- -1 takes a space out. So it stays short, and a device that misses nothing, or little, has nothing written for it.
-- Called by the role that serves: sync_cursor_keep and sync_cursor_at by itself, the others by functions. The role that
-- compacts calls sync_cursors_collect.

-- How the phases of a feed's reading follow each other, and how `base` says which one it is in. A new device sweeps the state from the
-- head, H, down, `seq` being how far down: -2 - 3H the tables of "first", -3 - 3H the `rest`. What was touched meanwhile lies above H: it
-- comes as `state`, in ascending order (0 or more: tombstones after it matter), and then the `log` (-1). A reader of the `history` gets the
-- log from its start: -4 - 3H up to the head then, as no tombstone matters that is gone.
-- Statements take these in as parts of themselves, so that they cost nothing more.
CREATE OR REPLACE FUNCTION syncd.sync_phase(p_base bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_base = -1 THEN 'log' WHEN p_base >= 0 THEN 'state' ELSE (ARRAY['first', 'rest', 'history'])[1 + (-2 - p_base) % 3] END;

-- The head from which a feed is swept, or up to which its history is read.
CREATE OR REPLACE FUNCTION syncd.sync_phase_head(p_base bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (-2 - p_base) / 3;

-- `base` in a phase that has such a head.
CREATE OR REPLACE FUNCTION syncd.sync_phase_base(p_phase text, p_head bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_phase WHEN 'first' THEN -2 WHEN 'rest' THEN -3 ELSE -4 END - 3 * p_head;

-- `base` in the phase after one that began at p_from, from where the reading goes on; null: there is none, it is at the feed's head.
CREATE OR REPLACE FUNCTION syncd.sync_phase_after(p_phase text, p_from bigint, p_head bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_phase = 'first' THEN -3 - 3 * p_from  -- the first tables are there: now the others
            WHEN p_from >= p_head THEN NULL WHEN p_phase = 'rest' THEN p_from WHEN p_phase = 'history' THEN -1 END;

-- Where a kept cursor stands: p_since as for a pull, with "row". Null where the row is not there.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_places(p_user integer, p_since jsonb, OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_spaces integer[] := ARRAY(SELECT e::integer FROM jsonb_array_elements_text(p_since -> 's') e);
    v_seqs   bigint[] := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(p_since -> 'q') e);
    v_bases  bigint[] := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(p_since -> 'b') e);
    v_found  integer[] := '{}';
    v_at     integer;
    f        record;
BEGIN
    SELECT k.spaces::integer[], k.seqs, coalesce(k.bases, array_fill(-1::bigint, ARRAY[cardinality(k.spaces)]))
    INTO spaces, seqs, bases FROM syncd.sync_cursors k WHERE k.user_no = p_user AND k.name = (p_since ->> 'row')::bigint;
    IF spaces IS NULL OR v_spaces = '{}' THEN
        RETURN;
    END IF;
    -- "IS TRUE" keeps it a lookup in a hash of the few for each of the many
    FOR f IN SELECT u.k, u.space_no FROM unnest(spaces) WITH ORDINALITY AS u (space_no, k)
             WHERE (u.space_no IN (SELECT unnest(v_spaces))) IS TRUE LOOP
        v_at := array_position(v_spaces, f.space_no);
        seqs[f.k] := v_seqs[v_at];
        bases[f.k] := v_bases[v_at];
        v_found := v_found || f.space_no;
    END LOOP;
    FOR f IN SELECT u.* FROM unnest(v_spaces, v_seqs, v_bases) AS u (space_no, seq, base) WHERE NOT u.space_no = ANY (v_found) LOOP
        spaces := spaces || f.space_no;
        seqs := seqs || f.seq;
        bases := bases || f.base;
    END LOOP;
    IF -1 = ANY (v_seqs) THEN
        SELECT array_agg(u.space_no), array_agg(u.seq), array_agg(u.base) INTO spaces, seqs, bases
        FROM unnest(spaces, seqs, bases) AS u (space_no, seq, base) WHERE u.seq >= 0;
        spaces := coalesce(spaces, '{}'); seqs := coalesce(seqs, '{}'); bases := coalesce(bases, '{}');
    END IF;
END $$;

-- Where any cursor stands, p_since as for a pull.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_positions(p_user integer, p_since jsonb) RETURNS TABLE (space_no integer, seq bigint, base bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_since ? 'row' THEN
        RETURN QUERY SELECT u.* FROM syncd.sync_cursor_places(p_user, p_since) c, unnest(c.spaces, c.seqs, c.bases) u;
    ELSE
        RETURN QUERY SELECT a.e::integer, q.e::bigint, b.e::bigint
            FROM jsonb_array_elements_text(p_since -> 's') WITH ORDINALITY a (e, k)
            JOIN jsonb_array_elements_text(p_since -> 'q') WITH ORDINALITY q (e, k) ON q.k = a.k
            JOIN jsonb_array_elements_text(p_since -> 'b') WITH ORDINALITY b (e, k) ON b.k = a.k;
    END IF;
END $$;

-- Whether a cursor of this start of the database has missed nothing: p_spaces, ascending, are all that the user is in, and no feed has
-- moved. Of one start no head goes down: where none has gone up, their sum is what it was.
CREATE OR REPLACE FUNCTION syncd.sync_unmoved(p_user integer, p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[]) RETURNS boolean
LANGUAGE sql STABLE
RETURN NOT -1 <> ANY (p_bases)
   AND p_spaces = ARRAY(SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = p_user ORDER BY m.space_no)
   AND (SELECT sum(u.seq) FROM unnest(p_seqs) AS u (seq)) = (SELECT coalesce(sum(h.head), 0) FROM syncd.sync_feeds h
                                                             WHERE h.space_no = ANY (p_spaces) AND h.app_no = p_app);

-- Where a kept cursor stands, and what the heads of its feeds say, as sync_pull_acting looks at those of few: in how many of its spaces the user still
-- is, in how many in all, which of its feeds have news, and whether it is lost. FULL JOIN and the ANY are for one pass through each
-- of the indexes and hashes of the rest: a planner that does not know how many there are would look for each feed by itself.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_news(p_user integer, p_app integer, p_since jsonb, p_boot timestamptz, OUT spaces integer[],
    OUT seqs bigint[], OUT bases bigint[], OUT matched integer, OUT members integer, OUT active integer[], OUT trouble text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_since timestamptz := to_timestamp((p_since ->> 'boot')::bigint / 1000000.0);
BEGIN
    SELECT c.* INTO spaces, seqs, bases FROM syncd.sync_cursor_places(p_user, p_since) c;
    IF spaces IS NULL THEN
        spaces := '{}'; trouble := 'lost';
        RETURN;
    END IF;
    IF v_since = p_boot AND syncd.sync_unmoved(p_user, p_app, spaces, seqs, bases) THEN
        matched := cardinality(spaces); members := matched;
        RETURN;
    END IF;
    SELECT count(m.space_no) FILTER (WHERE c.space_no IS NOT NULL), count(m.space_no),
           array_agg(c.k::integer ORDER BY c.k) FILTER (WHERE m.space_no IS NOT NULL AND (h.head > c.seq OR c.base <> -1)),
           CASE WHEN bool_or(m.space_no IS NOT NULL AND c.space_no IS NOT NULL AND (coalesce(h.head, 0) < c.upto
                OR h.booted > v_since AND EXISTS (
                    SELECT FROM unnest(h.boots, h.bases) AS b (at, base) WHERE b.at > v_since AND b.base < c.upto)
                OR h.forgotten > c.knows AND c.seq > 0))
                OR v_since <> p_boot AND syncd.sync_is_strange(v_since, spaces) THEN 'lost' END
    INTO matched, members, active, trouble
    FROM (SELECT u.*, CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) ELSE u.seq END AS upto,
                 CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) WHEN u.base < 0 THEN u.seq ELSE u.base END AS knows
          FROM unnest(spaces, seqs, bases) WITH ORDINALITY AS u (space_no, seq, base, k)) c
    FULL JOIN (SELECT q.space_no FROM syncd.sync_memberships q WHERE q.user_no = p_user OFFSET 0) m ON m.space_no = c.space_no
    FULL JOIN (SELECT q.space_no, q.head, q.forgotten, q.boots, q.bases, q.boots[cardinality(q.boots)] AS booted FROM syncd.sync_feeds q
               WHERE q.space_no = ANY (spaces) AND q.app_no = p_app OFFSET 0) h ON h.space_no = m.space_no;
END $$;

-- The positions of some spaces among all, as a cursor says them; -1 for a space that is not there any more.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_changes(p_changed integer[], p_spaces integer[], p_seqs bigint[], p_bases bigint[],
    OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[])
LANGUAGE sql STABLE AS $$
    WITH here AS MATERIALIZED (
        SELECT u.* FROM unnest(p_spaces, p_seqs, p_bases) AS u (space_no, seq, base)
        WHERE (u.space_no IN (SELECT unnest(p_changed))) IS TRUE
    ), every AS (
        SELECT h.* FROM here h
        UNION ALL
        SELECT DISTINCT c.space_no, -1::bigint, -1::bigint FROM unnest(p_changed) AS c (space_no)
        WHERE (c.space_no IN (SELECT h.space_no FROM here h)) IS NOT TRUE
    )
    SELECT coalesce(array_agg(e.space_no), '{}'), coalesce(array_agg(e.seq), '{}'), coalesce(array_agg(e.base), '{}') FROM every e
$$;

-- That a row was used, where nobody noted it today. A holder of its lock notes it too.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_used(p_user integer, p_since jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE syncd.sync_cursors k SET used_at = clock_timestamp() WHERE (k.user_no, k.name) IN (
        SELECT o.user_no, o.name FROM syncd.sync_cursors o
        WHERE o.user_no = p_user AND o.name = (p_since ->> 'row')::bigint AND o.used_at < clock_timestamp() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED);
END $$;

-- Takes away the acting user's rows that were not used for longest, of a line to which one came. A user has so many lines, and each
-- so many rows: a device needs the one that it names, and those that are still on their way.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_prune(p_line bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_lines CONSTANT integer := 64;
    v_rows  CONSTANT integer := 4;
    v_user  integer := syncd.sync_user();
BEGIN
    DELETE FROM syncd.sync_cursors k WHERE k.user_no = v_user AND k.name IN (
        SELECT o.name FROM syncd.sync_cursors o WHERE o.user_no = v_user AND o.line = p_line ORDER BY o.used_at DESC OFFSET v_rows);
    DELETE FROM syncd.sync_cursors k WHERE k.user_no = v_user AND k.line IN (
        SELECT o.line FROM syncd.sync_cursors o WHERE o.user_no = v_user GROUP BY o.line ORDER BY max(o.used_at) DESC OFFSET v_lines);
END $$;

-- Keeps positions under a new name: all of them, or with p_base what has moved since that row. False where it is not there. Those
-- of the user that were not used for longest go.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_keep(p_user text, p_name bigint, p_base bigint, p_spaces integer[], p_seqs bigint[], p_bases bigint[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_act_as(p_user);
    v_line bigint := p_name;
BEGIN
    IF p_base IS NOT NULL THEN
        UPDATE syncd.sync_cursors k SET used_at = clock_timestamp() WHERE k.user_no = v_user AND k.name = p_base
        RETURNING k.line INTO v_line;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        SELECT c.spaces, c.seqs, c.bases INTO p_spaces, p_seqs, p_bases FROM syncd.sync_cursor_places(
            v_user, jsonb_build_object('row', p_base, 's', p_spaces, 'q', p_seqs, 'b', p_bases)) c;
    END IF;
    INSERT INTO syncd.sync_cursors (user_no, name, line, used_at, spaces, seqs, bases)
    SELECT v_user, p_name, v_line, clock_timestamp(), coalesce(array_agg(u.space_no ORDER BY u.space_no), '{}'),
           coalesce(array_agg(u.seq ORDER BY u.space_no), '{}'),
           CASE WHEN bool_or(u.base <> -1) THEN array_agg(u.base ORDER BY u.space_no) END
    FROM unnest(p_spaces, p_seqs, p_bases) AS u (space_no, seq, base);
    PERFORM syncd.sync_cursor_prune(v_line);
    RETURN true;
END $$;

-- All positions of a kept cursor, p_since as for a pull: for who listens to every feed. Null where the row is not there.
CREATE OR REPLACE FUNCTION syncd.sync_cursor_at(p_user text, p_since jsonb, OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT c.spaces, c.seqs, c.bases INTO spaces, seqs, bases FROM syncd.sync_cursor_places(syncd.sync_act_as(p_user), p_since) c;
END $$;

-- Takes away rows that were not used since p_before, at most p_most: how many there were.
CREATE OR REPLACE FUNCTION syncd.sync_cursors_collect(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM syncd.sync_cursors k WHERE (k.user_no, k.name) IN (
            SELECT o.user_no, o.name FROM syncd.sync_cursors o WHERE o.used_at < p_before ORDER BY o.used_at LIMIT p_most)
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
