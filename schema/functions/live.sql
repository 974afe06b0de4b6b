-- Live: what a server process asks beyond pulls. Everything here is found again from the tables alone, so a
-- notification that is lost costs a moment and never data.
-- Called by the role that serves; sync_note_members by the triggers of sync_memberships.

CREATE OR REPLACE FUNCTION syncd.sync_note_members() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    -- in one order everywhere, so that two lists of memberships do not wait for each other in a ring
    PERFORM FROM syncd.sync_spaces s WHERE s.space_no IN (SELECT c.space_no FROM changed c) ORDER BY s.space_no FOR NO KEY UPDATE;
    UPDATE syncd.sync_spaces s SET roster = s.roster + 1 WHERE s.space_no IN (SELECT c.space_no FROM changed c);
    INSERT INTO syncd.sync_membership_events (user_no, space_no) SELECT c.user_no, c.space_no FROM changed c;
    DELETE FROM syncd.sync_membership_events e WHERE e.event_no IN (
        SELECT o.event_no FROM syncd.sync_membership_events o WHERE o.at < clock_timestamp() - interval '1 hour'
        ORDER BY o.event_no LIMIT 100 FOR UPDATE SKIP LOCKED);
    IF TG_OP = 'DELETE' THEN
        DELETE FROM syncd.sync_presence p USING changed c WHERE p.space_no = c.space_no AND p.user_no = c.user_no;
        PERFORM syncd.sync_forget_roles(array_agg(c.user_no), array_agg(c.space_no)) FROM changed c;
    ELSE
        PERFORM syncd.sync_note_roles(array_agg(c.user_no), array_agg(c.space_no)) FROM changed c;
    END IF;
    RETURN NULL;
END $$;

-- Membership changes that committed since a look with `since` as its horizon (null: the first look).
-- `boot_us`: the current start; another one than before may be another history. `users`: negated where it is an invitation of the
-- user's that came or ended: an older worker knows none of that number.
CREATE OR REPLACE FUNCTION syncd.sync_membership_news(p_since xid8, OUT horizon xid8, OUT events bigint[], OUT users integer[], OUT boot_us bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    boot_us := syncd.sync_micros(syncd.sync_start());
    SELECT array_agg(e.event_no), array_agg(CASE WHEN e.space_no = 0 THEN -e.user_no ELSE e.user_no END) INTO events, users
    FROM syncd.sync_membership_events e WHERE e.txid >= p_since;
END $$;

-- How far the feeds stand, in the order asked for; 0 for one that nobody wrote to.
CREATE OR REPLACE FUNCTION syncd.sync_heads(p_spaces integer[], p_apps text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT coalesce((SELECT h.head FROM syncd.sync_feeds h
                         WHERE h.space_no = w.space_no AND h.app_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = w.app)), 0)
        FROM unnest(p_spaces, p_apps) WITH ORDINALITY AS w (space_no, app, place) ORDER BY w.place);
END $$;

-- The apps that were written to in the acting user's spaces, those of p_spaces, and how far each has come.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_in(p_user integer, p_spaces integer[])
RETURNS TABLE (space_no integer, app text, head bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM syncd.sync_act_as_number(p_user::text);
    RETURN QUERY SELECT h.space_no, n.name, h.head FROM syncd.sync_feeds h
    JOIN syncd.sync_names n ON n.name_no = h.app_no WHERE h.space_no = ANY (p_spaces);
END $$;

-- The apps that were written to in p_spaces, and how far each has come: for whole rooms, whoever is in them.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_of(p_spaces integer[]) RETURNS TABLE (space_no integer, app text, head bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.space_no, n.name, h.head FROM syncd.sync_feeds h
    JOIN syncd.sync_names n ON n.name_no = h.app_no WHERE h.space_no = ANY (p_spaces)
$$;

-- The start of a live connection: the user's number, new or known, and the spaces that the user is a member of. The
-- personal space is made now: a first write would else reach the user's other devices with the next look at members.
CREATE OR REPLACE FUNCTION syncd.sync_greet(p_user text, p_list jsonb, p_as_of bigint, OUT user_no integer, OUT spaces integer[],
                                 OUT ids text[], OUT rosters bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    user_no := syncd.sync_act_as(p_user, true);
    IF p_list IS NOT NULL THEN
        PERFORM syncd.sync_adopt(p_list, to_timestamp(p_as_of / 1000000.0));
    END IF;
    PERFORM syncd.sync_personal_space();
    SELECT coalesce(array_agg(s.space_no), '{}'), coalesce(array_agg(s.space_id), '{}'), coalesce(array_agg(s.roster), '{}')
    INTO spaces, ids, rosters
    FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE m.user_no = sync_greet.user_no;
END $$;

-- Which of p_users are members of a space, and the version of its memberships (`roster`) at that instant.
CREATE OR REPLACE FUNCTION syncd.sync_still_members(p_space integer, p_users integer[], OUT roster bigint, OUT members integer[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.roster, ARRAY(SELECT m.user_no FROM syncd.sync_memberships m
                           WHERE m.space_no = p_space AND m.user_no = ANY (p_users))
    FROM syncd.sync_spaces s WHERE s.space_no = p_space
$$;

-- One feed after p_after, for everyone who listens to it. STABLE, so that the members are those of the very
-- snapshot that the changes are read from.
CREATE OR REPLACE FUNCTION syncd.sync_live_acting(p_user integer, p_space integer, p_app text, p_after bigint, p_limit integer,
                                       p_bytes bigint, p_legacy boolean) RETURNS syncd.sync_news
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_news;
    v_app    integer;
    v_quoted text;
BEGIN
    v.now_us := syncd.sync_micros(clock_timestamp());
    v.boot_us := syncd.sync_micros((SELECT max(t.started_at) FROM syncd.sync_starts t));
    SELECT s.roster, s.quoted INTO v.roster, v_quoted
    FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE m.user_no = p_user AND m.space_no = p_space;
    IF v_quoted IS NULL THEN
        RETURN v;
    END IF;
    SELECT n.name_no INTO v_app FROM syncd.sync_names n WHERE n.name = p_app;
    SELECT h.head INTO v.head FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = v_app;
    v.head := coalesce(v.head, 0);
    v.upto := v.head;
    IF v.head <= p_after THEN
        RETURN v;
    END IF;
    v.upto := syncd.sync_log_cut(p_space, v_app, p_after, v.head, p_limit, p_bytes);
    SELECT array_agg(c.seq ORDER BY c.seq), array_agg(c.push_end ORDER BY c.seq), array_agg(t.name ORDER BY c.seq)
    INTO v.seqs, v.ends, v.tables
    FROM syncd.sync_changes c JOIN syncd.sync_names t ON t.name_no = c.table_no
    WHERE c.space_no = p_space AND c.app_no = v_app AND c.seq > p_after AND c.seq <= v.upto AND c.fields IS NOT NULL;
    v.body := convert_to(syncd.sync_log_text(p_space, v_app, p_after, v.upto, NULL, false, v_quoted, U&'\001E'), 'UTF8');
    IF p_legacy THEN
        v.legacy := convert_to(syncd.sync_log_text(p_space, v_app, p_after, v.upto, NULL, true, v_quoted, U&'\001E'), 'UTF8');
    END IF;
    RETURN v;
END $$;

-- Readings, each as one of the feed's own members, in one call: [{"user", "space", "app", "after", "limit", "bytes", "legacy"?}].
CREATE OR REPLACE FUNCTION syncd.sync_live(p_readings jsonb) RETURNS SETOF syncd.sync_news
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    r jsonb;
BEGIN
    PERFORM syncd.sync_start();
    FOR r IN SELECT e FROM jsonb_array_elements(p_readings) e LOOP
        PERFORM syncd.sync_act_as_number(coalesce(r ->> 'context', r ->> 'user'));
        RETURN NEXT syncd.sync_live_acting((r ->> 'user')::integer, (r ->> 'space')::integer, r ->> 'app', (r ->> 'after')::bigint,
                                           (r ->> 'limit')::integer, (r ->> 'bytes')::bigint, r ? 'legacy');
    END LOOP;
END $$;

-- Says or (state null) takes back what devices say: [{"user": number, "space": number, "client", "state"}]. Returns for
-- each whether its user is a member there.
CREATE OR REPLACE FUNCTION syncd.sync_presence_put(p_items jsonb) RETURNS boolean[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    i       record;
    v_known boolean;
    v       boolean[] := '{}';
BEGIN
    FOR i IN SELECT * FROM jsonb_to_recordset(p_items) AS x ("user" integer, space integer, client text, state json, context text) LOOP
        PERFORM syncd.sync_act_as_number(coalesce(i.context, i."user"::text));
        v_known := EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.user_no = i."user" AND m.space_no = i.space);
        v := v || v_known;
        IF i.state IS NULL OR json_typeof(i.state) = 'null' OR NOT v_known THEN
            DELETE FROM syncd.sync_presence p
            WHERE p.space_no = i.space AND p.user_no = i."user" AND p.client_id = i.client;
        ELSE
            INSERT INTO syncd.sync_presence (space_no, user_no, client_id, state, seen)
            VALUES (i.space, i."user", i.client, i.state, clock_timestamp())
            ON CONFLICT (space_no, user_no, client_id) DO UPDATE SET state = EXCLUDED.state, seen = EXCLUDED.seen;
            -- those of devices whose server was killed, and that never came back
            DELETE FROM syncd.sync_presence p
            WHERE p.space_no = i.space AND p.user_no = i."user" AND p.seen < clock_timestamp() - interval '1 hour';
        END IF;
    END LOOP;
    RETURN v;
END $$;

-- The devices in a space, as one of its members sees it; what was not repeated for p_seconds counts no more. `roster` is
-- null when the acting user is no member.
CREATE OR REPLACE FUNCTION syncd.sync_presence_in(p_user integer, p_space integer, p_seconds double precision)
RETURNS TABLE (roster bigint, user_id text, client_id text, state text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM syncd.sync_act_as_number(p_user::text);
    RETURN QUERY SELECT s.roster, n.name, p.client_id, p.state::text
    FROM syncd.sync_spaces s
    LEFT JOIN syncd.sync_presence p ON p.space_no = s.space_no AND p.seen > clock_timestamp() - make_interval(secs => p_seconds)
    LEFT JOIN syncd.sync_names n ON n.name_no = p.user_no
    WHERE s.space_no = p_space;
END $$;
