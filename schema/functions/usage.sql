-- Usage: what a space and a user have is counted behind the pushes, which pay nothing for it, from where it was last counted. A space
-- counts to who made it while that is a member of it. What it may be at most is in functions/quotas.sql.
-- Called by the role that serves: sync_usage_look. sync_usage_count is called by the role that compacts too, sync_usage_recount by an
-- operator alone, the others by functions and triggers. All but sync_usage_recount that others call are SECURITY DEFINER: nobody may
-- read these tables.

-- About the bytes that the log keeps of a change: its row, as it is stored.
CREATE OR REPLACE FUNCTION syncd.sync_stored_bytes(p_fields json, p_lost json, p_actor json, p_record text, p_change text) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 140 + coalesce(pg_column_size(p_fields), 0) + coalesce(pg_column_size(p_lost), 0) + coalesce(pg_column_size(p_actor), 0)
       + octet_length(p_record) + coalesce(octet_length(p_change), 0);

-- By how many the records that are not deleted became more with the changes after p_from up to p_upto. A record that was counted
-- before has a change there, its newest, which compaction keeps for as long as the record; whether it was deleted then is
-- written down. Some were written again since, and are as they are now: that is what the next count finds written down.
CREATE OR REPLACE FUNCTION syncd.sync_usage_records(p_space bigint, p_app bigint, p_from bigint, p_upto bigint) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    WITH firsts AS MATERIALIZED (
        SELECT DISTINCT ON (c.table_no, c.record_id) c.table_no, c.record_id, abs(c.prev_seq) AS prev
        FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_from AND c.seq <= p_upto
        ORDER BY c.table_no, c.record_id, c.seq
    ), met AS MATERIALIZED (
        SELECT f.table_no, f.record_id, r.deleted,
               f.prev <= p_from AND EXISTS (SELECT FROM syncd.sync_changes p
                   WHERE p.space_no = p_space AND p.app_no = p_app AND p.seq = f.prev) AS known,
               EXISTS (SELECT FROM syncd.sync_counted_deleted d WHERE d.space_no = p_space AND d.app_no = p_app
                   AND d.table_no = f.table_no AND d.record_id = f.record_id) AS was_deleted
        FROM firsts f CROSS JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (SELECT q.deleted, q.record_id FROM syncd.sync_records q WHERE q.space_no = p_space AND q.app_no = p_app
                           AND q.table_no = f.table_no AND q.record_id >= f.record_id ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = f.record_id) r
    ), come AS (
        INSERT INTO syncd.sync_counted_deleted (space_no, app_no, table_no, record_id)
        SELECT p_space, p_app, m.table_no, m.record_id FROM met m WHERE m.deleted AND NOT m.was_deleted
    ), gone AS (
        DELETE FROM syncd.sync_counted_deleted d WHERE d.ctid = ANY (ARRAY(
            SELECT o.ctid FROM met m CROSS JOIN LATERAL (
                SELECT h.ctid FROM syncd.sync_counted_deleted h WHERE h.space_no = p_space AND h.app_no = p_app
                AND h.table_no = m.table_no AND h.record_id = m.record_id OFFSET 0) o
            WHERE m.was_deleted AND NOT m.deleted))
    )
    SELECT coalesce(sum((NOT m.deleted)::integer - (coalesce(m.known, false) AND NOT m.was_deleted)::integer), 0)::bigint FROM met m
$$;

-- Counts what came into a feed since it was last counted, some p_rows seqs of it, as one of the space's members; where there is
-- none, nothing. Returns how many seqs are left.
CREATE OR REPLACE FUNCTION syncd.sync_usage_count(p_space bigint, p_app bigint, p_rows integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_acting  text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_member  bigint;
    v_from    bigint;
    v_upto    bigint;
    v_head    bigint;
    v_records bigint;
    v_bytes   bigint;
BEGIN
    SELECT m.user_no INTO v_member FROM syncd.sync_memberships m WHERE m.space_no = p_space LIMIT 1 FOR KEY SHARE;
    IF v_member IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO syncd.sync_feed_usage (space_no, app_no) VALUES (p_space, p_app) ON CONFLICT DO NOTHING;
    SELECT u.counted INTO v_from FROM syncd.sync_feed_usage u WHERE u.space_no = p_space AND u.app_no = p_app FOR UPDATE;
    SELECT h.head INTO v_head FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app;
    v_upto := least(v_head, v_from + p_rows);
    IF v_head IS NULL OR v_upto <= v_from THEN
        RETURN 0;
    END IF;
    PERFORM set_config(syncd.sync_acting_in(), v_member::text, true);
    SELECT coalesce(sum(syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id)), 0) INTO v_bytes
    FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_from AND c.seq <= v_upto;
    v_records := syncd.sync_usage_records(p_space, p_app, v_from, v_upto);
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
    UPDATE syncd.sync_feed_usage u SET counted = v_upto, records = u.records + v_records, bytes = u.bytes + v_bytes
    WHERE u.space_no = p_space AND u.app_no = p_app;
    INSERT INTO syncd.sync_space_usage AS u (space_no, records, bytes) VALUES (p_space, v_records, v_bytes)
    ON CONFLICT (space_no) DO UPDATE SET records = u.records + EXCLUDED.records, bytes = u.bytes + EXCLUDED.bytes;
    RETURN v_head - v_upto;
END $$;

-- Sums up the spaces of some users.
CREATE OR REPLACE FUNCTION syncd.sync_usage_sum(p_users bigint[]) RETURNS void
LANGUAGE sql VOLATILE AS $$
    INSERT INTO syncd.sync_user_usage AS u (user_no, records, bytes)
    SELECT n.no, t.records, t.bytes
    FROM (SELECT DISTINCT x FROM unnest(p_users) x WHERE x IS NOT NULL) AS n (no)
    CROSS JOIN LATERAL (SELECT coalesce(sum(s.records), 0) AS records, coalesce(sum(s.bytes), 0) AS bytes
        FROM syncd.sync_space_usage s WHERE s.maker_no = n.no AND EXISTS (
            SELECT FROM syncd.sync_memberships m WHERE m.user_no = n.no AND m.space_no = s.space_no OFFSET 0)) t
    ORDER BY n.no
    ON CONFLICT (user_no) DO UPDATE SET records = EXCLUDED.records, bytes = EXCLUDED.bytes
        WHERE (u.records, u.bytes) <> (EXCLUDED.records, EXCLUDED.bytes)
$$;

-- Counts some feeds, and with p_all, which is for one at a time, some of those that nobody has counted. Whether there is more.
CREATE OR REPLACE FUNCTION syncd.sync_usage_look(p_spaces text[], p_apps text[], p_rows integer, p_all boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_more  boolean := false;
    v_spots jsonb := coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_array(s.space_no, a.name_no)) FROM unnest(p_spaces, p_apps) AS f (space, app)
        JOIN syncd.sync_spaces s ON s.space_id = f.space JOIN syncd.sync_names a ON a.name = f.app), '[]');
    v_some  jsonb;
    v_met   bigint[] := '{}';
    d       record;
BEGIN
    IF p_all AND pg_try_advisory_xact_lock(hashtext('syncd.usage')) THEN
        SELECT coalesce(jsonb_agg(jsonb_build_array(u.space_no, u.app_no)), '[]') INTO v_some FROM (
            SELECT h.space_no, h.app_no FROM syncd.sync_feeds h
            LEFT JOIN syncd.sync_feed_usage c ON c.space_no = h.space_no AND c.app_no = h.app_no
            WHERE h.head > coalesce(c.counted, 0)
              AND EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.space_no = h.space_no) LIMIT 50) u;
        v_more := jsonb_array_length(v_some) >= 50;
        v_spots := v_spots || v_some;
    END IF;
    -- in one order everywhere, so that two looks never wait for each other in a ring
    FOR d IN SELECT DISTINCT (e.spot ->> 0)::bigint AS space_no, (e.spot ->> 1)::bigint AS app_no
             FROM jsonb_array_elements(v_spots) AS e (spot) ORDER BY 1, 2 LOOP
        v_more := syncd.sync_usage_count(d.space_no, d.app_no, p_rows) > 0 OR v_more;
        v_met := v_met || d.space_no;
    END LOOP;
    PERFORM syncd.sync_usage_sum(ARRAY(SELECT s.maker_no FROM syncd.sync_space_usage s WHERE s.space_no = ANY (v_met)));
    RETURN v_more;
END $$;

-- What left the log counts no longer, as far as it was counted.
CREATE OR REPLACE FUNCTION syncd.sync_usage_shrinks() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_counted bigint;
    v_bytes   bigint;
    d         record;
BEGIN
    FOR d IN SELECT g.space_no, g.app_no FROM gone g GROUP BY g.space_no, g.app_no ORDER BY g.space_no, g.app_no LOOP
        SELECT u.counted INTO v_counted FROM syncd.sync_feed_usage u
        WHERE u.space_no = d.space_no AND u.app_no = d.app_no FOR UPDATE;
        SELECT sum(syncd.sync_stored_bytes(g.fields, g.lost, g.actor, g.record_id, g.change_id)) INTO v_bytes
        FROM gone g WHERE g.space_no = d.space_no AND g.app_no = d.app_no AND g.seq <= v_counted;
        UPDATE syncd.sync_feed_usage u SET bytes = u.bytes - v_bytes
        WHERE u.space_no = d.space_no AND u.app_no = d.app_no AND v_bytes IS NOT NULL;
        UPDATE syncd.sync_space_usage u SET bytes = u.bytes - v_bytes WHERE u.space_no = d.space_no AND v_bytes IS NOT NULL;
    END LOOP;
    RETURN NULL;
END $$;

-- A tombstone that is forgotten was counted as deleted, and so is not counted; all else that leaves the state is counted again.
CREATE OR REPLACE FUNCTION syncd.sync_usage_forgets() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM syncd.sync_counted_deleted d WHERE d.ctid = ANY (ARRAY(
        SELECT o.ctid FROM gone g CROSS JOIN LATERAL (
            SELECT h.ctid FROM syncd.sync_counted_deleted h WHERE h.space_no = g.space_no AND h.app_no = g.app_no
            AND h.table_no = g.table_no AND h.record_id = g.record_id OFFSET 0) o));
    RETURN NULL;
END $$;

-- The maker of a space is its first owner by somebody's hand.
CREATE OR REPLACE FUNCTION syncd.sync_space_made() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_space_usage (space_no, maker_no)
    SELECT DISTINCT ON (c.space_no) c.space_no, c.user_no FROM changed c
    WHERE c.role = 'owner' AND c.source = 'table' ORDER BY c.space_no, c.joined_at, c.user_no
    ON CONFLICT (space_no) DO NOTHING;
    RETURN NULL;
END $$;

-- Forgets what was counted of a space, or of all, so that it is counted from the beginning. An operator's.
CREATE OR REPLACE FUNCTION syncd.sync_usage_recount(p_space text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_spaces bigint[] := ARRAY(SELECT s.space_no FROM syncd.sync_spaces s WHERE p_space IS NULL OR s.space_id = p_space);
    v_feeds  bigint;
BEGIN
    DELETE FROM syncd.sync_counted_deleted d WHERE d.space_no = ANY (v_spaces);
    DELETE FROM syncd.sync_feed_usage u WHERE u.space_no = ANY (v_spaces);
    GET DIAGNOSTICS v_feeds = ROW_COUNT;
    UPDATE syncd.sync_space_usage u SET records = 0, bytes = 0 WHERE u.space_no = ANY (v_spaces);
    RETURN v_feeds;
END $$;
