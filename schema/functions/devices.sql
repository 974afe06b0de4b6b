-- Devices: which copy of a store pushes under a client id.
-- Called by the role that serves; sync_devices_collect by the one that compacts.

-- Whether a device is the one that pushed last under its client id: `same`, or `other`. p_incarnations: those that it may have
-- pushed as, oldest first; as the last of them it pushes from now on. One that the server knows and the device does not is
-- another copy's, unless it is older than all that the device names: then the database was restored from before it. `new`: of a
-- user or a client id that has no number yet nothing is kept before its first change is; the push that makes the name asks again.
CREATE OR REPLACE FUNCTION syncd.sync_device(p_user text, p_client text, p_incarnations text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   integer := syncd.sync_act_as(p_user);
    v_client integer := (syncd.sync_names_known(ARRAY[p_client]))[1];
    v_now    text := p_incarnations[cardinality(p_incarnations)];
    v_used   timestamptz;
BEGIN
    IF v_user = 0 OR v_client IS NULL THEN
        RETURN 'new';
    END IF;
    SELECT d.used_at INTO v_used FROM syncd.sync_devices d
    WHERE d.user_no = v_user AND d.client_no = v_client AND d.incarnation = v_now;
    IF v_used > clock_timestamp() - interval '1 day' THEN
        RETURN 'same';
    END IF;
    v_user := syncd.sync_act_as(p_user, true);  -- a row refers to it from now on
    INSERT INTO syncd.sync_devices AS d (user_no, client_no, incarnation) VALUES (v_user, v_client, v_now)
    ON CONFLICT (user_no, client_no) DO UPDATE SET incarnation = EXCLUDED.incarnation, used_at = clock_timestamp()
        WHERE d.incarnation = ANY (p_incarnations)
           OR split_part(d.incarnation, '.', 1)::bigint < split_part(p_incarnations[1], '.', 1)::bigint;
    RETURN CASE WHEN FOUND THEN 'same' ELSE 'other' END;
END $$;

-- Forgets devices that did not push since an instant, some at a time: how many they were. One that comes back is new.
CREATE OR REPLACE FUNCTION syncd.sync_devices_collect(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM syncd.sync_devices d WHERE (d.user_no, d.client_no) IN (
            SELECT o.user_no, o.client_no FROM syncd.sync_devices o WHERE o.used_at < p_before LIMIT p_most)
          AND d.used_at < p_before  -- one that has just come back stays
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- What an older worker calls.
CREATE OR REPLACE FUNCTION syncd.sync_same_device(p_user text, p_client text, p_incarnations text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN syncd.sync_device(p_user, p_client, p_incarnations) <> 'other';
END $$;
