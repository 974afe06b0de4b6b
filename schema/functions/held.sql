-- Held changes: what a device of the first generation pushed and may not be written is kept, and given back to a push
-- when it may be. All of it is done in the transaction of that push.
-- Called by the role that serves: sync_hold and sync_make_spaces by sync_push, the others by Python; sync_held_found and
-- sync_import_hold by an operator alone. Those that are SECURITY DEFINER make spaces, say whose changes wait and have become writable, and count.

-- Spaces that nobody has heard of, owned by the user whose push names them. One that exists, or did, stays as it is; so
-- does one for which there is no room: what is written there is held.
CREATE OR REPLACE FUNCTION syncd.sync_make_spaces(p_user text, p_spaces jsonb, p_bounds jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user syncd.sync_names.name_no%TYPE := syncd.sync_act_as(p_user, true);
    v_room bigint;
BEGIN
    PERFORM syncd.sync_count_alone(v_user);
    SELECT least((p_bounds ->> 'owned')::bigint - o.owned, (p_bounds ->> 'joined')::bigint - o.joined) INTO v_room
    FROM syncd.sync_spaces_of(v_user) o;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role)
    SELECT v_user, m.space_no, 'owner' FROM unnest(syncd.sync_spaces_put(ARRAY(
        SELECT e.id FROM (
            SELECT u.id FROM jsonb_array_elements_text(p_spaces) AS u (id)
            WHERE NOT starts_with(u.id, '_personal:') AND NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = u.id)
            ORDER BY u.id LIMIT CASE WHEN v_room < 0 THEN 0 ELSE v_room END) e
        WHERE syncd.sync_spend(v_user, 'made', (p_bounds ->> 'made')::integer, 1) = 0), NULL)) AS m (space_no);
END $$;

-- Ends a push: keeps what of it cannot be written, or removes what it wrote out of what was kept. p_held: {"put": [{"w":
-- reason, "k": content, "s": space, "t": table, "r": record, "d": change, "v": service?}]?, "most": [changes, bytes], "release": [no]?}.
-- Raises SY005 (what was to be released is gone: somebody else released it), SY006 (more than a user may have).
CREATE OR REPLACE FUNCTION syncd.sync_hold(p_client text, p_app text, p_held jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_user  integer := syncd.sync_user();
    v_count bigint;
    v_bytes bigint;
BEGIN
    IF p_held ? 'release' THEN
        DELETE FROM syncd.sync_held h
        WHERE h.held_no IN (SELECT e::bigint FROM jsonb_array_elements_text(p_held -> 'release') e);
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> jsonb_array_length(p_held -> 'release') THEN
            RAISE EXCEPTION 'released' USING ERRCODE = 'SY005';
        END IF;
    END IF;
    IF p_held ? 'put' THEN
        -- one push of a user after the other, so that they count what the others put
        PERFORM pg_advisory_xact_lock(hashtext('syncd.sync_held'), v_user);
        INSERT INTO syncd.sync_held (user_no, client_id, app, space_id, table_name, record_id, reason, content,
                                     received_at, size, change, service)
        SELECT v_user, p_client, p_app, x.s, x.t, x.r, x.w, x.k, clock_timestamp(), octet_length(x.d), x.d, x.v
        FROM ROWS FROM (jsonb_to_recordset(p_held -> 'put') AS (s text, t text, r text, w text, k text, d text, v text))
             WITH ORDINALITY AS x (s, t, r, w, k, d, v, o)
        WHERE NOT EXISTS (SELECT FROM syncd.sync_held o WHERE o.user_no = v_user AND o.app = p_app
                          AND o.client_id = p_client AND o.content = x.k)
          AND NOT syncd.sync_was_erased(x.s, p_app, x.t, x.r)
        ORDER BY x.o;
        IF FOUND THEN
            SELECT count(*), sum(h.size) INTO v_count, v_bytes FROM syncd.sync_held h WHERE h.user_no = v_user;
            IF v_count > (p_held -> 'most' ->> 0)::bigint OR v_bytes > (p_held -> 'most' ->> 1)::bigint THEN
                RAISE EXCEPTION 'held_full' USING ERRCODE = 'SY006';
            END IF;
        END IF;
    END IF;
END $$;

-- Holds what an import cannot write, as sync_hold does for a push of its author. An operator's.
CREATE OR REPLACE FUNCTION syncd.sync_import_hold(p_user text, p_client text, p_app text, p_held jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_act_as(p_user, true);
    PERFORM syncd.sync_hold(p_client, p_app, p_held);
END $$;

-- Whose held changes have become writable: users (those of p_users, null: all), devices, apps. Of all users the spaces that
-- are waited for are found one after the other in the index, however many changes wait.
CREATE OR REPLACE FUNCTION syncd.sync_held_due(p_users integer[]) RETURNS TABLE (user_id text, client_id text, app text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    WITH RECURSIVE waits AS (
        (SELECT h.user_no, h.space_id FROM syncd.sync_held h
         WHERE p_users IS NULL AND h.reason IN ('space_not_found', 'not_a_writer') AND h.space_id IS NOT NULL
         ORDER BY h.user_no, h.space_id LIMIT 1)
        UNION ALL
        SELECT n.* FROM waits w CROSS JOIN LATERAL (
            SELECT h.user_no, h.space_id FROM syncd.sync_held h
            WHERE h.reason IN ('space_not_found', 'not_a_writer') AND (h.user_no, h.space_id) > (w.user_no, w.space_id)
            ORDER BY h.user_no, h.space_id LIMIT 1) n
    )
    -- One after the other: read first, what is held would be looked at change by change, whatever it waits for.
    SELECT DISTINCT n.name, h.client_id, h.app
    FROM (SELECT * FROM waits UNION ALL
          SELECT m.user_no, s.space_id FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
          WHERE m.user_no = ANY (p_users)) w
    CROSS JOIN LATERAL (
        SELECT m.user_no FROM syncd.sync_spaces s
        JOIN syncd.sync_memberships m ON m.user_no = w.user_no AND m.space_no = s.space_no AND m.role <> 'reader'
        WHERE s.space_id = w.space_id OFFSET 0) may
    CROSS JOIN LATERAL (
        SELECT DISTINCT h.client_id, h.app FROM syncd.sync_held h
        WHERE h.user_no = may.user_no AND h.space_id = w.space_id AND h.reason IN ('space_not_found', 'not_a_writer') OFFSET 0) h
    JOIN syncd.sync_names n ON n.name_no = may.user_no
    LIMIT 200
$$;

-- Users who wait for a space, by number after p_after, at most p_most.
CREATE OR REPLACE FUNCTION syncd.sync_held_waiting(p_after integer, p_most integer) RETURNS TABLE (user_no integer, user_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    WITH RECURSIVE waits AS (
        (SELECT h.user_no FROM syncd.sync_held h
         WHERE h.reason IN ('space_not_found', 'not_a_writer') AND h.user_no > p_after ORDER BY h.user_no LIMIT 1)
        UNION ALL
        SELECT n.* FROM waits w CROSS JOIN LATERAL (
            SELECT h.user_no FROM syncd.sync_held h
            WHERE h.reason IN ('space_not_found', 'not_a_writer') AND h.user_no > w.user_no ORDER BY h.user_no LIMIT 1) n
    )
    SELECT w.user_no, (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = w.user_no) FROM waits w LIMIT p_most
$$;

-- What is held because a space was full, which is none of p_full any more: users, devices, apps and numbers.
CREATE OR REPLACE FUNCTION syncd.sync_held_with_room(p_full text[]) RETURNS TABLE (user_id text, client_id text, app text, nos bigint[])
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
    SELECT n.name, h.client_id, h.app, (array_agg(h.held_no ORDER BY h.held_no))[:200]
    FROM syncd.sync_held h JOIN syncd.sync_names n ON n.name_no = h.user_no
    WHERE h.reason = 'quota_exceeded' AND h.space_id <> ALL (p_full)
    GROUP BY n.name, h.client_id, h.app LIMIT 50
$$;

-- A device's held changes, in the order they came, of some 4 MB: those that have become writable, or those of p_nos; of services too where
-- p_services. What is not asked for does not count, and what comes after p_most is not read, whatever the statistics say.
CREATE OR REPLACE FUNCTION syncd.sync_held_next(p_user text, p_client text, p_app text, p_nos bigint[], p_services boolean, p_most integer)
RETURNS TABLE (held_no bigint, content text, received_us bigint, change text, service text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_user integer := syncd.sync_act_as(p_user);
BEGIN
    RETURN QUERY
    SELECT t.held_no, t.content, syncd.sync_micros(t.received_at), t.change, t.service
    FROM (
        SELECT f.*, sum(f.size) OVER (ORDER BY f.held_no) - f.size AS before
        FROM (
            SELECT h.* FROM syncd.sync_held h
            WHERE h.user_no = v_user AND h.client_id = p_client AND h.app = p_app AND (p_services OR h.service IS NULL) AND CASE
                WHEN p_nos IS NOT NULL THEN h.held_no = ANY (p_nos)
                ELSE h.reason IN ('space_not_found', 'not_a_writer') AND h.space_id IN (
                    SELECT s.space_id FROM syncd.sync_spaces s JOIN syncd.sync_memberships m ON m.space_no = s.space_no
                    WHERE m.user_no = v_user AND m.role <> 'reader') END
            ORDER BY h.held_no LIMIT p_most) f) t
    WHERE t.before < 4000000 ORDER BY t.held_no;
END $$;

-- sync_held_next, with the service that pushed each.
CREATE OR REPLACE FUNCTION syncd.sync_held_of_device(p_user text, p_client text, p_app text, p_nos bigint[], p_most integer)
RETURNS TABLE (held_no bigint, content text, received_us bigint, change text, service text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.held_no, h.content, h.received_us, h.change, h.service
    FROM syncd.sync_held_next(p_user, p_client, p_app, p_nos, true, p_most) h ORDER BY h.held_no
$$;

-- For workers of a release that knew no service: held changes that none pushed. What one did waits for a worker of now, as the other would
-- write it without the service's name. The migration that drops the function of then, with `text`, comes after this.
CREATE OR REPLACE FUNCTION syncd.sync_held_take(p_user varchar, p_client text, p_app text, p_nos bigint[], p_most integer)
RETURNS TABLE (held_no bigint, content text, received_us bigint, change text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.held_no, h.content, h.received_us, h.change
    FROM syncd.sync_held_next(p_user, p_client, p_app, p_nos, false, p_most) h ORDER BY h.held_no
$$;

-- Why held changes could not be released: p_reasons is {no: code}.
CREATE OR REPLACE FUNCTION syncd.sync_held_mark(p_user text, p_reasons jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_act_as(p_user);
    UPDATE syncd.sync_held h SET reason = r.value
    FROM jsonb_each_text(p_reasons) r WHERE h.held_no = r.key::bigint AND h.reason <> r.value;
END $$;

-- A user's held changes in an app after p_after, in the order they came, of some 4 MB.
CREATE OR REPLACE FUNCTION syncd.sync_held_list(p_user text, p_app text, p_after bigint, p_most integer)
RETURNS TABLE (held_no bigint, client_id text, space_id text, table_name text, record_id text, reason text,
               received_us bigint, change text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    v_user integer := syncd.sync_act_as(p_user);
BEGIN
    RETURN QUERY
    SELECT t.held_no, t.client_id, t.space_id, t.table_name, t.record_id, t.reason, syncd.sync_micros(t.received_at), t.change
    FROM (
        SELECT f.*, sum(f.size) OVER (ORDER BY f.held_no) - f.size AS before
        FROM (
            SELECT h.* FROM syncd.sync_held h WHERE h.user_no = v_user AND h.app = p_app AND h.held_no > p_after
            ORDER BY h.held_no LIMIT p_most) f) t
    WHERE t.before < 4000000 ORDER BY t.held_no;
END $$;

-- Drops one of a user's held changes; whether it was there.
CREATE OR REPLACE FUNCTION syncd.sync_held_drop(p_user text, p_app text, p_no bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_act_as(p_user);
    DELETE FROM syncd.sync_held h WHERE h.held_no = p_no AND h.app = p_app;
    RETURN FOUND;
END $$;

-- How many changes are held, of how many users, with how many bytes, and since when.
CREATE OR REPLACE FUNCTION syncd.sync_held_count(OUT changes bigint, OUT users bigint, OUT bytes bigint, OUT oldest timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*), count(DISTINCT h.user_no), coalesce(sum(h.size), 0), min(h.received_at) FROM syncd.sync_held h
$$;

-- How many changes are held: of more than 1,000 what the database believes, so that it may be asked often. Without the
-- settings it reads and sorts all where the statistics are of when many had been released.
CREATE OR REPLACE FUNCTION syncd.sync_held_number() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_sort = off AS $$
    SELECT CASE WHEN count(*) <= 1000 THEN count(*)
                ELSE greatest(count(*), (SELECT c.reltuples FROM pg_class c WHERE c.oid = 'syncd.sync_held'::regclass))::bigint END
    FROM (SELECT FROM syncd.sync_held h ORDER BY h.held_no LIMIT 1001) few
$$;

-- What is held of a user, in an app, under a space's id, for a reason; null: of all. Row security binds who asks.
CREATE OR REPLACE FUNCTION syncd.sync_held_found(p_user text, p_app text, p_space text, p_reason text)
RETURNS TABLE (held_no bigint, user_id text, client_id text, app text, space_id text, table_name text, record_id text,
               reason text, received_at timestamptz, size integer, change text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.held_no, n.name, h.client_id, h.app, h.space_id, h.table_name, h.record_id, h.reason, h.received_at, h.size,
           h.change
    FROM syncd.sync_held h JOIN syncd.sync_names n ON n.name_no = h.user_no
    WHERE (p_user IS NULL OR n.name = p_user) AND (p_app IS NULL OR h.app = p_app)
      AND (p_space IS NULL OR h.space_id = p_space) AND (p_reason IS NULL OR h.reason = p_reason)
$$;
