-- Spaces and their members. Each function is called by sync_act_as's user and decides by that user's
-- own membership; a stranger is told 'space_not_found', whether or not the space exists.
-- Refusals are raised with ERRCODE SY010 and the problem's code as message.
-- Called by the role that serves; sync_keep_owner by the functions here alone.

-- The acting user's role in a space, whose number it returns too; locks the space against other
-- changes of its members (not against pushes) when p_lock says so.
CREATE OR REPLACE FUNCTION syncd.sync_role_in(p_space text, p_lock boolean, OUT space_no integer, OUT role text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT s.space_no, m.role INTO space_no, role FROM syncd.sync_spaces s
    JOIN syncd.sync_memberships m ON m.space_no = s.space_no AND m.user_no = syncd.sync_user()
    WHERE s.space_id = p_space AND s.deleted_at IS NULL;
    IF space_no IS NULL THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
    END IF;
    IF p_lock THEN
        PERFORM FROM syncd.sync_spaces s WHERE s.space_no = sync_role_in.space_no FOR NO KEY UPDATE;
        SELECT m.role INTO role FROM syncd.sync_memberships m
        WHERE m.space_no = sync_role_in.space_no AND m.user_no = syncd.sync_user();
        IF role IS NULL THEN
            RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
        END IF;
    END IF;
END $$;

-- The number of a space that the acting user owns, and shares: a personal one is nobody else's. Locks as above. Raises SY010.
CREATE OR REPLACE FUNCTION syncd.sync_owned_space(p_space text, p_lock boolean) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v record;
BEGIN
    SELECT * INTO v FROM syncd.sync_role_in(p_space, p_lock);
    IF v.role <> 'owner' OR starts_with(p_space, '_personal:') THEN
        RAISE EXCEPTION 'forbidden' USING ERRCODE = 'SY010';
    END IF;
    RETURN v.space_no;
END $$;

-- A new space. Its maker has been a member for exactly as long as it exists, which is how a request that is repeated is
-- known: of its maker, with the same name, it is answered as done.
CREATE OR REPLACE FUNCTION syncd.sync_space_create(p_space text, p_name text) RETURNS syncd.sync_space
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_space syncd.sync_spaces;
    v_role  text := 'owner';
    v_made  integer[];
BEGIN
    v_made := syncd.sync_spaces_put(ARRAY[p_space], p_name);
    SELECT s.* INTO v_space FROM syncd.sync_spaces s WHERE s.space_no = ANY (v_made);
    IF v_space.space_no IS NOT NULL THEN
        INSERT INTO syncd.sync_memberships (user_no, space_no, role, joined_at)
        VALUES (syncd.sync_user(), v_space.space_no, v_role, v_space.created_at);
    ELSE
        SELECT s.* INTO v_space FROM syncd.sync_spaces s
        WHERE s.space_id = p_space AND s.name = p_name AND s.deleted_at IS NULL;
        SELECT m.role INTO v_role FROM syncd.sync_memberships m
        WHERE m.user_no = syncd.sync_user() AND m.space_no = v_space.space_no AND m.joined_at = v_space.created_at;
        IF v_role IS NULL THEN
            RAISE EXCEPTION 'conflict' USING ERRCODE = 'SY010';
        END IF;
    END IF;
    RETURN (v_space.space_id, v_space.name, v_role, syncd.sync_micros(v_space.created_at))::syncd.sync_space;
END $$;

-- A new space. A former owner of a deleted one makes another of its id: that one's number is new, and the deleted one gets a new id.
CREATE OR REPLACE FUNCTION syncd.sync_space_make(p_space text, p_name text, p_bounds jsonb) RETURNS syncd.sync_space
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user bigint := syncd.sync_user();
BEGIN
    PERFORM syncd.sync_count_alone(v_user);
    IF NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space
                   AND (s.deleted_at IS NULL OR NOT coalesce(v_user = ANY (s.owners), false))) THEN
        PERFORM syncd.sync_check_room(v_user, 'owner', p_bounds);
        PERFORM syncd.sync_must_spend(v_user, 'made', p_bounds, 1);
        UPDATE syncd.sync_spaces s SET space_id = f.id, quoted = to_json(f.id)::text, former_id = s.space_id
        FROM (SELECT gen_random_uuid()::text AS id) f WHERE s.space_id = p_space;
    END IF;
    RETURN syncd.sync_space_create(p_space, p_name);
END $$;

-- All spaces of the acting user, or the one named.
CREATE OR REPLACE FUNCTION syncd.sync_space_list(p_space text) RETURNS SETOF syncd.sync_space
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT s.space_id, s.name, m.role, syncd.sync_micros(s.created_at)
    FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE m.user_no = syncd.sync_user() AND (p_space IS NULL OR s.space_id = p_space) ORDER BY s.space_id;
END $$;

-- Another name for a space, by an owner. The name that it has is answered as done.
CREATE OR REPLACE FUNCTION syncd.sync_space_rename(p_space text, p_name text, p_bounds jsonb) RETURNS SETOF syncd.sync_space
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_space integer := syncd.sync_owned_space(p_space, true);
    v_was   text := (SELECT s.name FROM syncd.sync_spaces s WHERE s.space_no = v_space);
BEGIN
    IF v_was <> p_name THEN
        PERFORM syncd.sync_must_spend(syncd.sync_user(), 'renamed', p_bounds, 1);
        UPDATE syncd.sync_spaces s SET name = p_name WHERE s.space_no = v_space;
        PERFORM syncd.sync_note_name(v_space);
        PERFORM syncd.sync_audit_note('renamed', v_space);  -- not what it was called: a text that a user gave outlives them there
    END IF;
    RETURN QUERY SELECT l.* FROM syncd.sync_space_list(p_space) l;
END $$;

-- Deleting a space ends every membership and invitation; its log stays, and nobody is a member who could read it.
CREATE OR REPLACE FUNCTION syncd.sync_space_delete(p_space text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v record;
BEGIN
    SELECT * INTO v FROM syncd.sync_role_in(p_space, true);
    IF v.role <> 'owner' THEN
        RAISE EXCEPTION 'forbidden' USING ERRCODE = 'SY010';
    END IF;
    UPDATE syncd.sync_spaces s SET deleted_at = clock_timestamp(), owners = ARRAY(
        SELECT m.user_no FROM syncd.sync_memberships m WHERE m.space_no = v.space_no AND m.role = 'owner')
    WHERE s.space_no = v.space_no;
    DELETE FROM syncd.sync_invitations i WHERE i.space_no = v.space_no;
    DELETE FROM syncd.sync_links l WHERE l.space_no = v.space_no;
    DELETE FROM syncd.sync_removals r WHERE r.space_no = v.space_no;
    DELETE FROM syncd.sync_memberships m WHERE m.space_no = v.space_no;
END $$;

CREATE OR REPLACE FUNCTION syncd.sync_member_list(p_space text) RETURNS SETOF syncd.sync_member
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v record;
BEGIN
    SELECT * INTO v FROM syncd.sync_role_in(p_space, false);
    RETURN QUERY SELECT n.name, m.role, syncd.sync_micros(m.joined_at) FROM syncd.sync_memberships m
    JOIN syncd.sync_names n ON n.name_no = m.user_no WHERE m.space_no = v.space_no ORDER BY n.name;
END $$;

-- The members of a space that the acting user is in, and for an owner those who were invited: `joined_us` is null for these.
CREATE OR REPLACE FUNCTION syncd.sync_roster(p_space text)
RETURNS TABLE (user_id text, role text, joined_us bigint, invited_by text, invited_us bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    SELECT * INTO v FROM syncd.sync_role_in(p_space, false);
    RETURN QUERY SELECT m.user_id, m.role, m.joined_us, NULL::text, NULL::bigint FROM syncd.sync_member_list(p_space) m;
    RETURN QUERY SELECT n.name, i.role, NULL::bigint, b.name, syncd.sync_micros(i.invited_at) FROM syncd.sync_invitations i
    JOIN syncd.sync_names n ON n.name_no = i.user_no JOIN syncd.sync_names b ON b.name_no = i.invited_by
    WHERE i.space_no = v.space_no AND v.role = 'owner' ORDER BY n.name;
END $$;

-- Refuses what would leave a space without an owner.
CREATE OR REPLACE FUNCTION syncd.sync_keep_owner(p_space_no integer, p_user_no integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_memberships m
                   WHERE m.space_no = p_space_no AND m.user_no <> p_user_no AND m.role = 'owner') THEN
        RAISE EXCEPTION 'last_owner' USING ERRCODE = 'SY010';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION syncd.sync_member_put(p_space text, p_user text, p_role text) RETURNS syncd.sync_member
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_space  integer := syncd.sync_owned_space(p_space, true);
    v_member integer := (syncd.sync_names_known(ARRAY[p_user]))[1];
    v_joined timestamptz;
BEGIN
    IF p_role <> 'owner' AND EXISTS (SELECT FROM syncd.sync_memberships m
            WHERE m.space_no = v_space AND m.user_no = v_member AND m.role = 'owner') THEN
        PERFORM syncd.sync_keep_owner(v_space, v_member);
        DELETE FROM syncd.sync_links l WHERE l.space_no = v_space AND l.made_by = v_member;
    END IF;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role) VALUES (coalesce(v_member, syncd.sync_name(p_user)), v_space, p_role)
    ON CONFLICT (user_no, space_no) DO UPDATE SET role = EXCLUDED.role RETURNING joined_at INTO v_joined;
    RETURN (p_user, p_role, syncd.sync_micros(v_joined))::syncd.sync_member;
END $$;

-- Owners remove anyone, whom no link brings back, and withdraw invitations; anyone may leave, the last owner cannot. An owner's links end. While a
-- link is in force, who has left is removed as a member is: only of those whom the owner knows to have been there, by the audit or by a link.
CREATE OR REPLACE FUNCTION syncd.sync_member_remove(p_space text, p_user text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v        record;
    v_member integer;
    v_role   text;
BEGIN
    SELECT * INTO v FROM syncd.sync_role_in(p_space, true);
    SELECT n.name_no, m.role INTO v_member, v_role FROM syncd.sync_names n
    JOIN syncd.sync_memberships m ON m.user_no = n.name_no AND m.space_no = v.space_no WHERE n.name = p_user;
    IF v.role <> 'owner' AND v_member IS DISTINCT FROM syncd.sync_user() OR starts_with(p_space, '_personal:') THEN
        RAISE EXCEPTION 'forbidden' USING ERRCODE = 'SY010';
    END IF;
    IF v_member IS NULL THEN
        v_member := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_user);
        DELETE FROM syncd.sync_invitations i WHERE i.space_no = v.space_no AND i.user_no = v_member;
        IF NOT FOUND AND NOT (EXISTS (
                SELECT FROM syncd.sync_links l JOIN syncd.sync_memberships o ON o.space_no = l.space_no AND o.user_no = l.made_by AND o.role = 'owner'
                WHERE l.space_no = v.space_no AND l.used < l.uses AND l.expires_at > clock_timestamp()) AND (
                EXISTS (SELECT FROM syncd.sync_audit a WHERE a.space_no = v.space_no AND a.user_no = v_member)
                OR EXISTS (SELECT FROM syncd.sync_link_joins j JOIN syncd.sync_links l ON l.link_id = j.link_id
                           WHERE l.space_no = v.space_no AND j.user_no = v_member))) THEN
            RAISE EXCEPTION 'member_not_found' USING ERRCODE = 'SY010';
        END IF;
    END IF;
    IF v_role = 'owner' THEN
        PERFORM syncd.sync_keep_owner(v.space_no, v_member);
        DELETE FROM syncd.sync_links l WHERE l.space_no = v.space_no AND l.made_by = v_member;
    END IF;
    IF v_member <> syncd.sync_user() THEN
        INSERT INTO syncd.sync_removals (user_no, space_no) VALUES (v_member, v.space_no) ON CONFLICT (user_no, space_no) DO NOTHING;
    END IF;
    DELETE FROM syncd.sync_memberships m WHERE m.space_no = v.space_no AND m.user_no = v_member;
END $$;
