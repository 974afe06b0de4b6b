-- Invitations by a link. Each function is called by sync_act_as's user. The role that serves cannot read the table of links, and comes
-- to a link only with the SHA-256 of its token. One is in force until it ends, is used up or is withdrawn, and while its maker is an owner.
-- Called by the role that serves; sync_links_in and sync_link_open by the functions here alone.

-- The links of a space that are in force.
CREATE OR REPLACE FUNCTION syncd.sync_links_in(p_space bigint)
RETURNS TABLE (link_id text, role text, uses integer, used integer, made_by text, made_us bigint, expires_us bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.link_id::text, l.role, l.uses, l.used, n.name, syncd.sync_micros(l.made_at), syncd.sync_micros(l.expires_at)
    FROM syncd.sync_links l JOIN syncd.sync_names n ON n.name_no = l.made_by
    JOIN syncd.sync_memberships o ON o.space_no = l.space_no AND o.user_no = l.made_by AND o.role = 'owner'
    WHERE l.space_no = p_space AND l.used < l.uses AND l.expires_at > clock_timestamp() ORDER BY l.made_at, l.link_id
$$;

-- Makes a link for p_uses members within p_seconds, and takes those of the space away that have ended.
CREATE OR REPLACE FUNCTION syncd.sync_link_make(p_space text, p_digest bytea, p_role text, p_uses integer, p_seconds integer, p_bounds jsonb)
RETURNS TABLE (link_id text, role text, uses integer, used integer, made_by text, made_us bigint, expires_us bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c_most  constant integer := 100;
    v_space bigint := syncd.sync_owned_space(p_space, true);
    v_now   timestamptz := clock_timestamp();
    v_link  uuid;
BEGIN
    DELETE FROM syncd.sync_links l WHERE l.space_no = v_space AND l.expires_at <= v_now;
    IF (SELECT count(*) FROM syncd.sync_links_in(v_space)) >= c_most THEN
        RAISE EXCEPTION 'limit_reached' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('what', 'space_links', 'most', c_most);
    END IF;
    PERFORM syncd.sync_must_spend(syncd.sync_user(), 'links', p_bounds, 1);
    INSERT INTO syncd.sync_links AS l (digest, space_no, made_by, role, uses, made_at, expires_at)
    VALUES (p_digest, v_space, syncd.sync_user(), p_role, p_uses, v_now, v_now + make_interval(secs => p_seconds)) RETURNING l.link_id INTO v_link;
    PERFORM syncd.sync_audit_note('link_made', v_space, NULL,
                                  jsonb_build_object('id', v_link, 'role', p_role, 'uses', p_uses, 'expiresIn', p_seconds));
    RETURN QUERY SELECT l.* FROM syncd.sync_links_in(v_space) l WHERE l.link_id = v_link::text;
END $$;

-- The links that are in force in a space, for one of its owners.
CREATE OR REPLACE FUNCTION syncd.sync_link_list(p_space text)
RETURNS TABLE (link_id text, role text, uses integer, used integer, made_by text, made_us bigint, expires_us bigint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT l.* FROM syncd.sync_links_in(syncd.sync_owned_space(p_space, false)) l
$$;

-- Ends a link of an owner's space, by its id.
CREATE OR REPLACE FUNCTION syncd.sync_link_withdraw(p_space text, p_link text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_space bigint := syncd.sync_owned_space(p_space, true);
    v       record;
BEGIN
    DELETE FROM syncd.sync_links l WHERE l.space_no = v_space AND l.link_id::text = p_link RETURNING l.role, l.used INTO v;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invitation_not_found' USING ERRCODE = 'SY010';
    END IF;
    PERFORM syncd.sync_audit_note('link_withdrawn', v_space, NULL, jsonb_build_object('id', p_link, 'role', v.role, 'used', v.used));
END $$;

-- The link of a token, where the acting user may join by it or is a member already. Every other case is refused as one, by one statement:
-- neither the answer nor its time tells a token that was good once, or for others, from one that was never made.
CREATE OR REPLACE FUNCTION syncd.sync_link_open(p_digest bytea, OUT space_no bigint, OUT space_id text, OUT link_id uuid, OUT role text,
                                                OUT made_by bigint, OUT is_member boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_user bigint := syncd.sync_user();
    v_name text := (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = v_user);
    v      record;
BEGIN
    SELECT s.space_no, s.space_id, l.link_id, l.role, l.made_by, m.user_no IS NOT NULL AS is_member INTO v
    FROM syncd.sync_links l JOIN syncd.sync_spaces s ON s.space_no = l.space_no AND s.deleted_at IS NULL
    JOIN syncd.sync_memberships o ON o.space_no = l.space_no AND o.user_no = l.made_by AND o.role = 'owner'
    JOIN syncd.sync_names k ON k.name_no = l.made_by
    LEFT JOIN syncd.sync_memberships m ON m.space_no = l.space_no AND m.user_no = v_user
    WHERE l.digest = p_digest AND v_user > 0 AND l.expires_at > clock_timestamp() AND (m.user_no IS NOT NULL OR (
        l.used < l.uses
        AND NOT EXISTS (SELECT FROM syncd.sync_removals r WHERE r.user_no = v_user AND r.space_no = l.space_no)
        AND NOT EXISTS (SELECT FROM syncd.sync_blocks b WHERE b.user_no = v_user AND b.blocked = k.name)
        AND NOT EXISTS (SELECT FROM syncd.sync_blocks b WHERE b.user_no = l.made_by AND b.blocked = v_name)));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'invitation_not_found' USING ERRCODE = 'SY010';
    END IF;
    space_no := v.space_no;
    space_id := v.space_id;
    link_id := v.link_id;
    role := v.role;
    made_by := v.made_by;
    is_member := v.is_member;
END $$;

-- Makes the acting user a member by a link, by their own hand; a member stays what they are, and uses nothing up, and who comes back by the link
-- by which they came takes neither a use nor the maker's allowance, else one could use it up for all. The space is locked
-- while uses are counted; the order of locks is that of sync_member_add.
CREATE OR REPLACE FUNCTION syncd.sync_link_join(p_digest bytea, p_bounds jsonb) RETURNS SETOF syncd.sync_space
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user    bigint := syncd.sync_user();
    v         record;
    v_back    boolean;
    v_seconds integer;
BEGIN
    SELECT * INTO v FROM syncd.sync_link_open(p_digest);
    IF NOT v.is_member THEN
        PERFORM FROM syncd.sync_spaces s WHERE s.space_no = v.space_no FOR NO KEY UPDATE;
        SELECT * INTO v FROM syncd.sync_link_open(p_digest);
    END IF;
    IF NOT v.is_member THEN
        v_back := EXISTS (SELECT FROM syncd.sync_link_joins j WHERE j.link_id = v.link_id AND j.user_no = v_user);
        v_seconds := CASE WHEN v_back THEN 0 ELSE syncd.sync_spend(v.made_by, 'members', (p_bounds ->> 'members')::integer, 1) END;
        IF v_seconds > 0 THEN
            RAISE EXCEPTION 'too_many_requests' USING ERRCODE = 'SY010', DETAIL =
                jsonb_build_object('what', 'joining', 'most', p_bounds -> 'members', 'seconds', v_seconds);
        END IF;
        PERFORM syncd.sync_count_alone(v_user);
        -- Either may have blocked the other meanwhile.
        PERFORM syncd.sync_link_open(p_digest);
        PERFORM syncd.sync_check_room(v_user, v.role, p_bounds);
        -- Whose row nobody but the user locks, so that it is in no ring.
        PERFORM syncd.sync_must_spend(v_user, 'joins', jsonb_build_object('joins', p_bounds -> 'members'), 1);
        IF NOT v_back THEN
            UPDATE syncd.sync_links l SET used = l.used + 1 WHERE l.digest = p_digest;
            INSERT INTO syncd.sync_link_joins (link_id, user_no) VALUES (v.link_id, v_user);
        END IF;
        DELETE FROM syncd.sync_invitations i WHERE i.user_no = v_user AND i.space_no = v.space_no;
        INSERT INTO syncd.sync_memberships (user_no, space_no, role) VALUES (v_user, v.space_no, v.role);
        PERFORM syncd.sync_audit_note('joined_by_link', v.space_no, v_user, jsonb_build_object('id', v.link_id, 'role', v.role));
    END IF;
    RETURN QUERY SELECT s.* FROM syncd.sync_space_list(v.space_id) s;
END $$;
