-- What one user may have and do to others: bounds that hold whoever asks. p_bounds, where it stands: {"owned", "joined",
-- "added", "made", "renamed", "members", "links", "blocks"}, the operator's settings; null, or what is missing in it, is no bound.
-- Called by the owner's functions that make spaces and members, and by nobody else. Refusals have ERRCODE SY010, as in functions/spaces.sql; their
-- DETAIL is {"what", "most", "seconds"?}, which the server puts into words.

-- Makes what follows wait for others who count the same user's spaces.
CREATE OR REPLACE FUNCTION syncd.sync_count_alone(p_user bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM syncd.sync_names n WHERE n.name_no = p_user FOR NO KEY UPDATE;
END $$;

-- Takes p_count of the p_most times that a user may do something in an hour: as many at once, and then one each
-- hour / p_most. Returns after how many seconds there are enough; 0: they are taken.
CREATE OR REPLACE FUNCTION syncd.sync_spend(p_user bigint, p_what text, p_most integer, p_count bigint) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_cost  interval := interval '1 hour' / p_most * p_count;
    v_now   timestamptz := clock_timestamp();
    v_until timestamptz;
BEGIN
    IF p_most IS NULL OR p_count = 0 THEN
        RETURN 0;
    END IF;
    INSERT INTO syncd.sync_allowances (user_no, what, until) VALUES (p_user, p_what, '-infinity')
    ON CONFLICT (user_no, what) DO NOTHING;
    SELECT greatest(a.until, v_now) + v_cost INTO v_until FROM syncd.sync_allowances a
    WHERE a.user_no = p_user AND a.what = p_what FOR UPDATE;
    -- A millisecond for what the division above has lost.
    IF v_until > v_now + interval '1 hour 1 millisecond' THEN
        RETURN ceil(extract(epoch FROM v_until - v_now - interval '1 hour'))::integer;
    END IF;
    UPDATE syncd.sync_allowances a SET until = v_until WHERE a.user_no = p_user AND a.what = p_what;
    RETURN 0;
END $$;

-- The same, refused where there are not enough.
CREATE OR REPLACE FUNCTION syncd.sync_must_spend(p_user bigint, p_what text, p_bounds jsonb, p_count bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_seconds integer := syncd.sync_spend(p_user, p_what, (p_bounds ->> p_what)::integer, p_count);
BEGIN
    IF v_seconds > 0 THEN
        RAISE EXCEPTION 'too_many_requests' USING ERRCODE = 'SY010', DETAIL =
            jsonb_build_object('what', p_what, 'most', p_bounds -> p_what, 'seconds', v_seconds);
    END IF;
END $$;

-- How many spaces a user is in by own hand, and owns of them; and by others' hands, with those that wait for an answer.
CREATE OR REPLACE FUNCTION syncd.sync_spaces_of(p_user bigint, OUT owned bigint, OUT joined bigint, OUT added bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE m.added_by IS NULL AND m.role = 'owner'), count(*) FILTER (WHERE m.added_by IS NULL),
           count(m.added_by) + (SELECT count(*) FROM syncd.sync_invitations i WHERE i.user_no = p_user)
    FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE m.user_no = p_user AND m.source = 'table' AND NOT starts_with(s.space_id, '_personal:')
$$;

-- Refuses one space more by the user's own hand, where there are as many as may be.
CREATE OR REPLACE FUNCTION syncd.sync_check_room(p_user bigint, p_role text, p_bounds jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v      record;
    v_what text;
BEGIN
    SELECT * INTO v FROM syncd.sync_spaces_of(p_user);
    v_what := CASE WHEN p_role = 'owner' AND v.owned >= (p_bounds ->> 'owned')::bigint THEN 'owned'
                   WHEN v.joined >= (p_bounds ->> 'joined')::bigint THEN 'joined' END;
    IF v_what IS NOT NULL THEN
        RAISE EXCEPTION 'limit_reached' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('what', v_what, 'most', p_bounds -> v_what);
    END IF;
END $$;

-- Whether a user takes one space more from p_by. False: as many as may be by others' hands, or p_by is blocked. Nobody is told which.
CREATE OR REPLACE FUNCTION syncd.sync_takes_more(p_user bigint, p_by bigint, p_bounds jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_count_alone(p_user);
    RETURN NOT EXISTS (SELECT FROM syncd.sync_blocks b JOIN syncd.sync_names n ON n.name = b.blocked
                       WHERE b.user_no = p_user AND n.name_no = p_by)
       AND ((p_bounds -> 'added') IS NULL OR (SELECT o.added FROM syncd.sync_spaces_of(p_user) o) < (p_bounds ->> 'added')::bigint);
END $$;
