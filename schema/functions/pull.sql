-- Reading: one call answers a pull. It compares heads first, so that a pull of nothing new touches
-- no log; the bytes that go to the client are made in the database, and Python adds the envelope.
-- Called by the role that serves: sync_pull and sync_unreadable for others, sync_pull_acting after sync_act_as.

-- Tables by number; those that nobody wrote to have none.
CREATE OR REPLACE FUNCTION syncd.sync_tables_in(p_names jsonb) RETURNS integer[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT n.name_no FROM jsonb_array_elements_text(p_names) e JOIN syncd.sync_names n ON n.name = e);

-- Where a page of a phase ends that begins at p_seq, on its way to p_end.
CREATE OR REPLACE FUNCTION syncd.sync_phase_cut(p_phase text, p_space integer, p_app integer, p_seq bigint, p_end bigint, p_limit integer, p_bytes bigint)
RETURNS bigint
LANGUAGE sql STABLE
RETURN CASE WHEN p_phase = 'first' THEN syncd.sync_sweep_cut(p_space, p_app, p_seq, p_limit * 10, p_bytes)
            WHEN p_phase = 'rest' THEN syncd.sync_sweep_cut(p_space, p_app, p_seq, p_limit, p_bytes)
            WHEN p_phase = 'state' THEN syncd.sync_state_cut(p_space, p_app, p_seq, p_end, p_limit, p_bytes)
            ELSE syncd.sync_log_cut(p_space, p_app, p_seq, p_end, p_limit, p_bytes) END;

-- The text of such a page, up to p_cut.
CREATE OR REPLACE FUNCTION syncd.sync_phase_text(p_phase text, p_space integer, p_app integer, p_seq bigint, p_cut bigint, p_base bigint,
                                      p_tables integer[], p_firsts integer[], p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN p_phase = 'first' OR p_phase = 'rest'
                THEN syncd.sync_sweep_text(p_space, p_app, p_cut, p_seq, p_tables, p_firsts, p_phase = 'first', p_legacy, p_space_quoted)
            WHEN p_phase = 'state' THEN syncd.sync_state_text(p_space, p_app, p_seq, p_cut, p_base, p_tables, p_legacy, p_space_quoted)
            ELSE syncd.sync_log_text(p_space, p_app, p_seq, p_cut, p_tables, p_legacy, p_space_quoted) END;

-- Reads a page of the feeds at p_active, in their order. What is touched again and again moves ahead of who reads the state: who reads until an
-- instant takes more of it at once. Where it ends inside of one, there is `more`; read: the numbers of the spaces that
-- it came to, told: those of which it read the log.
CREATE OR REPLACE FUNCTION syncd.sync_pull_feeds(p_app integer, p_how jsonb, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
    p_members integer, p_without integer[], p_own_spaces integer[], p_own_bases bigint[], p_woken bigint[], p_legacy boolean,
    OUT seqs bigint[], OUT bases bigint[], OUT read integer[], OUT told integer[], OUT more boolean, OUT body text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tables integer[] := CASE WHEN p_how ? 'tables' THEN syncd.sync_tables_in(p_how -> 'tables') END;
    v_firsts integer[] := CASE WHEN p_how ? 'first' THEN syncd.sync_tables_in(p_how -> 'first') END;
    v_left   integer := (p_how ->> 'limit')::integer * CASE WHEN p_how ? 'tables' THEN 10 ELSE 1 END;
    v_bytes  bigint := (p_how ->> 'bytes')::bigint;
    v_alone  bigint := 0;  -- reading a feed alone costs as many looks as the user has spaces: a page takes so much, too
    v_texts  text[]; v_pieces text[] := '{}'; v_piece text;
    v_phase  text; v_from bigint; v_cut bigint; v_end bigint; v_size bigint; v_own integer; v_fast boolean; f record;
BEGIN
    seqs := p_seqs; bases := p_bases; read := '{}'; told := '{}'; more := false;
    IF cardinality(p_active) > 7 THEN
        v_texts := syncd.sync_feeds_together(p_app, p_spaces, p_seqs, p_bases, p_active, p_without || p_own_spaces, p_how ? 'history', v_left, v_tables, v_bytes, p_legacy, v_firsts);
    END IF;
    <<feeds>>
    FOR f IN SELECT * FROM syncd.sync_feeds_moved(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_how ? 'history') LOOP
        read := read || f.space_no; v_own := array_position(p_own_spaces, f.space_no); v_alone := v_alone + CASE WHEN v_texts[f.k] IS NULL THEN p_members ELSE 0 END;
        LOOP  -- the phases of one feed
            seqs[f.k] := f.seq; bases[f.k] := f.base;
            more := v_left <= 0 OR v_bytes <= 0 OR v_alone > 200000;
            EXIT feeds WHEN more;
            v_phase := syncd.sync_phase(f.base); v_from := syncd.sync_phase_head(f.base); v_size := NULL; v_fast := v_phase = 'state' AND p_how ? 'until';
            IF v_texts[f.k] IS NOT NULL THEN
                f.seq := CASE WHEN v_phase = 'first' OR v_phase = 'rest' THEN 0 ELSE f.seq END;
                v_phase := 'log'; v_end := f.head; v_cut := v_end;
                v_piece := nullif(v_texts[f.k], '');
            ELSE
                v_end := CASE WHEN v_phase = 'log' AND v_own IS NOT NULL THEN p_own_bases[v_own] WHEN v_phase = 'history' THEN v_from
                              WHEN v_phase = 'log' OR v_phase = 'state' THEN f.head ELSE 0 END;
                IF p_how ? 'kept' AND (v_phase = 'first' OR v_phase = 'rest') THEN
                    SELECT s.* INTO v_cut, v_size, v_piece FROM syncd.sync_shared_page(p_how, v_phase, f.space_no, p_app, f.seq, v_left, v_bytes, v_tables, v_firsts, f.quoted) s;
                    more := v_cut IS NULL; EXIT feeds WHEN more;
                ELSE
                    v_cut := syncd.sync_phase_cut(v_phase, f.space_no, p_app, f.seq, v_end, CASE WHEN v_fast THEN 10000 ELSE v_left END, CASE WHEN v_fast THEN 2097152 ELSE v_bytes END);
                    v_piece := syncd.sync_phase_text(v_phase, f.space_no, p_app, f.seq, v_cut, f.base, v_tables, v_firsts, p_legacy, f.quoted);
                END IF;
                told := CASE WHEN v_phase = 'log' OR v_phase = 'history' THEN told || f.space_no ELSE told END;
                IF v_phase = 'log' AND v_own IS NOT NULL AND (p_woken <> '{}' OR f.forgotten > 0 OR p_legacy) THEN
                    v_piece := nullif(concat_ws(',', v_piece, syncd.sync_own_text(f.space_no, p_app, v_end, f.head, f.forgotten, p_woken, v_tables, p_legacy, f.quoted)), '');
                END IF;
            END IF;
            IF body IS NULL THEN  -- mostly the only one, and every copy of megabytes counts
                body := v_piece;
            ELSIF v_piece IS NOT NULL THEN
                v_pieces := v_pieces || v_piece;
            END IF;
            v_bytes := v_bytes - coalesce(v_size, octet_length(v_piece), 0);
            v_left := v_left - least(abs(v_cut - f.seq) / CASE WHEN v_phase = 'first' THEN 10 ELSE 1 END, v_left)::integer;
            seqs[f.k] := v_cut; more := v_cut <> v_end;
            EXIT feeds WHEN more;
            f.seq := v_from; f.base := syncd.sync_phase_after(v_phase, v_from, f.head);
            EXIT WHEN f.base IS NULL;
        END LOOP;
        seqs[f.k] := f.head; bases[f.k] := -1;
    END LOOP;
    body := CASE v_pieces WHEN '{}' THEN body ELSE concat_ws(',', body, array_to_string(v_pieces, ',')) END;
END $$;

-- Of the feeds at p_active those of which something is to be read that was there by the instant of p_how. created_at never falls along seq.
-- What is dated after now was written before this clock went back, and counts as of before.
CREATE OR REPLACE FUNCTION syncd.sync_behind(p_app integer, p_how jsonb, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
    p_without integer[]) RETURNS integer[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT m.k FROM syncd.sync_feeds_moved(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_how ? 'history') m
             WHERE m.base <> -1 OR (SELECT c.created_at <= to_timestamp((p_how ->> 'until')::bigint / 1000000.0) OR c.created_at > clock_timestamp()
                                    FROM syncd.sync_changes c WHERE c.space_no = m.space_no AND c.app_no = p_app AND c.seq > m.seq ORDER BY c.seq LIMIT 1));

-- What a pull reads that has news: p_page is what it says already, p_matched, p_members and p_active are as sync_heads_news has them, all
-- else is as in sync_pull_acting.
CREATE OR REPLACE FUNCTION syncd.sync_pull_news(p_page syncd.sync_page, p_user integer, p_app integer, p_since jsonb, p_how jsonb, p_own_spaces integer[],
    p_own_bases bigint[], p_woken bigint[], p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_matched integer, p_members integer, p_active integer[])
RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v         syncd.sync_page := p_page;
    v_spaces  integer[] := p_spaces; v_seqs bigint[] := p_seqs; v_bases bigint[] := p_bases;  -- where it stands, which moves on
    v_changed integer[] := p_page.spaces;  -- of these, since the row
    v_active  integer[] := p_active; v_behind integer[];
    v_without integer[] := ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_how -> 'without', '[]')) e);
    v_legacy  boolean := CASE WHEN NOT p_how ? 'legacy' THEN false WHEN NOT p_how ? 'history' THEN true END;
    v_at      timestamptz; f record;
BEGIN
    IF p_matched < cardinality(p_spaces) THEN
        f := syncd.sync_left(p_spaces, p_seqs, p_bases);
        v.gone := f.ids; v_spaces := f.spaces; v_seqs := f.seqs; v_bases := f.bases;
        v.trouble := CASE WHEN f.lost THEN 'lost' END;
        v_changed := v_changed || f.numbers;
        v_active := ARRAY(SELECT generate_series(1, cardinality(v_spaces)));
    END IF;
    IF p_how ? 'own' THEN
        v.body := convert_to(coalesce(syncd.sync_legacy_own_text(p_app, p_own_spaces, p_own_bases, p_woken, NULL, v_without), ''), 'UTF8');
        RETURN v;
    ELSIF p_members > p_matched THEN  -- joined: whole, or after a plain instant what came since
        v_at := to_timestamp(syncd.sync_seen((p_since ->> 'at')::bigint, p_how ? 'legacy') / 1000000.0);
        FOR f IN SELECT * FROM syncd.sync_joined(p_user, p_app, p_since, p_how, v_spaces || v_without, v_at, v_legacy, p_own_spaces, p_own_bases) LOOP
            v.trouble := CASE WHEN f.lost THEN 'lost' ELSE v.trouble END;
            IF f.is_new THEN
                v.joined := v.joined || f.space_id;
            END IF;
            v_spaces := v_spaces || f.space_no; v_seqs := v_seqs || f.seq; v_bases := v_bases || f.base;
            v_changed := v_changed || f.space_no;
            v_active := v_active || cardinality(v_spaces);
        END LOOP;
    END IF;
    IF p_how ? 'until' THEN  -- first: a feed that is written to all the time would else keep its reader from those after it
        v_behind := syncd.sync_behind(p_app, p_how, v_spaces, v_seqs, v_bases, v_active, v_without);
        v_active := v_behind || ARRAY(SELECT a.k FROM unnest(v_active) AS a (k) WHERE (a.k IN (SELECT unnest(v_behind))) IS NOT TRUE);
    END IF;
    IF p_members <= p_matched AND cardinality(v_active) > 500 THEN  -- as many as a page looks at
        v_active := v_active[1:500]; v.more := true;
    END IF;
    IF v.trouble IS NOT NULL THEN
        RETURN v;
    END IF;
    f := syncd.sync_pull_feeds(p_app, p_how, v_spaces, v_seqs, v_bases, v_active, p_members, v_without, p_own_spaces, p_own_bases, p_woken, v_legacy);
    v.more := v.more OR f.more;
    IF v.more AND v_legacy THEN  -- of what the log has not reached yet: what lost is not in it
        f.body := concat_ws(',', f.body, syncd.sync_legacy_own_text(p_app, p_own_spaces, p_own_bases, p_woken,
            CASE WHEN p_how ? 'tables' THEN syncd.sync_tables_in(p_how -> 'tables') END, v_without || f.told));
    END IF;
    v.body := convert_to(coalesce(f.body, ''), 'UTF8');
    v.spaces := v_spaces; v.seqs := f.seqs; v.bases := f.bases;
    v.news := NOT (v.more AND p_how ? 'until') OR syncd.sync_behind(p_app, p_how, v_spaces, f.seqs, f.bases, v_behind, v_without) <> '{}';
    IF p_since ? 'row' THEN
        SELECT c.spaces, c.seqs, c.bases INTO v.spaces, v.seqs, v.bases FROM syncd.sync_cursor_changes(v_changed || f.read, v_spaces, f.seqs, f.bases) c;
    END IF;
    RETURN v;
END $$;

-- One pull by the acting user (sync_act_as and sync_start came first, in this transaction). STABLE, so that heads, state
-- and log are of one snapshot: a record touched after the head was read would else be in neither.
-- p_since: {"s": [space], "q": [seq], "b": [base], "boot": us} a cursor, {"at": us} a plain instant, {} nothing. With "row" the cursor
-- is one of many feeds (functions/cursors.sql): the lists say what has moved since that row, and so do those of the answer.
-- p_how: {"limit", "bytes", "tables"?, "first"?, "legacy"?, "history"?, "peek"?, "own"?, "without"?, "kept"?, "words"?, "roles"?, "until"?, "spaces"?, "known"?}; peek: say whether there is news, read
-- none; own: only what a push of the first generation is to be told of itself; without: spaces of which nothing is read, and whose
-- positions stay; kept: the pages of sweeps that its asker has, who is not of the first generation, words: he reads them in words
-- (both functions/shared_pages.sql); roles: up to where it was told of its user's spaces (functions/roles.sql): where there is more to tell, `more`
-- says so; spaces: nothing but these is read, by their ids; known: of the cursor's spaces its device has these alone; until: an instant of this clock in microseconds: where there is `more`, `news` says whether some of it was there by then.
-- p_own_spaces, p_own_bases: feeds that this transaction has pushed to, and their heads before it. p_woken: the seqs it
-- gave to changes of deleted records. Their device may never have been sent those, so it is told how they are now; and so
-- are those that it made, where it may hold deleted ones of their names that are forgotten here, and what sync_nesting finds.
CREATE OR REPLACE FUNCTION syncd.sync_pull_acting(p_user integer, p_app text, p_since jsonb, p_how jsonb,
                                       p_own_spaces integer[] DEFAULT '{}', p_own_bases bigint[] DEFAULT '{}',
                                       p_woken bigint[] DEFAULT '{}')
RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v         syncd.sync_page;
    v_app     integer;
    v_boot    timestamptz := (SELECT max(t.started_at) FROM syncd.sync_starts t);
    v_since   timestamptz;
    v_spaces  integer[]; v_seqs bigint[]; v_bases bigint[];
    v_matched integer; v_members integer;
    v_active  integer[];
    v_chosen  integer;  -- of the user's spaces, where a device keeps some alone
    v_given   integer := 0;  -- positions that its cursor has: one that leaves it is news, as the cursor would keep it else
    v_roles   boolean := p_how ? 'roles' AND syncd.sync_roles_untold(p_user, p_how -> 'roles');
BEGIN
    v.now_us := syncd.sync_micros(clock_timestamp());
    v.boot_us := syncd.sync_micros(v_boot);
    v.joined := '{}'; v.gone := '{}'; v.more := false; v.news := false; v.body := '';
    SELECT n.name_no INTO v_app FROM syncd.sync_names n WHERE n.name = p_app;
    v_app := coalesce(v_app, 0);
    v.spaces := ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_since -> 's', '[]')) e);
    v.seqs := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(coalesce(p_since -> 'q', '[]')) e);
    v.bases := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(coalesce(p_since -> 'b', '[]')) e);
    v_since := to_timestamp((p_since ->> 'boot')::bigint / 1000000.0);
    IF p_how ? 'spaces' OR p_how ? 'known' THEN
        v_given := cardinality(v.spaces);
        SELECT c.* INTO v.spaces, v.seqs, v.bases, v_chosen FROM syncd.sync_chosen(p_user, p_how, v.spaces, v.seqs, v.bases) c;
    END IF;

    -- Heads first: which of the cursor's feeds have news, and which positions no log of ours has seen, or whose device
    -- could not be told any more that a record it may have was deleted.
    IF p_since ? 'row' THEN
        SELECT n.* INTO v_spaces, v_seqs, v_bases, v_matched, v_members, v_active, v.trouble FROM syncd.sync_cursor_news(p_user, v_app, p_since, v_boot) n;
    ELSE
        v_spaces := v.spaces; v_seqs := v.seqs; v_bases := v.bases;
        IF cardinality(v_spaces) > 7 AND v_since = v_boot  -- looking at each feed takes longer than at all of them
           AND syncd.sync_unmoved(p_user, v_app, ARRAY(SELECT u.no FROM unnest(v_spaces) AS u (no) ORDER BY u.no), v_seqs, v_bases) THEN
            v_matched := cardinality(v_spaces); v_members := v_matched;
        ELSE
            SELECT n.* INTO v_matched, v_members, v_active, v.trouble FROM syncd.sync_heads_news(p_user, v_app, v_spaces, v_seqs, v_bases, v_since, v_boot) n;
        END IF;
    END IF;
    v_members := coalesce(v_chosen, v_members);
    v.news := v_active IS NOT NULL OR v_matched < cardinality(v_spaces) OR v_members > v_matched OR cardinality(v_spaces) < v_given;
    IF v.trouble IS NULL AND v.news AND NOT p_how ? 'peek' THEN
        v := syncd.sync_pull_news(v, p_user, v_app, p_since, p_how, p_own_spaces, p_own_bases, p_woken, v_spaces, v_seqs, v_bases, v_matched, v_members, v_active);
    END IF;
    v.more := v.more OR v_roles; v.news := v.news OR v_roles;
    RETURN v;
END $$;

-- Pulls, each under its own user, in one call. p_pulls: [{"user", "app", "since", "how", "list"?, "asOf"?}].
CREATE OR REPLACE FUNCTION syncd.sync_pull(p_pulls jsonb) RETURNS SETOF syncd.sync_page
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    p      jsonb;
    v_user integer;
BEGIN
    PERFORM syncd.sync_start();
    FOR p IN SELECT e FROM jsonb_array_elements(p_pulls) e LOOP
        v_user := syncd.sync_act_as(coalesce(p ->> 'context', p ->> 'user'), p ? 'list');
        IF p ? 'list' THEN
            PERFORM syncd.sync_adopt(p -> 'list', to_timestamp((p ->> 'asOf')::bigint / 1000000.0));
        END IF;
        RETURN NEXT syncd.sync_pull_acting(v_user, p ->> 'app', p -> 'since', p -> 'how');
        IF p -> 'since' ? 'row' THEN
            PERFORM syncd.sync_cursor_used(v_user, p -> 'since');
        END IF;
    END LOOP;
END $$;

-- Whether a pull of the acting user works where it reads nothing of some spaces.
CREATE OR REPLACE FUNCTION syncd.sync_reads(p_user integer, p_pull jsonb, p_without integer[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM syncd.sync_pull_acting(p_user, p_pull ->> 'app', p_pull -> 'since', (p_pull -> 'how') || jsonb_build_object('without', p_without));
    RETURN true;
EXCEPTION WHEN OTHERS THEN  -- not a statement that takes too long, which nobody knows to be the feed's fault
    RETURN false;
END $$;

-- The spaces for which a pull fails, of which something cannot be read: rows that are damaged, or more than fits into memory. To be
-- asked when one has failed. Where it fails whatever it leaves out, none. Found by halves, in the order in which they are read.
CREATE OR REPLACE FUNCTION syncd.sync_unreadable(p_pull jsonb) RETURNS TABLE (space_no integer, space_id text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_user  integer := syncd.sync_act_as(coalesce(p_pull ->> 'context', p_pull ->> 'user'), p_pull ? 'list');
    v_all   integer[];
    v_bad   integer[] := '{}';
    v_works integer;
    v_fails integer;
    v_half  integer;
BEGIN
    PERFORM syncd.sync_start();
    IF p_pull ? 'list' THEN
        PERFORM syncd.sync_adopt(p_pull -> 'list', to_timestamp((p_pull ->> 'asOf')::bigint / 1000000.0));
    END IF;
    v_all := CASE WHEN p_pull -> 'since' ? 'row' THEN (syncd.sync_cursor_places(v_user, p_pull -> 'since')).spaces
                  ELSE ARRAY(SELECT e::integer FROM jsonb_array_elements_text(coalesce(p_pull -> 'since' -> 's', '[]')) e) END;
    v_all := v_all || ARRAY(SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = v_user
                            AND (m.space_no IN (SELECT unnest(v_all))) IS NOT TRUE ORDER BY m.space_no);
    WHILE cardinality(v_bad) < 32 AND syncd.sync_reads(v_user, p_pull, v_all) AND NOT syncd.sync_reads(v_user, p_pull, v_bad) LOOP
        v_works := 0;  -- the first so many can be read together, and
        v_fails := cardinality(v_all);  -- so many cannot
        WHILE v_fails - v_works > 1 LOOP
            v_half := (v_works + v_fails) / 2;
            IF syncd.sync_reads(v_user, p_pull, v_bad || v_all[v_half + 1:]) THEN
                v_works := v_half;
            ELSE
                v_fails := v_half;
            END IF;
        END LOOP;
        v_bad := v_bad || v_all[v_fails];
    END LOOP;
    RETURN QUERY SELECT s.space_no, s.space_id FROM syncd.sync_spaces s WHERE s.space_no = ANY (v_bad);
END $$;
