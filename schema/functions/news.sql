-- What is new for a cursor: which of its feeds have moved, which spaces its user has left, and which were joined.
-- Called by functions alone.

-- The last seq that was certainly committed before p_at, by bisection: created_at never falls within a feed.
CREATE OR REPLACE FUNCTION syncd.sync_seq_before(p_space integer, p_app integer, p_head bigint, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low  bigint := 0;
    v_high bigint := p_head;
    v_mid  bigint;
    v_at   timestamptz;
BEGIN
    WHILE v_low < v_high LOOP
        v_mid := (v_low + v_high + 1) / 2;
        SELECT c.created_at INTO v_at FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= v_mid ORDER BY c.seq LIMIT 1;
        IF v_at < p_at THEN v_low := v_mid; ELSE v_high := v_mid - 1; END IF;
    END LOOP;
    RETURN v_low;
END $$;

-- The ids of those of p_spaces that the acting user is no longer a member of. The numbers come out
-- of a signed cursor, so the user has known them. One whose id was given to a new space since is named as it was. A number
-- without a space, or of one that was erased: null, for all that came from there has to go.
CREATE OR REPLACE FUNCTION syncd.sync_gone(p_spaces integer[]) RETURNS TABLE (space_no integer, space_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.no, CASE WHEN s.erased_at IS NULL THEN coalesce(s.former_id, s.space_id) END FROM unnest(p_spaces) AS n (no) LEFT JOIN syncd.sync_spaces s ON s.space_no = n.no
    WHERE NOT EXISTS (SELECT FROM syncd.sync_memberships m
                      WHERE m.user_no = syncd.sync_user() AND m.space_no = n.no)
$$;

-- The instant of a cursor in microseconds; where it is still to come nobody has seen anything up to it: the beginning. Only
-- the first generation sends instants that a server of ours did not make.
CREATE OR REPLACE FUNCTION syncd.sync_seen(p_at bigint, p_legacy boolean) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN p_legacy AND p_at > syncd.sync_micros(now()) THEN 0 ELSE p_at END;

-- What the heads of a cursor's feeds say: in how many of its spaces the user still is, in how many in all, which of its feeds have
-- news, and whether it is lost: no log of ours has seen a position, or its device could not be told any more that a record it may
-- have was deleted. A statement takes it in as a part of itself, like a view.
CREATE OR REPLACE FUNCTION syncd.sync_heads_news(p_user integer, p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[],
                                      p_since timestamptz, p_boot timestamptz)
RETURNS TABLE (matched integer, members integer, active integer[], trouble text)
LANGUAGE sql STABLE AS $$
    SELECT count(m.space_no)::integer, (SELECT count(*) FROM syncd.sync_memberships q WHERE q.user_no = p_user)::integer,
           array_agg(c.k::integer ORDER BY c.k) FILTER (WHERE m.space_no IS NOT NULL AND (h.head > c.seq OR c.base <> -1)),
           CASE WHEN bool_or(m.space_no IS NOT NULL AND (coalesce(h.head, 0) < c.upto
                OR h.boots[cardinality(h.boots)] > p_since AND EXISTS (
                    SELECT FROM unnest(h.boots, h.bases) AS b (at, base) WHERE b.at > p_since AND b.base < c.upto)
                OR h.forgotten > c.knows AND c.seq > 0))
                OR p_since <> p_boot AND syncd.sync_is_strange(p_since, p_spaces) THEN 'lost' END
    FROM (SELECT u.*, CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) ELSE u.seq END AS upto,
                 CASE WHEN u.base < -1 THEN syncd.sync_phase_head(u.base) WHEN u.base < 0 THEN u.seq ELSE u.base END AS knows
          FROM unnest(p_spaces, p_seqs, p_bases) WITH ORDINALITY AS u (space_no, seq, base, k)) c
    LEFT JOIN syncd.sync_memberships m ON m.user_no = p_user AND m.space_no = c.space_no
    LEFT JOIN syncd.sync_feeds h ON h.space_no = m.space_no AND h.app_no = p_app
$$;

-- How many of the user's spaces a device has chosen, and where its cursor stands without the others, and without those that it does not
-- have any more. A space that the user has left stays: it is told.
CREATE OR REPLACE FUNCTION syncd.sync_chosen(p_user integer, p_how jsonb, p_spaces integer[], p_seqs bigint[], p_bases bigint[],
                                  OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[], OUT members integer)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(array_agg(c.space_no), '{}'), coalesce(array_agg(c.seq), '{}'), coalesce(array_agg(c.base), '{}') INTO spaces, seqs, bases
    FROM unnest(p_spaces, p_seqs, p_bases) AS c (space_no, seq, base)
    LEFT JOIN syncd.sync_memberships m ON m.user_no = p_user AND m.space_no = c.space_no
    LEFT JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE s.space_id IS NULL OR (NOT p_how ? 'spaces' OR p_how -> 'spaces' ? s.space_id) AND (NOT p_how ? 'known' OR p_how -> 'known' ? s.space_id);
    members := CASE WHEN p_how ? 'spaces' THEN (SELECT count(*) FROM jsonb_array_elements_text(p_how -> 'spaces') e
        JOIN syncd.sync_spaces s ON s.space_id = e JOIN syncd.sync_memberships m ON m.user_no = p_user AND m.space_no = s.space_no) END;
END $$;

-- Without the spaces where the user is not a member any more: their ids and numbers (null: there are none), and the positions in
-- the others. lost: of one of them nobody knows.
CREATE OR REPLACE FUNCTION syncd.sync_left(p_spaces integer[], p_seqs bigint[], p_bases bigint[], OUT ids text[], OUT numbers integer[], OUT lost boolean,
                                OUT spaces integer[], OUT seqs bigint[], OUT bases bigint[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT array_agg(g.space_id), array_agg(g.space_no), bool_or(g.space_id IS NULL) INTO ids, numbers, lost FROM syncd.sync_gone(p_spaces) g;
    SELECT coalesce(array_agg(c.space_no), '{}'), coalesce(array_agg(c.seq), '{}'), coalesce(array_agg(c.base), '{}') INTO spaces, seqs, bases
    FROM unnest(p_spaces, p_seqs, p_bases) AS c (space_no, seq, base) WHERE (c.space_no IN (SELECT unnest(numbers))) IS NOT TRUE;
END $$;

-- The acting user's spaces but p_but, where a pull begins in each, and whether it is new to the device. lost: it cannot be told of a
-- deletion that is forgotten. A device that names an instant, or speaks as the first generation, may hold records that were deleted since:
-- base 0 sends tombstones.
CREATE OR REPLACE FUNCTION syncd.sync_joined(p_user integer, p_app integer, p_since jsonb, p_how jsonb, p_but integer[], p_at timestamptz,
                                  p_legacy boolean, p_own_spaces integer[], p_own_bases bigint[])
RETURNS TABLE (space_no integer, space_id text, is_new boolean, seq bigint, base bigint, lost boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_cut   bigint;
    v_start bigint;
    f       record;
BEGIN
    FOR f IN SELECT s.space_no, s.space_id, m.joined_at, h.head, h.forgotten FROM syncd.sync_memberships m
             JOIN syncd.sync_spaces s ON s.space_no = m.space_no
             LEFT JOIN syncd.sync_feeds h ON h.space_no = m.space_no AND h.app_no = p_app
             WHERE m.user_no = p_user AND (m.space_no IN (SELECT unnest(p_but))) IS NOT TRUE
               AND (NOT p_how ? 'spaces' OR p_how -> 'spaces' ? s.space_id) ORDER BY m.space_no LOOP
        space_no := f.space_no; space_id := f.space_id;
        is_new := (p_at > f.joined_at + interval '1 minute' AND f.head > 0) IS NOT TRUE;
        v_cut := CASE WHEN is_new THEN 0 ELSE syncd.sync_seq_before(f.space_no, p_app, f.head, p_at - interval '1 minute') END;
        lost := p_at IS NOT NULL AND f.forgotten > v_cut;
        v_start := coalesce(p_own_bases[array_position(p_own_spaces, f.space_no)], f.head, 0);
        base := CASE WHEN v_cut > 0 OR coalesce(f.head, 0) = 0 THEN -1
                     WHEN p_how ? 'history' THEN CASE WHEN f.forgotten > 0 THEN syncd.sync_phase_base('history', v_start) ELSE -1 END
                     WHEN p_at IS NOT NULL OR v_start = 0 OR p_legacy AND p_since ? 's' AND f.forgotten = 0 THEN 0
                     ELSE syncd.sync_phase_base(CASE WHEN p_how ? 'first' THEN 'first' ELSE 'rest' END, v_start) END;
        seq := CASE WHEN base < -1 AND NOT p_how ? 'history' THEN v_start ELSE v_cut END;
        RETURN NEXT;
    END LOOP;
END $$;

-- The feeds at p_active of which something is to be read, in that order, with where that begins: one that fell behind what is still in the log gets the state.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_moved(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                       p_without integer[], p_history boolean)
RETURNS TABLE (k integer, space_no integer, seq bigint, base bigint, head bigint, forgotten bigint, quoted text)
LANGUAGE sql STABLE AS $$
    SELECT c.k, h.space_no, p_seqs[c.k],
           CASE WHEN p_bases[c.k] = -1 AND p_seqs[c.k] < h.horizon AND NOT p_history THEN p_seqs[c.k] ELSE p_bases[c.k] END,
           h.head, h.forgotten, s.quoted
    FROM unnest(p_active) WITH ORDINALITY AS c (k, n)
    JOIN syncd.sync_feeds h ON h.space_no = p_spaces[c.k] AND h.app_no = p_app
    JOIN syncd.sync_spaces s ON s.space_no = h.space_no
    WHERE (h.head > p_seqs[c.k] OR p_bases[c.k] <> -1) AND NOT h.space_no = ANY (p_without) ORDER BY c.n
$$;
