-- Live: what a server process asks beyond pulls. Everything here is found again from the tables alone, so a
-- notification that is lost costs a moment and never data.

-- Counts the changes of a space's members: whoever read at one number and reads at the same again knows that
-- nobody came, went or changed role between the two.
ALTER TABLE syncd.sync_spaces ADD COLUMN roster bigint NOT NULL DEFAULT 0;

-- Who came, went or changed role of late, for processes with open sockets. Read from the transaction that was the
-- oldest one running at the last look, so that one which commits late is seen too. An hour's worth is kept.
CREATE TABLE syncd.sync_membership_events (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_no  integer NOT NULL,
    space_no integer NOT NULL
);
CREATE INDEX sync_membership_events_since ON syncd.sync_membership_events (txid);
ALTER TABLE syncd.sync_membership_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_keeps ON syncd.sync_membership_events TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE FUNCTION syncd.sync_note_members() RETURNS trigger
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
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER members_come AFTER INSERT ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();
CREATE TRIGGER members_change AFTER UPDATE ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();
CREATE TRIGGER members_go AFTER DELETE ON syncd.sync_memberships
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();

-- Membership changes that committed since a look with `since` as its horizon (null: the first look).
-- `boot_us`: when the database was started; another one than before may be another history.
CREATE FUNCTION syncd.sync_membership_news(p_since xid8, OUT horizon xid8, OUT events bigint[], OUT users integer[], OUT boot_us bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    boot_us := syncd.sync_micros(pg_postmaster_start_time());
    SELECT array_agg(e.event_no), array_agg(e.user_no) INTO events, users
    FROM syncd.sync_membership_events e WHERE e.txid >= p_since;
END $$;

-- How far the feeds stand, in the order asked for; 0 for one that nobody wrote to.
CREATE FUNCTION syncd.sync_heads(p_spaces integer[], p_apps text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT coalesce((SELECT h.head FROM syncd.sync_feeds h
                         WHERE h.space_no = w.space_no AND h.app_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = w.app)), 0)
        FROM unnest(p_spaces, p_apps) WITH ORDINALITY AS w (space_no, app, place) ORDER BY w.place);
END $$;

-- The apps that were written to in the acting user's spaces, those of p_spaces, and how far each has come.
CREATE FUNCTION syncd.sync_feeds_in(p_user integer, p_spaces integer[])
RETURNS TABLE (space_no integer, app text, head bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('syncd.user_no', p_user::text, true);
    RETURN QUERY SELECT h.space_no, n.name, h.head FROM syncd.sync_feeds h
    JOIN syncd.sync_names n ON n.name_no = h.app_no WHERE h.space_no = ANY (p_spaces);
END $$;

-- The apps that were written to in p_spaces, and how far each has come: for whole rooms, whoever is in them.
CREATE FUNCTION syncd.sync_feeds_of(p_spaces integer[]) RETURNS TABLE (space_no integer, app text, head bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.space_no, n.name, h.head FROM syncd.sync_feeds h
    JOIN syncd.sync_names n ON n.name_no = h.app_no WHERE h.space_no = ANY (p_spaces)
$$;

-- The start of a live connection: the user's number, new or known, and the spaces that the user is a member of. The
-- personal space is made now: a first write would else reach the user's other devices with the next look at members.
CREATE FUNCTION syncd.sync_greet(p_user text, p_list jsonb, p_as_of bigint, OUT user_no integer, OUT spaces integer[],
                                 OUT ids text[], OUT rosters bigint[])
LANGUAGE plpgsql VOLATILE AS $$
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

-- Which of p_users are members of a space, and its roster's number at that instant.
CREATE FUNCTION syncd.sync_still_members(p_space integer, p_users integer[], OUT roster bigint, OUT members integer[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.roster, ARRAY(SELECT m.user_no FROM syncd.sync_memberships m
                           WHERE m.space_no = p_space AND m.user_no = ANY (p_users))
    FROM syncd.sync_spaces s WHERE s.space_no = p_space
$$;

-- The log of one feed as JSON text, as before, with the separator as a parameter: a control character, which
-- JSON text cannot contain, lets a reader take the changes apart without parsing them.
DROP FUNCTION syncd.sync_log_text(integer, integer, bigint, bigint, integer[], boolean, text);
CREATE FUNCTION syncd.sync_log_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[],
                                    p_legacy boolean, p_space_quoted text, p_separator text DEFAULT ',') RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT string_agg(concat(
            '{"eventId":"', c.event_id, '","seq":', c.seq, ',"table":', t.quoted, ',"id":', to_json(c.record_id),
            -- a delete whose tombstone lost, or says null, was an edit of its other fields
            CASE WHEN c.op = 1 THEN ',"op":"insert"'
                 WHEN c.op = 2 OR c.fields #>> '{deletedAt,value}' IS NULL THEN ',"op":"update"'
                 ELSE concat(',"op":"delete","deletedAt":"', c.fields -> 'deletedAt' ->> 'at', '"') END,
            ',"spaceId":', p_space_quoted, ',"clientId":', d.quoted,
            CASE WHEN c.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(c.change_id)) END,
            CASE WHEN c.schema_version IS NOT NULL THEN concat(',"schemaVersion":', c.schema_version) END,
            CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
            CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END,
            CASE WHEN p_legacy AND c.op = 1 THEN concat(',"data":', syncd.sync_plain(c.fields::jsonb)) END,
            ',"fields":', c.fields, '}'), p_separator ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)));
END $$;

-- What one live reading brings. `head`: how far the feed stands, null when the acting user is no member; `upto`: how
-- far was read, always the end of a push; `seqs`, `ends`, `tables`: of the changes in `body`, which are separated by
-- U+001E; `legacy`: the same with inserts as plain records too, where it was asked for.
CREATE TYPE syncd.sync_news AS (
    head    bigint,
    upto    bigint,
    roster  bigint,
    now_us  bigint,
    boot_us bigint,
    seqs    bigint[],
    ends    bigint[],
    tables  text[],
    body    bytea,
    legacy  bytea
);

-- One feed after p_after, for everyone who listens to it. STABLE, so that the members are those of the very
-- snapshot that the changes are read from.
CREATE FUNCTION syncd.sync_live_acting(p_user integer, p_space integer, p_app text, p_after bigint, p_limit integer,
                                       p_bytes bigint, p_legacy boolean) RETURNS syncd.sync_news
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_news;
    v_app    integer;
    v_quoted text;
BEGIN
    v.now_us := syncd.sync_micros(clock_timestamp());
    v.boot_us := syncd.sync_micros(pg_postmaster_start_time());
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
CREATE FUNCTION syncd.sync_live(p_readings jsonb) RETURNS SETOF syncd.sync_news
LANGUAGE plpgsql VOLATILE SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    r jsonb;
BEGIN
    FOR r IN SELECT e FROM jsonb_array_elements(p_readings) e LOOP
        PERFORM set_config('syncd.user_no', r ->> 'user', true);
        RETURN NEXT syncd.sync_live_acting((r ->> 'user')::integer, (r ->> 'space')::integer, r ->> 'app', (r ->> 'after')::bigint,
                                           (r ->> 'limit')::integer, (r ->> 'bytes')::bigint, r ? 'legacy');
    END LOOP;
END $$;

-- Who is here: what a device says about its user in a space, as long as it is repeated. Not logged, gone after a crash.
CREATE UNLOGGED TABLE syncd.sync_presence (
    space_no  integer NOT NULL,
    user_no   integer NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    state     json NOT NULL,
    seen      timestamptz NOT NULL,
    PRIMARY KEY (space_no, user_no, client_id)
) WITH (fillfactor = 50);
ALTER TABLE syncd.sync_presence ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY members_read ON syncd.sync_presence FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_added ON syncd.sync_presence FOR INSERT TO PUBLIC
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_changed ON syncd.sync_presence FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user())
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_removed ON syncd.sync_presence FOR DELETE TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY owner_keeps ON syncd.sync_presence TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON syncd.sync_presence TO syncd_runtime;

-- Says or (state null) takes back what devices say: [{"user": number, "space": number, "client", "state"}]. Returns for
-- each whether its user is a member there.
CREATE FUNCTION syncd.sync_presence_put(p_items jsonb) RETURNS boolean[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    i       record;
    v_known boolean;
    v       boolean[] := '{}';
BEGIN
    FOR i IN SELECT * FROM jsonb_to_recordset(p_items) AS x ("user" integer, space integer, client text, state json) LOOP
        PERFORM set_config('syncd.user_no', i."user"::text, true);
        v_known := EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.user_no = i."user" AND m.space_no = i.space);
        v := v || v_known;
        IF i.state IS NULL OR json_typeof(i.state) = 'null' OR NOT v_known THEN
            DELETE FROM syncd.sync_presence p
            WHERE p.space_no = i.space AND p.user_no = i."user" AND p.client_id = i.client;
        ELSE
            INSERT INTO syncd.sync_presence (space_no, user_no, client_id, state, seen)
            VALUES (i.space, i."user", i.client, i.state, clock_timestamp())
            ON CONFLICT (space_no, user_no, client_id) DO UPDATE SET state = EXCLUDED.state, seen = EXCLUDED.seen;
        END IF;
    END LOOP;
    RETURN v;
END $$;

-- Who is in a space, as one of its members sees it; what was not repeated for p_seconds counts no more. `roster` is
-- null when the acting user is no member.
CREATE FUNCTION syncd.sync_presence_in(p_user integer, p_space integer, p_seconds double precision)
RETURNS TABLE (roster bigint, user_id text, client_id text, state text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('syncd.user_no', p_user::text, true);
    RETURN QUERY SELECT s.roster, n.name, p.client_id, p.state::text
    FROM syncd.sync_spaces s
    LEFT JOIN syncd.sync_presence p ON p.space_no = s.space_no AND p.seen > clock_timestamp() - make_interval(secs => p_seconds)
    LEFT JOIN syncd.sync_names n ON n.name_no = p.user_no
    WHERE s.space_no = p_space;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA syncd FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA syncd TO syncd_runtime;
REVOKE EXECUTE ON FUNCTION syncd.sync_keep_owner(integer, integer) FROM syncd_runtime;
