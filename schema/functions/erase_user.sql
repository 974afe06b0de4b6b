-- Erasing a user: its name becomes an opaque one, its memberships and all that is the user's alone go, and so does every value that it wrote; or
-- with `anonymise` those that it wrote where others are stay, and only who wrote them is gone.
-- Called by an operator, whom row security does not bind; sync_erase_ask by the role that serves. That one is SECURITY DEFINER: a user asks to be
-- erased itself, and an operator's command does it.

-- The spaces that a user alone owns and that have other members.
CREATE OR REPLACE FUNCTION syncd.sync_erase_alone(p_user bigint) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT s.space_id FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
        WHERE m.user_no = p_user AND m.role = 'owner' AND m.source = 'table'
          AND EXISTS (SELECT FROM syncd.sync_memberships o WHERE o.space_no = m.space_no AND o.user_no <> p_user)
          AND NOT EXISTS (SELECT FROM syncd.sync_memberships o WHERE o.space_no = m.space_no AND o.user_no <> p_user AND o.role = 'owner')
        ORDER BY s.space_id);
END $$;

-- Notes that the acting user asks to be erased; when it first did (seconds since 1970). Nothing happens to a user of whom nothing is known. Raises SY010
-- (last_owner).
CREATE OR REPLACE FUNCTION syncd.sync_erase_ask(p_user text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user  bigint := syncd.sync_act_as(p_user);
    v_salt  bytea := decode(replace(gen_random_uuid()::text, '-', ''), 'hex');
    v_asked timestamptz := clock_timestamp();
    v_name  text;
BEGIN
    IF v_user = 0 THEN
        RETURN extract(epoch FROM v_asked);
    ELSIF syncd.sync_erase_alone(v_user) <> '{}' THEN
        RAISE EXCEPTION 'last_owner' USING ERRCODE = 'SY010';
    END IF;
    SELECT n.name INTO STRICT v_name FROM syncd.sync_names n WHERE n.name_no = v_user;
    INSERT INTO syncd.sync_erasures AS e (what, user_no, salt, digest) VALUES ('user', v_user, v_salt, sha256(v_salt || convert_to(v_name, 'UTF8')))
    ON CONFLICT (user_no) WHERE user_no IS NOT NULL DO NOTHING;
    IF FOUND THEN
        PERFORM syncd.sync_audit_note('erasure_asked', NULL, v_user);
    END IF;
    RETURN (SELECT extract(epoch FROM e.asked_at) FROM syncd.sync_erasures e WHERE e.user_no = v_user);
END $$;

-- The devices of the user of an erasure, by their ids: those that were noted when it began, and those that the log has by now. Raises SY010 (not_begun).
CREATE OR REPLACE FUNCTION syncd.sync_erase_clients(p_ordinal bigint) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_erase_begun(p_ordinal);
    RETURN ARRAY(
        SELECT k.name FROM syncd.sync_erasures e CROSS JOIN LATERAL unnest(e.clients) AS k (name) WHERE e.ordinal = p_ordinal
        UNION
        SELECT n.name FROM (
            SELECT DISTINCT c.client_no FROM syncd.sync_erasures e JOIN syncd.sync_changes c ON c.user_no IN (e.user_no, e.former_no)
            LEFT JOIN syncd.sync_erasure_feeds f ON f.ordinal = e.ordinal AND f.space_no = c.space_no AND f.app_no = c.app_no
            WHERE e.ordinal = p_ordinal AND (c.user_no = e.user_no OR c.seq <= f.head)) d
        JOIN syncd.sync_names n ON n.name_no = d.client_no);
END $$;

-- Whether registers, as text, may have some devices, each a pattern for LIKE.
CREATE OR REPLACE FUNCTION syncd.sync_erase_names(p_registers text, p_clients text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_registers LIKE ANY (p_clients);

-- The feeds that an erasure of a user goes through, each as far as it is now: those in which it wrote, or which have something of its devices
-- (p_clients). whole: all that is in it is erased.
CREATE OR REPLACE FUNCTION syncd.sync_erase_places(p_ordinal bigint, p_clients text[])
RETURNS TABLE (space_no integer, app_no integer, whole boolean, upto bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    e       syncd.sync_erasures;
    v_named text[] := ARRAY(SELECT concat('%"clientId":%', regexp_replace(to_json(k)::text, '([\\%_])', '\\\1', 'g'), '%') FROM unnest(p_clients) k);
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    RETURN QUERY
    SELECT h.space_no, h.app_no, s.erased_at IS NOT NULL, h.head
    FROM syncd.sync_feeds h JOIN syncd.sync_spaces s ON s.space_no = h.space_no
    LEFT JOIN syncd.sync_erasure_feeds f ON f.ordinal = p_ordinal AND f.space_no = h.space_no AND f.app_no = h.app_no
    WHERE CASE WHEN e.user_no IS NULL THEN false WHEN s.erased_at IS NOT NULL THEN s.erased_at >= coalesce(e.begun_at, e.asked_at)
               ELSE EXISTS (SELECT FROM syncd.sync_changes c WHERE c.space_no = h.space_no AND c.app_no = h.app_no
                            AND (c.user_no = e.user_no OR c.user_no = e.former_no AND c.seq <= f.head OR syncd.sync_erase_names(c.fields::text, v_named)))
                 OR EXISTS (SELECT FROM syncd.sync_records q WHERE q.space_no = h.space_no AND q.app_no = h.app_no
                            AND syncd.sync_erase_names(q.registers::text, v_named)) END
    ORDER BY h.space_no, h.app_no;
END $$;

-- Whether somebody else than the user of an erasure (p_user, or p_former up to p_head) wrote a register that a device of that user wrote as well as
-- the other's, for all that is known: the record's changes are gone through backwards from p_seq to the one that it is of. Where that is
-- dropped, it counts as the user's.
CREATE OR REPLACE FUNCTION syncd.sync_erase_others(p_user bigint, p_former bigint, p_head bigint, p_space integer, p_app integer, p_seq bigint,
                                                   p_key text, p_at text, p_client text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c record;
BEGIN
    WHILE p_seq > 0 LOOP
        SELECT h.seq, h.prev_seq, h.user_no, h.fields -> p_key AS register, n.name INTO c
        FROM syncd.sync_changes h JOIN syncd.sync_names n ON n.name_no = h.client_no
        WHERE h.space_no = p_space AND h.app_no = p_app AND h.seq = p_seq;
        IF c.register ->> 'at' = p_at AND c.register ->> 'clientId' IS NULL AND c.name = p_client THEN
            RETURN NOT coalesce(c.user_no = p_user OR c.user_no = p_former AND c.seq <= p_head, false);
        END IF;
        p_seq := abs(c.prev_seq);
    END LOOP;
    RETURN false;
END $$;

-- The registers of a change, by their names, that an erasure takes: with p_own those that it wrote itself, and those of p_clients that it carries,
-- but for others'. The rest as in sync_erase_others.
CREATE OR REPLACE FUNCTION syncd.sync_erase_taken(p_fields json, p_own boolean, p_clients text[], p_user bigint, p_former bigint, p_head bigint,
                                                  p_space integer, p_app integer, p_seq bigint) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT f.key FROM json_each(p_fields) f
        WHERE CASE WHEN f.value -> 'clientId' IS NULL THEN p_own WHEN f.value ->> 'clientId' <> ALL (p_clients) THEN false
                   ELSE NOT syncd.sync_erase_others(p_user, p_former, p_head, p_space, p_app, p_seq, f.key, f.value ->> 'at', f.value ->> 'clientId') END);
END $$;

-- What stands in the records of a feed of what a user wrote: of its own changes after p_after up to p_upto, by their stamps; and of its devices
-- (p_clients) in records that were last changed there, but for others', as compaction may have dropped the changes. p_former, p_head: its former
-- number, and up to where.
CREATE OR REPLACE FUNCTION syncd.sync_erase_found(p_user bigint, p_former bigint, p_head bigint, p_space integer, p_app integer, p_clients text[],
                                                  p_after bigint, p_upto bigint) RETURNS TABLE (table_no integer, record_id text, keys text[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT f.table_no, f.record_id, array_agg(f.key) FROM (
        SELECT c.table_no, c.record_id, f.key
        FROM (  -- its record is unpacked once, and not for each field
            SELECT w.table_no, w.record_id, (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = w.client_no) AS client, w.fields,
                   h.registers || '{}' AS held
            FROM syncd.sync_changes w CROSS JOIN LATERAL syncd.sync_record_at(p_space, p_app, w.table_no, w.record_id) h
            WHERE w.space_no = p_space AND w.app_no = p_app AND w.seq > p_after AND w.seq <= p_upto
              AND (w.user_no = p_user OR w.user_no = p_former AND w.seq <= p_head) OFFSET 0) c
        CROSS JOIN LATERAL json_each(c.fields) f
        WHERE f.value -> 'clientId' IS NULL AND NOT c.held -> f.key ? 'erased'
          AND (f.key <> 'deletedAt' OR NOT syncd.sync_is_instant(c.held -> f.key -> 'value'))
          AND c.held -> f.key ->> 'at' = f.value ->> 'at' AND c.held -> f.key ->> 'clientId' = c.client
        UNION
        SELECT q.table_no, q.record_id, r.key FROM syncd.sync_records q CROSS JOIN LATERAL jsonb_each(q.registers) r
        WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq > p_after AND q.seq <= p_upto AND r.value ->> 'clientId' = ANY (p_clients)
          AND r.value -> 'value' <> 'null' AND NOT r.value ? 'erased' AND (r.key <> 'deletedAt' OR NOT syncd.sync_is_instant(r.value -> 'value'))
          AND NOT syncd.sync_erase_others(p_user, p_former, p_head, p_space, p_app, q.seq, r.key, r.value ->> 'at', r.value ->> 'clientId')) f
    GROUP BY f.table_no, f.record_id;
END $$;

-- Empties those, and tells devices. The feed is locked.
CREATE OR REPLACE FUNCTION syncd.sync_erase_standing(p_ordinal bigint, p_space integer, p_app integer, p_clients text[], p_after bigint, p_upto bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_buried bigint := 0;
    v_fields bigint := 0;
    v_by     integer := syncd.sync_erase_by();
    v_found  jsonb;
    v_bury   boolean;
    v        syncd.sync_records;
    t        record;
    d        record;
BEGIN
    SELECT jsonb_agg(jsonb_build_array(f.table_no, f.record_id, f.keys) ORDER BY f.table_no, f.record_id) INTO v_found
    FROM syncd.sync_erasures e
    CROSS JOIN LATERAL syncd.sync_erase_found(e.user_no, e.former_no, (
        SELECT h.head FROM syncd.sync_erasure_feeds h WHERE h.ordinal = e.ordinal AND h.space_no = p_space AND h.app_no = p_app),
        p_space, p_app, p_clients, p_after, p_upto) f
    WHERE e.ordinal = p_ordinal;
    -- all places at once: the row of a feed that is written a thousand times in a transaction becomes slow
    SELECT a.* INTO t FROM syncd.sync_take(p_space, p_app, coalesce(jsonb_array_length(v_found), 0)) a;
    FOR d IN SELECT (e.value ->> 0)::integer AS table_no, e.value ->> 1 AS record_id, ARRAY(SELECT jsonb_array_elements_text(e.value -> 2)) AS keys, e.n
             FROM jsonb_array_elements(v_found) WITH ORDINALITY AS e (value, n) LOOP
        v := syncd.sync_record_at(p_space, p_app, d.table_no, d.record_id);
        v_bury := NOT EXISTS (SELECT FROM jsonb_each(v.registers) r WHERE r.key <> 'deletedAt' AND r.key <> ALL (d.keys) AND NOT r.value ? 'erased');
        PERFORM syncd.sync_erase_write(v, d.keys, v_bury, v_by, t.base + d.n, t.written_at);
        v_buried := v_buried + v_bury::integer;
        v_fields := v_fields + cardinality(d.keys);
    END LOOP;
    IF v_fields > 0 THEN
        PERFORM pg_notify('syncd_hints', concat('f', syncd.sync_hint_key(s.space_id), syncd.sync_hint_key(a.name), h.head))
        FROM syncd.sync_feeds h, syncd.sync_spaces s, syncd.sync_names a
        WHERE h.space_no = p_space AND h.app_no = p_app AND s.space_no = p_space AND a.name_no = p_app;
    END IF;
    PERFORM syncd.sync_erase_count(p_ordinal, 'records', v_buried), syncd.sync_erase_count(p_ordinal, 'fields', v_fields);
END $$;

-- Takes a user's values out of the next p_rows places of a feed's log, and out of what they made of the records; how far that was. p_whole: all
-- values of the feed; p_clients: as sync_erase_clients has them.
CREATE OR REPLACE FUNCTION syncd.sync_erase_user_log(p_ordinal bigint, p_space integer, p_app integer, p_whole boolean, p_clients text[],
                                                     p_after bigint, p_rows integer, p_upto bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
    e         syncd.sync_erasures;
    v_upto    bigint := least(p_after + p_rows, p_upto);
    v_head    bigint := (SELECT f.head FROM syncd.sync_erasure_feeds f WHERE f.ordinal = p_ordinal AND f.space_no = p_space AND f.app_no = p_app);
    v_counted bigint;
    v_n       bigint;
    v_bytes   bigint;
BEGIN
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    PERFORM syncd.sync_erase_lock(p_space, p_app);
    IF p_whole THEN
        UPDATE syncd.sync_records q SET registers = syncd.sync_erased_fields(q.registers::text::json, NULL)::jsonb
        WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq > p_after AND q.seq <= v_upto;
        GET DIAGNOSTICS v_n = ROW_COUNT;
        PERFORM syncd.sync_erase_count(p_ordinal, 'records', v_n);
    ELSIF NOT e.anonymise THEN
        PERFORM syncd.sync_erase_standing(p_ordinal, p_space, p_app, p_clients, p_after, v_upto);
    END IF;
    SELECT u.counted INTO v_counted FROM syncd.sync_feed_usage u WHERE u.space_no = p_space AND u.app_no = p_app FOR UPDATE;
    WITH found AS MATERIALIZED (
        SELECT c.ctid AS place, c.seq, c.fields AS was, c.lost AS was_lost, c.change_id AS was_id, c.actor, c.origin, c.user_no AS was_user, o.own,
               CASE WHEN c.user_no = e.former_no AND c.seq <= v_head THEN e.user_no ELSE c.user_no END AS user_no,
               CASE WHEN o.keeps THEN c.fields ELSE syncd.sync_erased_fields(c.fields, CASE WHEN p_whole THEN NULL ELSE syncd.sync_erase_taken(
                   c.fields, o.own, p_clients, e.user_no, e.former_no, v_head, p_space, p_app, c.seq) END) END AS fields,
               CASE WHEN o.keeps OR NOT o.own THEN c.lost ELSE syncd.sync_erased_fields(c.lost, NULL) END AS lost,
               CASE WHEN o.own AND NOT o.keeps AND c.change_id < U&'\0020' THEN syncd.sync_move_id(c.event_id) ELSE c.change_id END AS change_id,
               syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id) AS size
        FROM syncd.sync_changes c CROSS JOIN LATERAL (SELECT coalesce(p_whole OR c.user_no = e.user_no OR c.user_no = e.former_no AND c.seq <= v_head, false) AS own,
                                                                 e.anonymise AND NOT p_whole AS keeps) o
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_upto
          AND (o.own OR NOT o.keeps AND strpos(c.fields::text, '"clientId"') > 0)
    ), emptied AS (
        UPDATE syncd.sync_changes c SET fields = f.fields, lost = f.lost, change_id = f.change_id, user_no = f.user_no,
            actor = CASE WHEN NOT f.own THEN c.actor END, origin = CASE WHEN NOT f.own OR e.anonymise AND NOT p_whole THEN c.origin END
        FROM found f
        WHERE c.ctid = f.place AND (f.fields::text IS DISTINCT FROM f.was::text OR f.lost::text IS DISTINCT FROM f.was_lost::text
              OR f.change_id IS DISTINCT FROM f.was_id OR f.user_no <> f.was_user OR f.own AND (f.actor IS NOT NULL OR f.origin IS NOT NULL AND NOT e.anonymise))
        RETURNING f.seq, f.size - syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id) AS less
    )
    SELECT count(*), coalesce(sum(m.less) FILTER (WHERE m.seq <= v_counted), 0) INTO v_n, v_bytes FROM emptied m;
    PERFORM syncd.sync_erase_usage(p_space, p_app, v_bytes), syncd.sync_erase_count(p_ordinal, 'changes', v_n);
    RETURN v_upto;
END $$;
