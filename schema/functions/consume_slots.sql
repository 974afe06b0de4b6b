-- The slots of a consumer, which its processes share by lease: who is there, who has which, and who is gone.
-- Called by operators and members of syncd_consumer (functions/consume.sql).

-- Shares the slots among the processes that are there: takes free ones for p_holder up to its part, and lets the ones beyond go where it
-- says that it reads nothing just now (p_idle). What another one has locked, as it acknowledges at this moment, is left for the next time.
CREATE OR REPLACE FUNCTION syncd.sync_consume_balance(p_consumer integer, p_holder uuid, p_idle boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_part integer;
    v_mine integer;
BEGIN
    DELETE FROM syncd.sync_consumer_holders h WHERE h.consumer_id = p_consumer AND h.expires_at < clock_timestamp();
    UPDATE syncd.sync_consumer_slots s SET holder = NULL, lease = s.lease + 1
    WHERE s.consumer_id = p_consumer AND s.slot = ANY (ARRAY(
        SELECT o.slot FROM syncd.sync_consumer_slots o
        WHERE o.consumer_id = p_consumer AND o.holder IS NOT NULL AND NOT EXISTS (
            SELECT FROM syncd.sync_consumer_holders h WHERE h.consumer_id = p_consumer AND h.holder = o.holder)
        FOR UPDATE SKIP LOCKED));
    SELECT ceil(64.0 / greatest(count(*), 1)) INTO v_part FROM syncd.sync_consumer_holders h WHERE h.consumer_id = p_consumer;
    SELECT count(*) INTO v_mine FROM syncd.sync_consumer_slots s WHERE s.consumer_id = p_consumer AND s.holder = p_holder;
    UPDATE syncd.sync_consumer_slots s SET holder = CASE WHEN v_mine < v_part THEN p_holder END, lease = s.lease + 1
    WHERE s.consumer_id = p_consumer AND s.slot = ANY (ARRAY(
        SELECT o.slot FROM syncd.sync_consumer_slots o
        WHERE o.consumer_id = p_consumer
          AND CASE WHEN v_mine < v_part THEN o.holder IS NULL ELSE p_idle AND o.holder = p_holder END
        ORDER BY o.slot LIMIT abs(v_part - v_mine) FOR UPDATE SKIP LOCKED));
END $$;

-- Says that a process is there for p_seconds more, 600 at most, and which slots it has by now. Raises SY022.
CREATE OR REPLACE FUNCTION syncd.sync_consume_lease(p_name text, p_holder uuid, p_seconds double precision, p_idle boolean)
RETURNS TABLE (slot integer, lease bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_id integer := (syncd.sync_consumer_named(p_name)).consumer_id;
BEGIN
    INSERT INTO syncd.sync_consumer_holders AS h (consumer_id, holder, expires_at)
    VALUES (v_id, p_holder, clock_timestamp() + make_interval(secs => least(p_seconds, 600)))
    ON CONFLICT (consumer_id, holder) DO UPDATE SET expires_at = EXCLUDED.expires_at;
    -- one process shares out at a time; who comes meanwhile does it the next time
    IF pg_try_advisory_xact_lock(hashtext('syncd.sync_consumers'), v_id) THEN
        PERFORM syncd.sync_consume_balance(v_id, p_holder, p_idle);
    END IF;
    RETURN QUERY SELECT s.slot, s.lease FROM syncd.sync_consumer_slots s WHERE s.consumer_id = v_id AND s.holder = p_holder;
END $$;

-- A process goes: its slots are free at once.
CREATE OR REPLACE FUNCTION syncd.sync_consume_leave(p_name text, p_holder uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer := (syncd.sync_consumer_named(p_name)).consumer_id;
BEGIN
    DELETE FROM syncd.sync_consumer_holders h WHERE h.consumer_id = v_id AND h.holder = p_holder;
    PERFORM FROM syncd.sync_consumer_slots s WHERE s.consumer_id = v_id AND s.holder = p_holder ORDER BY s.slot FOR UPDATE;  -- as above
    UPDATE syncd.sync_consumer_slots s SET holder = NULL, lease = s.lease + 1 WHERE s.consumer_id = v_id AND s.holder = p_holder;
END $$;

-- Processes that were not heard of for longer than their lease, and whose slots nobody could take yet: they acknowledge at this moment, or stand
-- still in it. Raises SY022.
CREATE OR REPLACE FUNCTION syncd.sync_consume_silent(p_name text) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer := (syncd.sync_consumer_named(p_name)).consumer_id;
BEGIN
    RETURN QUERY
    SELECT DISTINCT s.holder FROM syncd.sync_consumer_slots s
    WHERE s.consumer_id = v_id AND s.holder IS NOT NULL AND NOT EXISTS (
        SELECT FROM syncd.sync_consumer_holders h
        WHERE h.consumer_id = v_id AND h.holder = s.holder AND h.expires_at >= clock_timestamp());
END $$;
