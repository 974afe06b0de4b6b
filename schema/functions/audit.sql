-- The audit: what was done to spaces and by whom, in the transaction that did it, and how often something was refused.
-- Called by the role that serves: sync_audit_say, sync_audit_count, sync_audit_of. sync_audit_note is for the functions of other
-- areas, the role that compacts and operators. Members that come, go or get another role are noted by triggers. No detail holds a
-- token or a value. All but sync_audit_of are SECURITY DEFINER: they add, and nobody else does.

-- Notes that something was done, by the acting user if there is one. p_detail: what matters of it, at most 2,000 bytes.
CREATE OR REPLACE FUNCTION syncd.sync_audit_note(p_what text, p_space bigint, p_user bigint DEFAULT NULL, p_detail jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO syncd.sync_audit (what, space_no, actor_no, user_no, detail)
    VALUES (p_what, p_space, nullif(syncd.sync_user(), 0), p_user, p_detail)
$$;

-- The same of what only a server knows that it did for a user: an export, an import, a restore. Of a space only where the user is a
-- member.
CREATE OR REPLACE FUNCTION syncd.sync_audit_say(p_user text, p_what text, p_space text, p_detail jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_user  bigint := syncd.sync_act_as(p_user);
    v_space bigint := (SELECT m.space_no FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
                        WHERE m.user_no = v_user AND s.space_id = p_space);
BEGIN
    IF v_user > 0 AND p_what IN ('export', 'import', 'restore') AND (p_space IS NULL OR v_space IS NOT NULL) THEN
        PERFORM syncd.sync_audit_note(p_what, v_space, NULL, p_detail);
    END IF;
END $$;

-- Counts what was refused, by the hour. p_counts: [{"what", "why", "space"?, "n"}], of each n a million at most. A count stays where
-- JSON numbers end (2^53), so that no call makes the next one fail.
CREATE OR REPLACE FUNCTION syncd.sync_audit_count(p_counts jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_hour timestamptz := date_trunc('hour', clock_timestamp(), 'UTC');
    d      record;
BEGIN
    FOR d IN SELECT x.what, jsonb_build_object('why', left(x.why, 40)) AS detail, s.space_no, sum(least(x.n, 1000000)) AS n
             FROM jsonb_to_recordset(p_counts) AS x (what text, why text, space text, n bigint)
             LEFT JOIN syncd.sync_spaces s ON s.space_id = x.space
             WHERE x.what IN ('refused_tokens', 'quota_hits') AND x.why ~ '^[a-z_]+$' AND x.n > 0
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LOOP
        UPDATE syncd.sync_audit a SET count = least(a.count + d.n, 1::bigint << 53)
        WHERE a.hour = v_hour AND a.what = d.what AND coalesce(a.space_no, 0) = coalesce(d.space_no, 0) AND a.detail = d.detail;
        IF NOT FOUND THEN
            INSERT INTO syncd.sync_audit AS a (what, space_no, detail, hour, count) VALUES (d.what, d.space_no, d.detail, v_hour, d.n)
            ON CONFLICT (hour, what, coalesce(space_no, 0), detail) WHERE hour IS NOT NULL
                DO UPDATE SET count = least(a.count::numeric + EXCLUDED.count, 1::bigint << 53);
        END IF;
    END LOOP;
END $$;

-- What was done in a space after p_after, oldest first, for one of its owners: by row security, and else it says why not. Raises
-- SY010.
CREATE OR REPLACE FUNCTION syncd.sync_audit_of(p_user text, p_space text, p_after bigint, p_most integer)
RETURNS TABLE (audit_no bigint, at_us bigint, what text, actor text, subject text, detail text, count bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_user bigint := syncd.sync_act_as(p_user);
    m      record;
BEGIN
    SELECT h.space_no, h.role INTO m FROM syncd.sync_memberships h JOIN syncd.sync_spaces s ON s.space_no = h.space_no
    WHERE h.user_no = v_user AND s.space_id = p_space;
    IF m.space_no IS NULL THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
    ELSIF m.role <> 'owner' THEN
        RAISE EXCEPTION 'forbidden' USING ERRCODE = 'SY010';
    END IF;
    RETURN QUERY
    SELECT a.audit_no, syncd.sync_micros(a.at), a.what, n.name, u.name, a.detail::text, a.count
    FROM syncd.sync_audit a LEFT JOIN syncd.sync_names n ON n.name_no = a.actor_no LEFT JOIN syncd.sync_names u ON u.name_no = a.user_no
    WHERE a.space_no = m.space_no AND a.audit_no > p_after ORDER BY a.audit_no LIMIT p_most;
END $$;

-- Members that came, and that went: who left, where that is who acts. A personal space has its user, which is
-- nothing to note.
CREATE OR REPLACE FUNCTION syncd.sync_audit_members() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_audit (what, space_no, actor_no, user_no, detail)
    SELECT CASE TG_OP WHEN 'INSERT' THEN 'member_added' ELSE 'member_removed' END, c.space_no, nullif(syncd.sync_user(), 0), c.user_no,
           jsonb_build_object('role', c.role, 'source', c.source)
    FROM changed c JOIN syncd.sync_spaces s ON s.space_no = c.space_no
    WHERE NOT starts_with(s.space_id, '_personal:') ORDER BY c.space_no, c.user_no;
    RETURN NULL;
END $$;

-- Members that got another role.
CREATE OR REPLACE FUNCTION syncd.sync_audit_changes() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_audit (what, space_no, actor_no, user_no, detail)
    SELECT 'role_changed', c.space_no, nullif(syncd.sync_user(), 0), c.user_no, jsonb_build_object('role', c.role, 'was', w.role)
    FROM changed c JOIN was w ON w.space_no = c.space_no AND w.user_no = c.user_no
    WHERE w.role <> c.role ORDER BY c.space_no, c.user_no;
    RETURN NULL;
END $$;

-- A space that is deleted.
CREATE OR REPLACE FUNCTION syncd.sync_audit_space_ends() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_audit_note('space_deleted', NEW.space_no);
    RETURN NULL;
END $$;

-- Invitations that came, and that ended: accepted, declined or withdrawn, as who acts and what else is noted say. Their open
-- sockets hear of it (functions/live.sql), whatever the space: 0.
CREATE OR REPLACE FUNCTION syncd.sync_audit_invitations() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_audit (what, space_no, actor_no, user_no, detail)
    SELECT CASE TG_OP WHEN 'INSERT' THEN 'invited' ELSE 'invitation_ended' END, c.space_no, nullif(syncd.sync_user(), 0), c.user_no,
           jsonb_build_object('role', c.role)
    FROM changed c ORDER BY c.space_no, c.user_no;
    INSERT INTO syncd.sync_membership_events (user_no, space_no) SELECT DISTINCT c.user_no, 0 FROM changed c;
    RETURN NULL;
END $$;
