-- Members within the bounds of functions/user_bounds.sql, invitations and blocks. Each function is called
-- by sync_act_as's user. A user's invitations and blocks are in tables that the role that serves cannot read: what is told
-- of them is what these functions return.
-- Called by the role that serves; sync_join by the functions here and by sync_space_put_back alone.

-- Puts a user who takes it into a space, as invited or as a member; false where the user does not.
CREATE OR REPLACE FUNCTION syncd.sync_join(p_space bigint, p_user text, p_role text, p_ask boolean, p_bounds jsonb, p_joined timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_by   bigint := syncd.sync_user();
    v_user bigint := syncd.sync_name(p_user);
BEGIN
    IF NOT syncd.sync_takes_more(v_user, v_by, p_bounds) THEN
        RETURN false;
    END IF;
    DELETE FROM syncd.sync_removals r WHERE r.user_no = v_user AND r.space_no = p_space;
    IF p_ask THEN
        INSERT INTO syncd.sync_invitations (user_no, space_no, role, invited_by) VALUES (v_user, p_space, p_role, v_by);
    ELSE
        INSERT INTO syncd.sync_memberships (user_no, space_no, role, added_by, joined_at)
        VALUES (v_user, p_space, p_role, v_by, coalesce(p_joined, clock_timestamp()));
    END IF;
    RETURN true;
END $$;

-- Adds a member, or invites one where p_ask says so; changes the role of one who is there or invited already.
CREATE OR REPLACE FUNCTION syncd.sync_member_add(p_space text, p_user text, p_role text, p_ask boolean, p_bounds jsonb)
RETURNS TABLE (user_id text, role text, joined_us bigint, invited_by text, invited_us bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_space  integer := syncd.sync_owned_space(p_space, true);
    v_member record;
    v_asked  boolean;
BEGIN
    SELECT m.user_no, m.role, m.added_by INTO v_member FROM syncd.sync_memberships m JOIN syncd.sync_names n ON n.name_no = m.user_no
    WHERE m.space_no = v_space AND n.name = p_user;
    v_asked := p_ask AND EXISTS (SELECT FROM syncd.sync_invitations i JOIN syncd.sync_names n ON n.name_no = i.user_no
                                 WHERE i.space_no = v_space AND n.name = p_user);
    IF v_member.user_no IS NOT NULL THEN
        IF p_role = 'owner' AND v_member.role <> 'owner' AND v_member.added_by IS NULL
           AND (SELECT o.owned FROM syncd.sync_spaces_of(v_member.user_no) o) >= (p_bounds ->> 'owned')::bigint THEN
            RAISE EXCEPTION 'member_refused' USING ERRCODE = 'SY010';
        END IF;
        PERFORM syncd.sync_member_put(p_space, p_user, p_role);
    ELSIF v_asked THEN
        UPDATE syncd.sync_invitations i SET role = p_role FROM syncd.sync_names n
        WHERE i.space_no = v_space AND n.name_no = i.user_no AND n.name = p_user;
    ELSE
        PERFORM syncd.sync_must_spend(syncd.sync_user(), 'members', p_bounds, 1);
        -- One from before nobody had to be asked any more.
        DELETE FROM syncd.sync_invitations i USING syncd.sync_names n
        WHERE i.space_no = v_space AND n.name_no = i.user_no AND n.name = p_user;
        IF NOT syncd.sync_join(v_space, p_user, p_role, p_ask, p_bounds, NULL) THEN
            RAISE EXCEPTION 'member_refused' USING ERRCODE = 'SY010';
        END IF;
    END IF;
    RETURN QUERY SELECT r.* FROM syncd.sync_roster(p_space) r WHERE r.user_id = p_user;
END $$;

-- What the acting user is invited to: of a space its id and name, and nothing else.
CREATE OR REPLACE FUNCTION syncd.sync_invitation_list()
RETURNS TABLE (space_id text, name text, role text, invited_by text, invited_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.space_id, s.name, i.role, n.name, syncd.sync_micros(i.invited_at) FROM syncd.sync_invitations i
    JOIN syncd.sync_spaces s ON s.space_no = i.space_no JOIN syncd.sync_names n ON n.name_no = i.invited_by
    WHERE i.user_no = syncd.sync_user() ORDER BY i.invited_at, s.space_id
$$;

-- Makes an invitation a membership, by the user's own hand. One that is accepted again is answered as done.
CREATE OR REPLACE FUNCTION syncd.sync_invitation_accept(p_space text, p_bounds jsonb) RETURNS SETOF syncd.sync_space
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user  bigint := syncd.sync_user();
    v_space bigint;
    v_role  text;
BEGIN
    SELECT s.space_no INTO v_space FROM syncd.sync_spaces s JOIN syncd.sync_invitations i ON i.space_no = s.space_no AND i.user_no = v_user
    WHERE s.space_id = p_space FOR NO KEY UPDATE OF s;
    PERFORM syncd.sync_count_alone(v_user);
    DELETE FROM syncd.sync_invitations i WHERE i.space_no = v_space AND i.user_no = v_user RETURNING i.role INTO v_role;
    IF v_role IS NOT NULL THEN
        PERFORM syncd.sync_check_room(v_user, v_role, p_bounds);
        INSERT INTO syncd.sync_memberships (user_no, space_no, role) VALUES (v_user, v_space, v_role);
    END IF;
    RETURN QUERY SELECT l.* FROM syncd.sync_space_list(p_space) l;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invitation_not_found' USING ERRCODE = 'SY010';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION syncd.sync_invitation_decline(p_space text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM syncd.sync_invitations i USING syncd.sync_spaces s
    WHERE i.user_no = syncd.sync_user() AND s.space_no = i.space_no AND s.space_id = p_space;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invitation_not_found' USING ERRCODE = 'SY010';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION syncd.sync_block_list() RETURNS TABLE (user_id text, blocked_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT b.blocked, syncd.sync_micros(b.blocked_at) FROM syncd.sync_blocks b
    WHERE b.user_no = syncd.sync_user() ORDER BY b.blocked
$$;

-- Refuses what another user would do to the acting one from now on, and declines what that one has invited to. Spaces that
-- the two are in already stay as they are.
CREATE OR REPLACE FUNCTION syncd.sync_block(p_user text, p_bounds jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user bigint := syncd.sync_user();
BEGIN
    -- Another call that adds the user just now is waited for, or waits.
    PERFORM syncd.sync_count_alone(v_user);
    INSERT INTO syncd.sync_blocks (user_no, blocked) VALUES (v_user, p_user) ON CONFLICT (user_no, blocked) DO NOTHING;
    IF (SELECT count(*) FROM syncd.sync_blocks b WHERE b.user_no = v_user) > (p_bounds ->> 'blocks')::bigint THEN
        RAISE EXCEPTION 'limit_reached' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('what', 'blocks', 'most', p_bounds -> 'blocks');
    END IF;
    DELETE FROM syncd.sync_invitations i USING syncd.sync_names n
    WHERE i.user_no = v_user AND n.name_no = i.invited_by AND n.name = p_user;
END $$;

CREATE OR REPLACE FUNCTION syncd.sync_unblock(p_user text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM syncd.sync_blocks b WHERE b.user_no = syncd.sync_user() AND b.blocked = p_user
$$;
