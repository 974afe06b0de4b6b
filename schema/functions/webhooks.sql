-- Webhooks: what a server shows of them, and going back in time. All else is done by an operator's statements (calls/webhooks.sql).
-- Called by the role that serves: sync_webhook_counts, which has neither address nor secret; the others by an operator.

CREATE OR REPLACE FUNCTION syncd.sync_webhook_counts()
RETURNS TABLE (name text, sent bigint, failed bigint, retries bigint, dead bigint, buckets bigint[], seconds double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.name, w.sent, w.failed, w.retries, (SELECT count(*) FROM syncd.sync_webhook_dead d WHERE d.consumer_id = w.consumer_id), w.buckets, w.seconds
    FROM syncd.sync_webhooks w JOIN syncd.sync_consumers c ON c.consumer_id = w.consumer_id ORDER BY c.name
$$;

-- Puts a consumer to where each feed stood at an instant; whether there is one of the name. Where the log was folded since, it is handed
-- the state, and is told.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_rewind(p_name text, p_since timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v      syncd.sync_consumers;
    v_apps integer[];
BEGIN
    SELECT c.* INTO v FROM syncd.sync_consumers c WHERE c.name = p_name;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE syncd.sync_consumer_slots s SET lease = s.lease + 1, holder = NULL WHERE s.consumer_id = v.consumer_id;
    v_apps := syncd.sync_consumer_numbers(v.apps);
    PERFORM syncd.sync_consume_act(coalesce(v_apps, '{0}'), '{0}');
    UPDATE syncd.sync_consumer_feeds p SET seq = b.seq, acks = p.acks + 1
    FROM (SELECT h.space_no, h.app_no, syncd.sync_seq_before(h.space_no, h.app_no, h.head, p_since) AS seq FROM syncd.sync_feeds h
          WHERE h.written_at >= p_since AND (v_apps IS NULL OR h.app_no = ANY (v_apps)) OFFSET 0) b
    WHERE p.consumer_id = v.consumer_id AND p.space_no = b.space_no AND p.app_no = b.app_no AND b.seq < p.seq AND p.base = -1;
    PERFORM syncd.sync_consume_act(NULL, NULL);
    RETURN true;
END $$;
