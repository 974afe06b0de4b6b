-- Erasing a user: whose number it is, and how the user gets another name. An id may be that of a device, a table or an app as well, which anybody can
-- bring about: that is no reason not to erase the user.
-- Called by an operator, whom row security does not bind.

-- The columns with numbers of users, but for what is of the last hour and for erasures themselves (tests/store/erased_columns.toml).
CREATE OR REPLACE FUNCTION syncd.sync_user_columns() RETURNS TABLE (table_name text, column_name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind IN ('r', 'p') AND a.atttypid IN ('integer'::regtype, 'bigint'::regtype)
      AND a.attname IN ('user_no', 'actor_no', 'maker_no', 'added_by', 'invited_by', 'made_by')
      AND c.relname NOT IN ('sync_membership_events', 'sync_erasures')
    ORDER BY c.relname = 'sync_changes', 1, 2
$$;

-- Whether a number is that of a device, a table or an app, whatever else it is.
CREATE OR REPLACE FUNCTION syncd.sync_name_shared(p_no integer) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM syncd.sync_feeds h WHERE h.app_no = p_no)
        OR EXISTS (SELECT FROM syncd.sync_devices d WHERE d.client_no = p_no)
        OR EXISTS (SELECT FROM syncd.sync_restores r WHERE p_no IN (r.client_no, r.table_no))
        OR EXISTS (SELECT FROM syncd.sync_records q WHERE p_no IN (q.table_no, q.client_no))
        OR EXISTS (SELECT FROM syncd.sync_changes c WHERE p_no IN (c.table_no, c.client_no));
END $$;

-- The same, where it was not so when feeds were as far as p_heads: what came since, by the index of places, however large the log is.
CREATE OR REPLACE FUNCTION syncd.sync_name_shared_since(p_no integer, p_heads syncd.sync_erasure_feeds[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h record;
BEGIN
    FOR h IN SELECT n.space_no, n.app_no, coalesce(f.head, 0) AS head FROM syncd.sync_feeds n
             LEFT JOIN unnest(p_heads) f ON f.space_no = n.space_no AND f.app_no = n.app_no WHERE n.head > coalesce(f.head, 0) LOOP
        IF h.app_no = p_no
           OR EXISTS (SELECT FROM syncd.sync_changes c WHERE c.space_no = h.space_no AND c.app_no = h.app_no AND c.seq > h.head AND p_no IN (c.table_no, c.client_no))
           OR EXISTS (SELECT FROM syncd.sync_records q WHERE q.space_no = h.space_no AND q.app_no = h.app_no AND q.seq > h.head
                      AND p_no IN (q.table_no, q.client_no)) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN EXISTS (SELECT FROM syncd.sync_devices d WHERE d.client_no = p_no)
        OR EXISTS (SELECT FROM syncd.sync_restores r WHERE p_no IN (r.client_no, r.table_no));
END $$;

-- The number of a user; null where there is none of the name. A name that is a device's, a table's or an app's is a user's too only where a
-- column of users has it.
CREATE OR REPLACE FUNCTION syncd.sync_user_known(p_user text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_no    integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_user AND n.name !~ '^_(service|server|erased|personal):');
    v_there boolean := EXISTS (SELECT FROM syncd.sync_erasures e WHERE e.user_no = v_no);
    f       record;
BEGIN
    FOR f IN SELECT c.* FROM syncd.sync_user_columns() c LOOP
        EXIT WHEN v_no IS NULL OR v_there;
        EXECUTE format('SELECT EXISTS (SELECT FROM syncd.%I r WHERE r.%I = $1)', f.table_name, f.column_name) INTO v_there USING v_no;
    END LOOP;
    RETURN CASE WHEN v_there OR NOT syncd.sync_name_shared(v_no) THEN v_no END;
END $$;

-- The devices of a user, by their ids: those that the log has, and those that are known for the user's, as the log may have lost what they wrote.
CREATE OR REPLACE FUNCTION syncd.sync_erase_devices(p_user integer) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT n.name FROM syncd.sync_names n WHERE n.name_no IN (
        SELECT c.client_no FROM syncd.sync_changes c WHERE c.user_no = p_user
        UNION SELECT d.client_no FROM syncd.sync_devices d WHERE d.user_no = p_user) ORDER BY n.name)
$$;

-- Gives the user of an erasure a number of its own and another name, as the former number is a device's, a table's or an app's as well and stays theirs
-- with its name. The columns of users are pointed at the new one, the log's as the erasure goes through it. The user writes no more.
CREATE OR REPLACE FUNCTION syncd.sync_erase_apart(p_ordinal bigint, p_user integer, p_author text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_new integer;
    f     record;
BEGIN
    PERFORM syncd.sync_names_put(ARRAY[p_author], NULL);
    SELECT n.name_no INTO STRICT v_new FROM syncd.sync_names n WHERE n.name = p_author;
    FOR f IN SELECT c.* FROM syncd.sync_user_columns() c WHERE c.table_name <> 'sync_changes' LOOP
        EXECUTE format('UPDATE syncd.%I SET %I = $2 WHERE %I = $1', f.table_name, f.column_name, f.column_name) USING p_user, v_new;
    END LOOP;
    INSERT INTO syncd.sync_erasure_feeds (space_no, app_no, ordinal, head) SELECT h.space_no, h.app_no, p_ordinal, h.head FROM syncd.sync_feeds h;
    UPDATE syncd.sync_erasures e SET user_no = v_new, former_no = p_user WHERE e.ordinal = p_ordinal;
END $$;
