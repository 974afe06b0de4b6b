-- The start of each transaction: it sets the acting user, and takes over the spaces that come with one, which are a list of memberships
-- from outside and the personal space. functions/context.sql keeps the acting user, and checks the proof.
-- Called by the role that serves, at the start of a transaction. Those that are SECURITY DEFINER are the only way to a list of
-- memberships or a personal space.

-- Sets the acting user for this transaction and returns the user's number. p_user: a signed context, or a user where those are not
-- needed. An unknown user is added when p_add says so, because something is written that is the user's, else acts as nobody (0),
-- who is a member of nothing. Raises SY030.
CREATE OR REPLACE FUNCTION syncd.sync_act_as(p_user text, p_add boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_user   text := CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END;
    v_no     integer;
    v_pads   bytea;
    v_rest   text;
BEGIN
    -- Not by sync_name: a function's plans belong to one role, and would be made again at every change of it.
    SELECT (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = v_user AND NOT (n.leaving AND p_add)),
           (SELECT k.pads FROM syncd.sync_context_key k) INTO v_no, v_pads;
    v_rest := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('u', p_user, v_pads)
                   ELSE syncd.sync_unproven(v_no) END;
    IF v_no IS NULL AND p_add THEN
        PERFORM syncd.sync_names_put(ARRAY[v_user], NULL);
        SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = v_user;
    END IF;
    v_no := coalesce(v_no, 0);
    v_rest := set_config(syncd.sync_acting_in(), v_no || v_rest, true);
    RETURN v_no;
END $$;

-- The same for a user whose number is known, in a context or as digits.
CREATE OR REPLACE FUNCTION syncd.sync_act_as_number(p_user text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_no     integer := (CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END)::integer;
    v_pads   bytea := (SELECT k.pads FROM syncd.sync_context_key k);
    v_rest   text := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('n', p_user, v_pads)
                          ELSE syncd.sync_unproven(v_no) END;
BEGIN
    v_rest := set_config(syncd.sync_acting_in(), v_no || v_rest, true);
    RETURN v_no;
END $$;

-- Makes the spaces that there are not, called p_name (null: as their id). Returns the numbers of those that it made. Only what is
-- missing is inserted: a row that is not takes a number all the same.
CREATE OR REPLACE FUNCTION syncd.sync_spaces_put(p_ids text[], p_name text) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_new  text[] := ARRAY(SELECT DISTINCT e.id COLLATE "C" FROM unnest(p_ids) AS e (id)
                           WHERE NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = e.id) ORDER BY 1);
    v_made integer[] := '{}';
BEGIN
    IF v_new <> '{}' THEN
        WITH made AS (
            INSERT INTO syncd.sync_spaces (space_no, space_id, quoted, name) OVERRIDING SYSTEM VALUE
            SELECT t.no, t.id, to_json(t.id)::text, coalesce(p_name, t.id)
            FROM unnest(syncd.sync_numbers_take('space', cardinality(v_new)), v_new) AS t (no, id) ORDER BY t.id
            ON CONFLICT (space_id) DO NOTHING RETURNING space_no)
        SELECT coalesce(array_agg(m.space_no), '{}') INTO v_made FROM made m;
    END IF;
    RETURN v_made;
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
    PERFORM syncd.sync_spaces_put(ARRAY(
        SELECT l.id FROM jsonb_to_recordset(p_list) AS l (id text) WHERE NOT starts_with(l.id, '_personal:')), NULL);
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

-- Takes over what a call says of the acting user's memberships: "list" with "asOf" (us), "personal".
CREATE OR REPLACE FUNCTION syncd.sync_adopt_said(p_call jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_call ? 'list' THEN
        PERFORM syncd.sync_adopt(p_call -> 'list', to_timestamp((p_call ->> 'asOf')::bigint / 1000000.0));
    END IF;
    IF p_call ? 'personal' THEN
        PERFORM syncd.sync_personal_space();
    END IF;
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
    PERFORM syncd.sync_spaces_put(ARRAY[v_id], 'Personal');
    INSERT INTO syncd.sync_memberships (user_no, space_no, role)
    SELECT v_user, s.space_no, 'owner' FROM syncd.sync_spaces s WHERE s.space_id = v_id
    ON CONFLICT DO NOTHING;
END $$;
