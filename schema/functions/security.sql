-- Who acts. The context is one number, set for one transaction by sync_act_as; the policies read the memberships
-- themselves, so no list of spaces ever travels in a setting.
-- Called by the role that serves, at the start of a transaction. Those that are SECURITY DEFINER are the only way to a
-- new name, a list of memberships or a personal space.
-- Here and in every area, a function that runs as somebody else has a search_path of its own, and so has each that Python
-- calls: by the caller's, another `text`, `to_json` or `=` may be found, and would run as the owner.

-- The acting user, or null: then no policy lets a row through.
CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.current_setting('syncd.user_no', true), '')::integer;

-- The number of a name, which is added if it is new.
CREATE OR REPLACE FUNCTION syncd.sync_name(p_name text) RETURNS integer
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
CREATE OR REPLACE FUNCTION syncd.sync_act_as(p_user text, p_add boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_no integer;
BEGIN
    -- Not by sync_name: a function's plans belong to one role, and would be made anew at every change of it.
    SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = p_user;
    IF v_no IS NULL AND p_add THEN
        v_no := syncd.sync_name(p_user);
    END IF;
    v_no := coalesce(v_no, 0);
    PERFORM set_config('syncd.user_no', v_no::text, true);
    RETURN v_no;
END $$;

-- Takes over a membership list that came from outside (token claim, membership service), in the
-- transaction that uses it. p_list: [{"id", "role"}]; a list older than the newest seen is ignored. Refused where the owner
-- says that the table decides.
CREATE OR REPLACE FUNCTION syncd.sync_adopt(p_list jsonb, p_as_of timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_seen syncd.sync_adoptions;
BEGIN
    IF (SELECT s.memberships FROM syncd.sync_server s) <> 'external' THEN
        RAISE EXCEPTION 'memberships are kept in the table' USING ERRCODE = 'insufficient_privilege';
    END IF;
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
    -- Only what is missing: a row that is not inserted takes a number all the same.
    INSERT INTO syncd.sync_spaces (space_id, quoted, name)
    SELECT l.id, to_json(l.id)::text, l.id FROM (SELECT DISTINCT e.id FROM jsonb_to_recordset(p_list) AS e (id text)) l
    WHERE NOT starts_with(l.id, '_personal:') AND NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = l.id) ORDER BY l.id
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

-- The acting user's personal space, made on first use.
CREATE OR REPLACE FUNCTION syncd.sync_personal_space() RETURNS void
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
    INSERT INTO syncd.sync_spaces (space_id, quoted, name) SELECT v_id, to_json(v_id)::text, 'Personal'
    WHERE NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = v_id)
    ON CONFLICT (space_id) DO NOTHING;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role)
    SELECT v_user, s.space_no, 'owner' FROM syncd.sync_spaces s WHERE s.space_id = v_id
    ON CONFLICT DO NOTHING;
END $$;

-- Whether a device is the one that pushed last under its client id. p_incarnations: those that it may have pushed as, oldest
-- first; as the last of them it pushes from now on. One that the server knows and the device does not is another copy's,
-- unless it is older than all that the device names: then the database was restored from before it.
CREATE OR REPLACE FUNCTION syncd.sync_same_device(p_user text, p_client text, p_incarnations text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   integer := syncd.sync_act_as(p_user, true);
    v_client integer := syncd.sync_name(p_client);
    v_now    text := p_incarnations[cardinality(p_incarnations)];
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_devices d WHERE d.user_no = v_user AND d.client_no = v_client AND d.incarnation = v_now) THEN
        RETURN true;
    END IF;
    INSERT INTO syncd.sync_devices AS d (user_no, client_no, incarnation) VALUES (v_user, v_client, v_now)
    ON CONFLICT (user_no, client_no) DO UPDATE SET incarnation = EXCLUDED.incarnation
        WHERE d.incarnation = ANY (p_incarnations)
           OR split_part(d.incarnation, '.', 1)::bigint < split_part(p_incarnations[1], '.', 1)::bigint;
    RETURN FOUND;
END $$;
