-- Webhooks: what a server shows of them, and going back in time. All else is done by an operator's statements (calls/webhooks.sql).
-- Called by the role that serves: sync_webhook_counts, which has neither address nor secret; the others by an operator. sync_letter_kept is a trigger
-- of sync_webhook_dead.

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
    PERFORM FROM syncd.sync_consumer_slots s WHERE s.consumer_id = v.consumer_id ORDER BY s.slot FOR UPDATE;  -- in the order in which an acknowledgement locks them
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

-- The name of a space as a message may keep it: not that of one which was erased.
CREATE OR REPLACE FUNCTION syncd.sync_letter_space(p_space text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space)
                  OR EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.former_id = p_space) THEN p_space ELSE '_erased' END
$$;

-- A change of a message as it may be kept: without values that were erased since, and without who was. p_users, p_spaces: those that were erased with
-- a user, and when; who has such an id since is somebody else. p_since: whether any user's values were erased since the message was made. Then one that the log does not
-- have any more has no values, as whose they are is not known; nor has a whole record (`state`) that does not stand as it was, which may have those of several.
CREATE OR REPLACE FUNCTION syncd.sync_letter_part(p_part jsonb, p_users jsonb, p_spaces jsonb, p_since boolean) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_none   jsonb := '{"values": {}, "erased": true}';
    v_nobody jsonb := CASE WHEN p_part ? 'user' THEN '{"user": "_erased"}' ELSE '{}' END;
    v_at     timestamptz := coalesce((p_part ->> 'at')::timestamptz, '-infinity');
    v_space  integer := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_part ->> 'space');
    v_app    integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_part ->> 'app');
    v_table  integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_part ->> 'table');
    v_once   boolean := syncd.sync_erased_until(p_part ->> 'space', p_part ->> 'app', p_part ->> 'table', p_part ->> 'id') IS NOT NULL;
    v_fields jsonb;
    v_user   text;
    v_gone   text[];
BEGIN
    IF syncd.sync_letter_space(p_part ->> 'space') <> p_part ->> 'space' OR (p_spaces ->> (p_part ->> 'space'))::timestamptz >= v_at THEN
        RETURN p_part || v_none || v_nobody || '{"space": "_erased"}';  -- whose it was is not known any more
    END IF;
    SELECT c.fields::jsonb, n.name INTO v_fields, v_user FROM syncd.sync_changes c JOIN syncd.sync_names n ON n.name_no = c.user_no
    WHERE c.space_no = v_space AND c.app_no = v_app AND c.seq = (p_part ->> 'seq')::bigint AND c.table_no = v_table AND c.record_id = p_part ->> 'id'
      AND (p_part ->> 'eventId' IS NULL OR c.event_id = (p_part ->> 'eventId')::uuid);  -- another space may have the id now
    IF starts_with(v_user, '_erased:') AND p_part ? 'user' THEN
        p_part := p_part || jsonb_build_object('user', v_user);
    ELSIF (p_users ->> (p_part ->> 'user'))::timestamptz >= v_at THEN
        p_part := p_part || v_nobody;
    END IF;
    IF syncd.sync_was_erased(p_part ->> 'space', p_part ->> 'app', p_part ->> 'table', p_part ->> 'id') THEN
        RETURN p_part || v_none;
    ELSIF v_once AND (p_part ? 'state' OR v_fields IS NULL OR EXISTS (  -- of another space that had the id, for all that is known
        SELECT FROM jsonb_each(p_part -> 'values') w WHERE v_fields -> w.key -> 'value' IS DISTINCT FROM w.value)) THEN
        RETURN p_part || v_none;
    ELSIF p_since AND (CASE WHEN p_part ? 'state' THEN NOT EXISTS (
            SELECT FROM syncd.sync_records q
            WHERE q.space_no = v_space AND q.app_no = v_app AND q.table_no = v_table AND q.record_id = p_part ->> 'id'
              AND q.seq = (p_part ->> 'seq')::bigint AND NOT jsonb_path_exists(q.registers, '$.*.erased')) ELSE v_user IS NULL END) THEN
        RETURN p_part || v_none;
    END IF;
    v_gone := ARRAY(SELECT f.key FROM jsonb_each(v_fields) f WHERE f.value ->> 'erased' = 'true');
    RETURN CASE WHEN p_part -> 'values' ?| v_gone AND NOT p_part ? 'state'
                THEN p_part || jsonb_build_object('values', (p_part -> 'values') - v_gone, 'erased', true) ELSE p_part END;
END $$;

-- A message as it may be kept, changed in one line: with line breaks it could be many times as long as it was.
CREATE OR REPLACE FUNCTION syncd.sync_letter(p_body bytea) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_was    jsonb := convert_from(p_body, 'UTF8')::jsonb;
    v_now    jsonb := v_was;
    v_users  jsonb;
    v_spaces jsonb;
    -- Its time is of its sender's clock.
    v_since  boolean := EXISTS (SELECT FROM syncd.sync_erasures e WHERE e.what = 'user' AND NOT e.anonymise AND coalesce(e.begun_at, e.done_at) IS NOT NULL
        AND coalesce(e.done_at, 'infinity') >= coalesce((v_was ->> 'timestamp')::timestamptz, '-infinity') - interval '5 minutes');
BEGIN
    IF jsonb_typeof(v_was #> '{data,changes}') = 'array' THEN
        v_users := (SELECT jsonb_object_agg(g.name, g.gone_at) FROM syncd.sync_erased_users(ARRAY(
            SELECT c ->> 'user' FROM jsonb_array_elements(v_was #> '{data,changes}') c)) g);
        v_spaces := (SELECT jsonb_object_agg(g.space_id, g.gone_at) FROM syncd.sync_erased_spaces(ARRAY(
            SELECT DISTINCT c ->> 'space' FROM jsonb_array_elements(v_was #> '{data,changes}') c)) g);
        v_now := jsonb_set(v_now, '{data,changes}', coalesce((
            SELECT jsonb_agg(syncd.sync_letter_part(x.c, v_users, v_spaces, v_since) ORDER BY x.n) FROM jsonb_array_elements(v_was #> '{data,changes}') WITH ORDINALITY AS x (c, n)), '[]'));
    END IF;
    IF jsonb_typeof(v_was #> '{data,resets}') = 'array' THEN
        v_now := jsonb_set(v_now, '{data,resets}', coalesce((
            SELECT jsonb_agg(x.r || jsonb_build_object('space', syncd.sync_letter_space(x.r ->> 'space')) ORDER BY x.n)
            FROM jsonb_array_elements(v_was #> '{data,resets}') WITH ORDINALITY AS x (r, n)), '[]'));
    END IF;
    RETURN CASE WHEN v_now = v_was THEN p_body ELSE convert_to(v_now::text, 'UTF8') END;
END $$;

-- The same of a consumer's message, for an operator whom row security binds: it is read what that consumer is registered for.
CREATE OR REPLACE FUNCTION syncd.sync_letter_of(p_consumer integer, p_body bytea) RETURNS bytea
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body bytea;
BEGIN
    PERFORM syncd.sync_consume_act(coalesce(syncd.sync_consumer_numbers(c.apps), '{0}'), coalesce(syncd.sync_consumer_numbers(c.tables), '{0}'))
    FROM syncd.sync_consumers c WHERE c.consumer_id = p_consumer;
    v_body := syncd.sync_letter(p_body);
    PERFORM syncd.sync_consume_act(NULL, NULL);
    RETURN v_body;
END $$;

-- Of a message that is given up: its sender may have read it before an erasure.
CREATE OR REPLACE FUNCTION syncd.sync_letter_kept() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_erasures) THEN
        NEW.body := syncd.sync_letter_of(NEW.consumer_id, NEW.body);
    END IF;
    RETURN NEW;
END $$;

-- Takes what was erased out of the messages that webhooks gave up; how many had any. What a receiver answered may repeat what it was sent.
CREATE OR REPLACE FUNCTION syncd.sync_letters_clean() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_n bigint;
BEGIN
    -- One that is being kept is waited for, and one that comes waits: its trigger sees the end of this erasure.
    LOCK TABLE syncd.sync_webhook_dead IN SHARE ROW EXCLUSIVE MODE;
    UPDATE syncd.sync_webhook_dead d SET body = m.body
    FROM (SELECT o.dead_id, syncd.sync_letter(o.body) AS body FROM syncd.sync_webhook_dead o) m
    WHERE d.dead_id = m.dead_id AND m.body <> d.body;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    UPDATE syncd.sync_webhooks w SET said = NULL WHERE w.said IS NOT NULL;
    RETURN v_n;
END $$;
