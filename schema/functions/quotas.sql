-- Quotas: what a space and a user may have at most of what functions/usage.sql counts. As that is counted behind the pushes, a quota may
-- be exceeded by what is written between two looks.
-- Called by the role that serves: sync_quota_over, sync_quota_rates, sync_quota_of, sync_quota_device. sync_quota_set is called by an
-- operator alone. All but that are SECURITY DEFINER: nobody may read these tables.

-- What a user or a space may have at most: its own quota, else p_default; null for no bound.
CREATE OR REPLACE FUNCTION syncd.sync_quota_most(p_quota text, p_user bigint, p_space bigint, p_default bigint) RETURNS bigint
LANGUAGE sql STABLE
RETURN nullif(coalesce((SELECT q.most FROM syncd.sync_quotas q WHERE q.quota = p_quota
                        AND (q.user_no = p_user AND p_space IS NULL OR q.space_no = p_space AND p_user IS NULL)), p_default), 0);

-- The spaces that have more than they may, or whose maker has: their ids, which quota, what there is and may be. p_defaults:
-- {quota: most}. Users that had too much are summed up again before, because they may have left or deleted a space.
CREATE OR REPLACE FUNCTION syncd.sync_quota_over(p_defaults jsonb) RETURNS TABLE (space_id text, quota text, used bigint, most bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_users bigint[] := ARRAY(
        SELECT u.user_no FROM syncd.sync_user_usage u WHERE u.records > nullif((p_defaults ->> 'user_records')::bigint, 0)
        UNION SELECT u.user_no FROM syncd.sync_user_usage u WHERE u.bytes > nullif((p_defaults ->> 'user_bytes')::bigint, 0)
        UNION SELECT q.user_no FROM syncd.sync_quotas q WHERE q.quota IN ('user_records', 'user_bytes'));
    v_spaces bigint[] := ARRAY(
        SELECT u.space_no FROM syncd.sync_space_usage u WHERE u.records > nullif((p_defaults ->> 'space_records')::bigint, 0)
        UNION SELECT u.space_no FROM syncd.sync_space_usage u WHERE u.bytes > nullif((p_defaults ->> 'space_bytes')::bigint, 0)
        UNION SELECT q.space_no FROM syncd.sync_quotas q WHERE q.quota IN ('space_records', 'space_bytes'));
BEGIN
    PERFORM syncd.sync_usage_sum(v_users);
    RETURN QUERY
    SELECT s.space_id, o.name, o.used, o.most FROM (
        SELECT u.space_no, k.name, k.used, syncd.sync_quota_most(k.name, NULL, u.space_no, (p_defaults ->> k.name)::bigint) AS most
        FROM syncd.sync_space_usage u
        CROSS JOIN LATERAL (VALUES ('space_records', u.records), ('space_bytes', u.bytes)) AS k (name, used)
        WHERE u.space_no = ANY (v_spaces)
        UNION ALL
        SELECT p.space_no, k.name, k.used, syncd.sync_quota_most(k.name, u.user_no, NULL, (p_defaults ->> k.name)::bigint)
        FROM syncd.sync_user_usage u
        CROSS JOIN LATERAL (VALUES ('user_records', u.records), ('user_bytes', u.bytes)) AS k (name, used)
        JOIN syncd.sync_space_usage p ON p.maker_no = u.user_no
        JOIN syncd.sync_memberships m ON m.space_no = p.space_no AND m.user_no = u.user_no
        WHERE u.user_no = ANY (v_users)) o
    JOIN syncd.sync_spaces s ON s.space_no = o.space_no
    WHERE o.used > o.most LIMIT 20000;
END $$;

-- The rates that users have in place of the server's settings.
CREATE OR REPLACE FUNCTION syncd.sync_quota_rates() RETURNS TABLE (user_id text, quota text, most bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.name, q.quota, q.most FROM syncd.sync_quotas q JOIN syncd.sync_names n ON n.name_no = q.user_no
    WHERE q.quota IN ('requests', 'bytes_in', 'bytes_out')
$$;

-- What a user has, {quota: used}, and the quotas that are the user's own; with p_space the same of a space that the user is a
-- member of, else null.
CREATE OR REPLACE FUNCTION syncd.sync_quota_of(p_user text, p_space text, OUT used jsonb, OUT own jsonb, OUT space_used jsonb, OUT space_own jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_user  bigint := syncd.sync_act_as(p_user);
    v_space bigint;
BEGIN
    SELECT jsonb_build_object('user_records', coalesce(sum(s.records), 0), 'user_bytes', coalesce(sum(s.bytes), 0),
                              'spaces', (SELECT o.owned FROM syncd.sync_spaces_of(v_user) o),
                              'devices', (SELECT count(*) FROM syncd.sync_devices d WHERE d.user_no = v_user),
                              'held', (SELECT count(*) FROM syncd.sync_held h WHERE h.user_no = v_user),
                              'held_bytes', (SELECT coalesce(sum(h.size), 0) FROM syncd.sync_held h WHERE h.user_no = v_user))
    INTO used FROM syncd.sync_space_usage s JOIN syncd.sync_memberships m ON m.space_no = s.space_no AND m.user_no = s.maker_no
    WHERE s.maker_no = v_user;
    SELECT coalesce(jsonb_object_agg(q.quota, q.most), '{}') INTO own FROM syncd.sync_quotas q WHERE q.user_no = v_user;
    SELECT m.space_no INTO v_space FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    WHERE m.user_no = v_user AND s.space_id = p_space;
    IF v_space IS NOT NULL THEN
        SELECT jsonb_build_object('space_records', coalesce(sum(s.records), 0), 'space_bytes', coalesce(sum(s.bytes), 0))
        INTO space_used FROM syncd.sync_space_usage s WHERE s.space_no = v_space;
        SELECT coalesce(jsonb_object_agg(q.quota, q.most), '{}') INTO space_own FROM syncd.sync_quotas q WHERE q.space_no = v_space;
    END IF;
END $$;

-- Whether a device is one that the user has, or there is room for one more.
CREATE OR REPLACE FUNCTION syncd.sync_quota_device(p_user text, p_client text, p_default bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_user bigint := syncd.sync_act_as(p_user);
    v_most bigint := syncd.sync_quota_most('devices', v_user, NULL, p_default);
BEGIN
    RETURN v_most IS NULL
        OR EXISTS (SELECT FROM syncd.sync_devices d JOIN syncd.sync_names n ON n.name_no = d.client_no
                   WHERE d.user_no = v_user AND n.name = p_client)
        OR (SELECT count(*) FROM syncd.sync_devices d WHERE d.user_no = v_user) < v_most;
END $$;

-- Gives a user or a space a quota of its own; null p_most: takes it back. Whether there is such a user or space. An operator's.
CREATE OR REPLACE FUNCTION syncd.sync_quota_set(p_user text, p_space text, p_quota text, p_most bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user  bigint := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_user);
    v_space bigint := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space);
BEGIN
    IF p_user IS NOT NULL AND v_user IS NULL AND p_most IS NOT NULL THEN
        PERFORM syncd.sync_names_put(ARRAY[p_user], NULL);  -- who has not come yet may have one too
        SELECT n.name_no INTO v_user FROM syncd.sync_names n WHERE n.name = p_user;
    END IF;
    DELETE FROM syncd.sync_quotas q WHERE q.quota = p_quota AND (q.user_no = v_user OR q.space_no = v_space);
    IF p_most IS NOT NULL AND coalesce(v_user, v_space) IS NOT NULL THEN
        INSERT INTO syncd.sync_quotas (user_no, space_no, quota, most) VALUES (v_user, v_space, p_quota, p_most);
    END IF;
    RETURN coalesce(v_user, v_space) IS NOT NULL;
END $$;
