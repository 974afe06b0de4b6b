-- Import of spaces: puts back spaces, their members, who is invited and who is blocked, and how far logs were folded.
-- The import of an operator's export says that a log was folded: history there is no more complete than it was
-- here, and devices that were behind the horizon, or what was forgotten, are still behind it.
-- Called by the role that serves, as the acting user: sync_space_restore and sync_space_put_back; all else by an operator alone.

-- Puts that back, of a space that an import has just made.
CREATE OR REPLACE FUNCTION syncd.sync_import_sharing(p_no integer, p_space jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_names_put(ARRAY(
        SELECT unnest(ARRAY[i."userId", i."invitedBy"]) FROM jsonb_to_recordset(p_space -> 'invitations') AS i ("userId" text, "invitedBy" text)
        UNION SELECT r ->> 'userId' FROM jsonb_array_elements(p_space -> 'removed') r
        UNION SELECT o FROM jsonb_array_elements_text(p_space -> 'owners') o), NULL);
    UPDATE syncd.sync_spaces s SET owners = ARRAY(
        SELECT syncd.sync_name(o) FROM jsonb_array_elements_text(p_space -> 'owners') o) WHERE s.space_no = p_no AND p_space ? 'owners';
    INSERT INTO syncd.sync_invitations (user_no, space_no, role, invited_by, invited_at)
    SELECT syncd.sync_name(i."userId"), p_no, i.role, syncd.sync_name(i."invitedBy"), least(i."invitedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_space -> 'invitations') AS i ("userId" text, role text, "invitedBy" text, "invitedAt" timestamptz)
    ORDER BY i."userId";
    INSERT INTO syncd.sync_removals (user_no, space_no, removed_at)
    SELECT syncd.sync_name(r."userId"), p_no, least(r."removedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_space -> 'removed') AS r ("userId" text, "removedAt" timestamptz) ORDER BY r."userId" ON CONFLICT DO NOTHING;
END $$;

-- Puts them back, beside those that there are; not those of a user who was erased and has not come again.
CREATE OR REPLACE FUNCTION syncd.sync_import_blocks(p_blocks jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_gone text[] := ARRAY(SELECT g.name FROM syncd.sync_erased_users(ARRAY(SELECT b ->> 'userId' FROM jsonb_array_elements(p_blocks) b)) g
                           WHERE NOT EXISTS (SELECT FROM syncd.sync_names n WHERE n.name = g.name));
BEGIN
    p_blocks := (SELECT coalesce(jsonb_agg(b), '[]') FROM jsonb_array_elements(p_blocks) b WHERE b ->> 'userId' <> ALL (v_gone));
    PERFORM syncd.sync_names_put(ARRAY(SELECT b."userId" FROM jsonb_to_recordset(p_blocks) AS b ("userId" text)), NULL);
    INSERT INTO syncd.sync_blocks (user_no, blocked, blocked_at)
    SELECT syncd.sync_name(b."userId"), b.blocked, least(b."blockedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_blocks) AS b ("userId" text, blocked text, "blockedAt" timestamptz) ORDER BY b."userId", b.blocked
    ON CONFLICT (user_no, blocked) DO NOTHING;
END $$;

-- Puts back a space that is not there, with its members: [{"userId", "role", "joinedAt", "source"?}]. Returns its
-- number, or null where the id is taken. p_number: the number to give it, null for the next one.
CREATE OR REPLACE FUNCTION syncd.sync_space_remake(p_space jsonb, p_number integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_no    integer;
    v_users text[];
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id') THEN
        RETURN NULL;
    END IF;
    INSERT INTO syncd.sync_spaces (space_no, space_id, quoted, name, created_at, deleted_at, former_id) OVERRIDING SYSTEM VALUE
    VALUES (coalesce(p_number, (syncd.sync_numbers_take('space', 1))[1]), p_space ->> 'id', (to_json(p_space ->> 'id'))::text, p_space ->> 'name',
            least((p_space ->> 'createdAt')::timestamptz, clock_timestamp()), (p_space ->> 'deletedAt')::timestamptz, p_space ->> 'formerId')
    ON CONFLICT (space_id) DO NOTHING RETURNING space_no INTO v_no;
    IF v_no IS NULL THEN
        RETURN NULL;
    END IF;
    v_users := ARRAY(SELECT m."userId" FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text));
    IF syncd.sync_user() IS NULL THEN
        PERFORM syncd.sync_names_put(v_users, NULL);
    ELSE
        PERFORM syncd.sync_names_add(v_users);
    END IF;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role, source, joined_at)
    SELECT syncd.sync_name(m."userId"), v_no, m.role, coalesce(m.source, 'table'), least(m."joinedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text, role text, source text, "joinedAt" timestamptz)
    ORDER BY m."userId";
    RETURN v_no;
END $$;

-- The same for the acting user, who must be an owner in it: what they could do by making the space and inviting its
-- members one by one, with the times that it had. Returns 'created', 'there' for one that the user is in, or 'taken'.
CREATE OR REPLACE FUNCTION syncd.sync_space_restore(p_space jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user text := (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = syncd.sync_user());
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
               WHERE s.space_id = p_space ->> 'id' AND m.user_no = syncd.sync_user()) THEN
        RETURN 'there';
    END IF;
    IF v_user IS NULL OR starts_with(p_space ->> 'id', '_personal:') OR NOT EXISTS (
            SELECT FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text, role text)
            WHERE m."userId" = v_user AND m.role = 'owner') THEN
        RETURN 'taken';
    END IF;
    RETURN CASE WHEN syncd.sync_space_remake(jsonb_build_object(
        'id', p_space -> 'id', 'name', p_space -> 'name', 'createdAt', p_space -> 'createdAt',
        'members', (SELECT jsonb_agg(e - 'source') FROM jsonb_array_elements(p_space -> 'members') e)), NULL) IS NULL
        THEN 'taken' ELSE 'created' END;
END $$;

-- The same within the bounds that hold for whoever makes a space and adds its members one by one (functions/user_bounds.sql),
-- and with those invited who have to be asked. Members who take no more are left out.
CREATE OR REPLACE FUNCTION syncd.sync_space_put_back(p_space jsonb, p_ask boolean, p_bounds jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   bigint := syncd.sync_user();
    v_name   text := (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = v_user);
    v_own    jsonb;
    v_others jsonb;
    v_space  bigint;
    m        record;
BEGIN
    PERFORM syncd.sync_count_alone(v_user);
    SELECT jsonb_agg(e) FILTER (WHERE e ->> 'userId' = v_name), coalesce(jsonb_agg(e) FILTER (WHERE e ->> 'userId' <> v_name), '[]')
    INTO v_own, v_others FROM jsonb_array_elements(p_space -> 'members') e;
    -- What is there, or is not the acting user's, is not made, and so costs nothing.
    IF v_own -> 0 ->> 'role' IS DISTINCT FROM 'owner' OR EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id') THEN
        RETURN syncd.sync_space_restore(p_space);
    END IF;
    PERFORM syncd.sync_check_room(v_user, 'owner', p_bounds);
    PERFORM syncd.sync_must_spend(v_user, 'made', p_bounds, 1);
    PERFORM syncd.sync_must_spend(v_user, 'members', p_bounds, jsonb_array_length(v_others));
    IF syncd.sync_space_restore(p_space || jsonb_build_object('members', v_own)) <> 'created' THEN
        RETURN 'taken';
    END IF;
    SELECT s.space_no INTO STRICT v_space FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id';
    FOR m IN SELECT * FROM jsonb_to_recordset(v_others) AS x ("userId" text, role text, "joinedAt" timestamptz) ORDER BY x."userId" LOOP
        PERFORM syncd.sync_join(v_space, m."userId", m.role, p_ask, p_bounds, least(m."joinedAt", clock_timestamp()));
    END LOOP;
    RETURN 'created';
END $$;

-- The start of an operator's import: puts back the spaces that are not there. Where the export has a cursor key, into a
-- server that holds nothing (or what an interrupted import of it brought) spaces get their numbers and the server gets
-- the key, so that the cursors of devices stay good: `numbered`. Not where the database was started before p_made, when
-- the export was: a cursor could then not be told from one of a future that the export does not have.
CREATE OR REPLACE FUNCTION syncd.sync_import_spaces(p_spaces jsonb, p_key bytea, p_made timestamptz, OUT made integer, OUT numbered boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s    jsonb;
    v_no integer;
BEGIN
    LOCK TABLE syncd.sync_spaces IN EXCLUSIVE MODE;
    made := 0;
    p_spaces := syncd.sync_import_unerased(p_spaces, p_made);
    numbered := p_key IS NOT NULL AND p_made < syncd.sync_start() AND (
        EXISTS (SELECT FROM syncd.sync_server k WHERE k.cursor_key = p_key)
        OR NOT EXISTS (SELECT FROM syncd.sync_spaces) AND NOT EXISTS (SELECT FROM syncd.sync_feeds));
    IF numbered THEN
        UPDATE syncd.sync_server SET cursor_key = p_key WHERE cursor_key <> p_key;
        -- Those who come with a cursor have it from a start of the other server, of which nothing is known here.
        DELETE FROM syncd.sync_starts s WHERE s.started_at < syncd.sync_start();
    END IF;
    FOR s IN SELECT e FROM jsonb_array_elements(p_spaces) e LOOP
        v_no := syncd.sync_space_remake(s, CASE WHEN numbered AND NOT EXISTS (
                SELECT FROM syncd.sync_spaces t WHERE t.space_no = (s ->> 'number')::integer) THEN (s ->> 'number')::integer END);
        IF v_no IS NOT NULL THEN
            PERFORM syncd.sync_import_sharing(v_no, s);
            made := made + 1;
        END IF;
    END LOOP;
    IF numbered THEN
        DELETE FROM syncd.sync_numbers f WHERE f.kind = 'space';  -- a space of the export may have got one of them
        PERFORM setval(pg_get_serial_sequence('syncd.sync_spaces', 'space_no'),
                       greatest((SELECT max(t.space_no) FROM syncd.sync_spaces t), 1));
    END IF;
END $$;

-- The end of an operator's import of p_folded, as sync_export_folded made it. A feed that stands where the export stood is
-- folded that far. p_numbered: cursors stay good, so it does stand there, even if the end of its log was forgotten. In any
-- other, changes have other seqs: whoever is behind what was imported gets the state.
CREATE OR REPLACE FUNCTION syncd.sync_import_folded(p_folded jsonb, p_numbered boolean) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE syncd.sync_feeds h
    SET head = CASE WHEN i.same THEN i.head ELSE h.head END,
        horizon = greatest(h.horizon, CASE WHEN i.same THEN i.horizon ELSE h.head END),
        forgotten = greatest(h.forgotten, CASE WHEN i.same THEN i.forgotten WHEN i.forgotten > 0 THEN h.head END),
        forgotten_us = greatest(h.forgotten_us, i."forgottenUs")
    FROM (SELECT f.space_no, f.app_no, x.*, f.head = x.head OR p_numbered AND f.head < x.head AS same
          FROM jsonb_to_recordset(p_folded) AS x ("spaceId" text, "appId" text, head bigint, horizon bigint, forgotten bigint, "forgottenUs" bigint)
          JOIN syncd.sync_spaces s ON s.space_id = x."spaceId"
          JOIN syncd.sync_names a ON a.name = x."appId"
          JOIN syncd.sync_feeds f ON f.space_no = s.space_no AND f.app_no = a.name_no
          WHERE f.horizon < x.horizon OR f.forgotten < x.forgotten) i
    WHERE h.space_no = i.space_no AND h.app_no = i.app_no
$$;

-- The end of an operator's import with numbered spaces: what the devices had seen until here is what is here.
CREATE OR REPLACE FUNCTION syncd.sync_import_settle() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE syncd.sync_feeds h SET bases = ARRAY[h.head] WHERE h.bases = ARRAY[0::bigint] AND h.boots = ARRAY[syncd.sync_start()]
$$;
