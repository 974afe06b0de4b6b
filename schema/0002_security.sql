-- Who may see and write what. The context is one number, set for one transaction by sync_act_as;
-- the policies read the memberships themselves, so no list of spaces ever travels in a setting.
-- `IN (SELECT …)` is hashed once a statement and stays a filter: as `= ANY (array)` it became part of
-- the index condition, and the planner no longer knew that a primary key finds one row.

-- The acting user, or null: then no policy lets a row through.
CREATE FUNCTION syncd.sync_user() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.current_setting('syncd.user_no', true), '')::integer;

ALTER TABLE syncd.sync_names ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_spaces ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_memberships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_adoptions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_records ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Names: readable and writable within somebody's transaction.
CREATE POLICY acting_reads ON syncd.sync_names FOR SELECT TO PUBLIC
    USING ((SELECT syncd.sync_user()) IS NOT NULL);
CREATE POLICY acting_adds ON syncd.sync_names FOR INSERT TO PUBLIC
    WITH CHECK ((SELECT syncd.sync_user()) IS NOT NULL);

-- Memberships: everyone their own; the UPDATE policy exists for FOR SHARE and lets no update pass.
CREATE POLICY own_rows ON syncd.sync_memberships FOR SELECT TO PUBLIC
    USING (user_no = syncd.sync_user());
CREATE POLICY own_locks ON syncd.sync_memberships FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user()) WITH CHECK (false);

CREATE POLICY members_read ON syncd.sync_spaces FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_feeds FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_changes FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY writers_append ON syncd.sync_changes FOR INSERT TO PUBLIC
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));

CREATE POLICY members_read ON syncd.sync_records FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY writers_add ON syncd.sync_records FOR INSERT TO PUBLIC
    WITH CHECK (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));
CREATE POLICY writers_merge ON syncd.sync_records FOR UPDATE TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));

-- The owner is bound by FORCE too. Its definer functions keep names, spaces, memberships and heads, so
-- there it has a policy of its own; of the log it sees what the acting user wrote, nothing else:
-- a device's idempotency key must be found also where the device may no longer read.
CREATE POLICY owner_keeps ON syncd.sync_names TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_spaces TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_memberships TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_feeds TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_adoptions TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY own_receipts ON syncd.sync_changes FOR SELECT TO CURRENT_USER
    USING (user_no = syncd.sync_user());

GRANT USAGE ON SCHEMA syncd TO syncd_runtime;
GRANT SELECT ON syncd.sync_server TO syncd_runtime;
GRANT SELECT, INSERT ON syncd.sync_names TO syncd_runtime;
GRANT SELECT ON syncd.sync_spaces TO syncd_runtime;
GRANT SELECT, UPDATE (joined_at) ON syncd.sync_memberships TO syncd_runtime;
GRANT SELECT ON syncd.sync_feeds TO syncd_runtime;
GRANT SELECT, INSERT ON syncd.sync_changes TO syncd_runtime;
GRANT SELECT, INSERT, UPDATE ON syncd.sync_records TO syncd_runtime;

-- The number of a name, which is added if it is new.
CREATE FUNCTION syncd.sync_name(p_name text) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_no integer;
BEGIN
    SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = p_name;
    IF v_no IS NULL THEN
        INSERT INTO syncd.sync_names (name, quoted) VALUES (p_name, to_json(p_name)::text)
        ON CONFLICT (name) DO NOTHING RETURNING name_no INTO v_no;
        IF v_no IS NULL THEN  -- somebody else added it while we waited
            SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = p_name;
        END IF;
    END IF;
    RETURN v_no;
END $$;

-- Sets the acting user for this transaction and returns the user's number. An unknown user is
-- added when p_add says so, else acts as nobody (0), who is a member of nothing.
-- No SET search_path, which costs more than all it does: it names every operator's schema instead.
CREATE FUNCTION syncd.sync_act_as(p_user text, p_add boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    v_no integer;
BEGIN
    -- Not by sync_name: a function's plans belong to one role, and would be made anew at every change of it.
    SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name OPERATOR(pg_catalog.=) p_user;
    IF v_no IS NULL AND p_add THEN
        v_no := syncd.sync_name(p_user);
    END IF;
    v_no := coalesce(v_no, 0);
    PERFORM pg_catalog.set_config('syncd.user_no', v_no::pg_catalog.text, true);
    RETURN v_no;
END $$;

-- Takes p_count seqs of a feed for the acting user, who must be a writer in its space, and holds the feed until the end
-- of the transaction; a negative count gives back what was taken. base: the head before; written_at: never falls.
CREATE FUNCTION syncd.sync_advance(p_space integer, p_app integer, p_count integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_boot timestamptz := pg_postmaster_start_time();
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_memberships m
                   WHERE m.user_no = syncd.sync_user() AND m.space_no = p_space AND m.role <> 'reader') THEN
        RAISE EXCEPTION 'not a writer' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO syncd.sync_feeds AS h (space_no, app_no, head, written_at, boots, bases)
    VALUES (p_space, p_app, p_count, clock_timestamp(), ARRAY[v_boot], ARRAY[0])
    ON CONFLICT (space_no, app_no) DO UPDATE SET
        head = h.head + p_count, written_at = greatest(clock_timestamp(), h.written_at),
        boots = CASE WHEN h.boots[cardinality(h.boots)] = v_boot THEN h.boots
                     ELSE (h.boots || v_boot)[greatest(1, cardinality(h.boots) - 14):] END,
        bases = CASE WHEN h.boots[cardinality(h.boots)] = v_boot THEN h.bases
                     ELSE (h.bases || h.head)[greatest(1, cardinality(h.bases) - 14):] END
    RETURNING h.head - p_count, h.written_at INTO base, written_at;
END $$;

-- The start of a push of one plain change, in one call: acts as the user, finds the numbers of names, holds the
-- membership and, where the user is a writer and the feed was written since the database started, takes a seq.
-- A part that is not there is null; base is null when no seq was taken.
CREATE FUNCTION syncd.sync_enter(p_user text, p_client text, p_app text, p_table text, p_space text,
                                 OUT user_no integer, OUT client_no integer, OUT app_no integer, OUT table_no integer,
                                 OUT space_no integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    v_role text;
    v_boot timestamptz := pg_catalog.pg_postmaster_start_time();
BEGIN
    SELECT pg_catalog.max(n.name_no) FILTER (WHERE n.name OPERATOR(pg_catalog.=) p_user),
           pg_catalog.max(n.name_no) FILTER (WHERE n.name OPERATOR(pg_catalog.=) p_client),
           pg_catalog.max(n.name_no) FILTER (WHERE n.name OPERATOR(pg_catalog.=) p_app),
           pg_catalog.max(n.name_no) FILTER (WHERE n.name OPERATOR(pg_catalog.=) p_table)
    INTO user_no, client_no, app_no, table_no
    FROM syncd.sync_names n WHERE n.name OPERATOR(pg_catalog.=) ANY (ARRAY[p_user, p_client, p_app, p_table]);
    PERFORM pg_catalog.set_config('syncd.user_no', coalesce(user_no, 0)::pg_catalog.text, true);
    SELECT m.space_no, m.role INTO space_no, v_role
    FROM syncd.sync_memberships m
    WHERE m.user_no OPERATOR(pg_catalog.=) sync_enter.user_no AND m.space_no OPERATOR(pg_catalog.=) (
        SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id OPERATOR(pg_catalog.=) p_space)
    FOR SHARE OF m;
    IF v_role OPERATOR(pg_catalog.<>) 'reader' AND client_no IS NOT NULL AND table_no IS NOT NULL THEN
        UPDATE syncd.sync_feeds h
        SET head = h.head OPERATOR(pg_catalog.+) 1, written_at = greatest(pg_catalog.clock_timestamp(), h.written_at)
        WHERE h.space_no OPERATOR(pg_catalog.=) sync_enter.space_no AND h.app_no OPERATOR(pg_catalog.=) sync_enter.app_no
          AND h.boots[pg_catalog.cardinality(h.boots)] OPERATOR(pg_catalog.=) v_boot
        RETURNING h.head OPERATOR(pg_catalog.-) 1, h.written_at INTO base, written_at;
    END IF;
END $$;

-- The acting user's personal space, made on first use.
CREATE FUNCTION syncd.sync_personal_space() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_id   text;
    v_no   integer;
BEGIN
    SELECT '_personal:' || n.name INTO STRICT v_id FROM syncd.sync_names n WHERE n.name_no = v_user;
    SELECT s.space_no INTO v_no FROM syncd.sync_spaces s
    JOIN syncd.sync_memberships m ON m.space_no = s.space_no AND m.user_no = v_user
    WHERE s.space_id = v_id;
    IF v_no IS NOT NULL THEN
        RETURN;
    END IF;
    INSERT INTO syncd.sync_spaces (space_id, quoted, name) VALUES (v_id, to_json(v_id)::text, 'Personal')
    ON CONFLICT (space_id) DO NOTHING;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role)
    SELECT v_user, s.space_no, 'owner' FROM syncd.sync_spaces s WHERE s.space_id = v_id
    ON CONFLICT DO NOTHING;
END $$;

-- What the acting user's device already had written, by change id, wherever it was.
CREATE FUNCTION syncd.sync_receipts(p_client_no integer, p_change_ids text[])
RETURNS TABLE (change_id text, space_no integer, app_no integer, table_no integer, record_id text,
               seq bigint, event_id uuid, op smallint, fields jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.change_id, c.space_no, c.app_no, c.table_no, c.record_id, c.seq, c.event_id, c.op,
           coalesce(c.fields::jsonb, '{}') || coalesce(c.lost::jsonb, '{}')
    -- one probe an id, whatever the planner believes of the table: = ANY can become a filter
    FROM unnest(p_change_ids) AS i (change_id) CROSS JOIN LATERAL (
        SELECT * FROM syncd.sync_changes h
        WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id
        OFFSET 0) c;
END $$;

-- Takes over a membership list that came from outside (token claim, membership service), in the
-- transaction that uses it. p_list: [{"id", "role"}]; a list older than the newest seen is ignored.
CREATE FUNCTION syncd.sync_adopt(p_list jsonb, p_as_of timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_seen syncd.sync_adoptions;
BEGIN
    SELECT * INTO v_seen FROM syncd.sync_adoptions a WHERE a.user_no = v_user;
    -- A newer list that says the same moves `as_of` on too, or one from in between could bring a space back; at most
    -- once a second (tokens are made in whole seconds), as a membership service is asked for every request.
    IF v_seen.as_of > p_as_of OR v_seen.list = p_list AND p_as_of < v_seen.as_of + interval '1 second' THEN
        RETURN;
    END IF;
    INSERT INTO syncd.sync_adoptions AS a (user_no, as_of, list) VALUES (v_user, p_as_of, p_list)
    ON CONFLICT (user_no) DO UPDATE SET as_of = EXCLUDED.as_of, list = EXCLUDED.list
        WHERE a.as_of <= EXCLUDED.as_of;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO syncd.sync_spaces (space_id, quoted, name)
    SELECT l.id, to_json(l.id)::text, l.id FROM jsonb_to_recordset(p_list) AS l (id text)
    WHERE NOT starts_with(l.id, '_personal:') ORDER BY l.id
    ON CONFLICT (space_id) DO NOTHING;
    DELETE FROM syncd.sync_memberships m
    WHERE m.user_no = v_user AND m.source = 'external' AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(p_list) AS l (id text)
        JOIN syncd.sync_spaces s ON s.space_id = l.id WHERE s.space_no = m.space_no);
    INSERT INTO syncd.sync_memberships AS m (user_no, space_no, role, source)
    SELECT v_user, s.space_no, l.role, 'external'
    FROM jsonb_to_recordset(p_list) AS l (id text, role text)
    JOIN syncd.sync_spaces s ON s.space_id = l.id
    WHERE s.deleted_at IS NULL AND NOT starts_with(l.id, '_personal:') ORDER BY s.space_no
    ON CONFLICT (user_no, space_no) DO UPDATE SET role = EXCLUDED.role WHERE m.role <> EXCLUDED.role;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA syncd FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA syncd TO syncd_runtime;
