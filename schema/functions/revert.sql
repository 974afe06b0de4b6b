-- Reverts: what an actor's changes wrote is taken back. A record becomes what the merge of all other changes makes of it.
-- Everything runs as the acting user. Refusals are raised with ERRCODE SY010 and the problem's code as message.
-- Called by functions alone.

-- Of two registers, each with its client, the one with the greater stamp. Either may be null.
CREATE OR REPLACE FUNCTION syncd.sync_later_register(p_one jsonb, p_other jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_other IS NULL OR concat(p_one ->> 'at', p_one ->> 'clientId') COLLATE "C"
                                    >= concat(p_other ->> 'at', p_other ->> 'clientId') COLLATE "C" THEN p_one ELSE p_other END;

-- What a change takes back, as {"reverted", "after"}, where it is a revert's; else null. The server alone writes under such a client id
-- (sync_writer_for), whatever an actor says of itself. An import may bring any: what is compared has no arrays, and is short.
CREATE OR REPLACE FUNCTION syncd.sync_reverts(p_actor jsonb, p_client integer) RETURNS jsonb
LANGUAGE sql STABLE
RETURN CASE WHEN jsonb_typeof(p_actor -> 'reverted') = 'object' AND p_actor -> 'reverted' <> '{}' AND octet_length((p_actor -> 'reverted')::text) <= 8192
                 AND NOT jsonb_path_exists(p_actor -> 'reverted', 'strict $.** ? (@.type() == "array")')
                 AND EXISTS (SELECT FROM syncd.sync_names d WHERE d.name_no = p_client AND starts_with(d.name, '_server:_server:'))
            THEN jsonb_build_object('reverted', p_actor -> 'reverted', 'after',
                     CASE WHEN jsonb_typeof(p_actor -> 'after') = 'number' THEN p_actor -> 'after' ELSE '0' END) END;

-- Whether a change is one that is taken back: its actor has all that one of p_reverts has as "reverted", and it is after that one's "after".
CREATE OR REPLACE FUNCTION syncd.sync_is_reverted(p_actor jsonb, p_seq bigint, p_reverts jsonb[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM unnest(p_reverts) a WHERE p_actor @> (a -> 'reverted') AND p_seq > (a -> 'after')::numeric);

-- Of the members of an object of names those that another has, or has not.
CREATE OR REPLACE FUNCTION syncd.sync_names_among(p_names jsonb, p_others jsonb, p_has boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_object_agg(n.name, true), '{}') FROM jsonb_object_keys(p_names) AS n (name) WHERE p_others ? n.name = p_has);

-- What a record would hold without the changes after p_after whose actor has all that p_actor has, and without those that were reverted before and
-- not again since. taken: the registers that are of those changes, or of a revert, as {name: true}; fresh: those of the first alone. others: for each, what the
-- greatest stamp among all other changes wrote, those that lost to it included; nothing where there is none. lone: there is
-- no other change. It goes down the record's chain until the change that each such register was won from. A change counts as
-- more steps by its fields, those still looked for, its bytes and the reverts that it is compared with.
CREATE OR REPLACE FUNCTION syncd.sync_of_others(p_record syncd.sync_records, p_actor jsonb, p_after bigint, OUT taken jsonb, OUT fresh jsonb,
                                     OUT others jsonb, OUT lone boolean, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_open   jsonb := syncd.sync_names_among(p_record.registers, '{}', false);
    v_sought jsonb := '{}';
    v_gone   jsonb[] := '{}';
    v_left   integer := syncd.sync_steps_left();
    v_at     bigint := p_record.seq;
    v_meant  boolean;
    v_back   boolean;  -- it was taken back
    v_held   jsonb;
    v_revert jsonb;
    c        record;
BEGIN
    taken := '{}'; fresh := '{}'; others := '{}'; lone := true; complete := true;
    WHILE v_at IS NOT NULL AND (v_open <> '{}' OR v_sought <> '{}') LOOP
        SELECT h.seq, h.prev_seq, h.client_no, syncd.sync_written(h.fields)::jsonb AS won, coalesce(h.lost::jsonb, '{}') AS lost, h.actor::jsonb AS actor,
               coalesce(octet_length(h.fields::text), 0) + coalesce(octet_length(h.lost::text), 0) + coalesce(octet_length(h.actor::text), 0) AS bytes
        INTO c FROM syncd.sync_changes h
        WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq = v_at;
        v_left := v_left - 1 - coalesce(c.bytes, 0) / 2048 - pg_column_size(v_gone) / 1024
                  - (SELECT count(*) FROM jsonb_object_keys(v_open || v_sought || coalesce(c.won, '{}'))) / 16;
        complete := v_left >= 0 AND c.seq IS NOT NULL;
        EXIT WHEN NOT complete;
        v_meant := c.seq > p_after AND coalesce(c.actor @> p_actor, false);
        v_back := NOT v_meant AND syncd.sync_is_reverted(c.actor, c.seq, v_gone);
        v_revert := CASE WHEN NOT v_meant AND NOT v_back THEN syncd.sync_reverts(c.actor, c.client_no) END;
        IF v_meant OR v_back OR v_revert IS NOT NULL THEN
            v_gone := CASE WHEN v_revert IS NULL OR v_revert = ANY (v_gone) THEN v_gone ELSE v_gone || v_revert END;
            v_held := syncd.sync_names_among(v_open, c.won, true);
            taken := taken || v_held;
            fresh := CASE WHEN v_meant THEN fresh || v_held ELSE fresh END;
            v_sought := v_sought || v_held;
        ELSE
            lone := false;
            v_held := jsonb_build_object('clientId', (SELECT d.name FROM syncd.sync_names d WHERE d.name_no = c.client_no));
            others := others || coalesce((
                SELECT jsonb_object_agg(r.key, syncd.sync_later_register(others -> r.key, v_held || (r.value - 'base')))
                FROM jsonb_each(c.won || c.lost) r WHERE v_open ? r.key OR v_sought ? r.key), '{}');
            v_sought := syncd.sync_names_among(v_sought, c.won, false);
        END IF;
        v_open := syncd.sync_names_among(v_open, c.won, false);
        complete := v_sought = '{}' OR coalesce(c.prev_seq >= 0, true);
        EXIT WHEN NOT complete;
        v_at := abs(c.prev_seq);
    END LOOP;
    PERFORM set_config('syncd.steps', v_left::text, true);
END $$;

-- What has to be written so that a record is without those changes, as sync_way_back has it for a moment. A register is stamped a
-- millisecond after the one that it takes back, not with the time: what others wrote since wins over it, whenever it comes. One that
-- would have the same value is written too: then it is not the actor's any more. stamp: the greatest. A record of which there is no other change is deleted, and keeps its fields. One that others deleted stays
-- deleted, and as it is where not all of it is known any more; so does one that has moved.
CREATE OR REPLACE FUNCTION syncd.sync_way_without(p_record syncd.sync_records, p_actor jsonb, p_after bigint, p_client text,
                                       OUT fields jsonb, OUT registers jsonb, OUT op integer, OUT stamp bigint,
                                       OUT schema_version integer, OUT needed boolean, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    w           record := syncd.sync_of_others(p_record, p_actor, p_after);
    v_registers jsonb := p_record.registers || '{}';  -- read once, and not for each field
BEGIN
    complete := w.complete;
    schema_version := p_record.schema_version;
    needed := false;
    IF p_record.deleted AND (w.lone OR NOT complete OR p_record.registers -> 'deletedAt' ? 'movedTo') THEN
        complete := complete OR NOT w.taken ? 'deletedAt' OR p_record.registers -> 'deletedAt' ? 'movedTo';
        RETURN;
    ELSIF w.lone THEN
        w.taken := '{"deletedAt": true}';
        w.others := jsonb_build_object('deletedAt', jsonb_build_object('value', true));
    END IF;
    SELECT jsonb_object_agg(f.key, jsonb_build_object('at', f.at, 'value',
               CASE WHEN f.key = 'deletedAt' AND f.value <> 'null' THEN to_jsonb(f.at) ELSE f.value END)), max(f.us)
    INTO fields, stamp
    FROM (SELECT k.*, syncd.sync_instant(timestamptz 'epoch' + k.us * interval '1 microsecond') AS at
          FROM (SELECT t AS key, coalesce(w.others -> t -> 'value', 'null') AS value, v_registers -> t -> 'value' AS held,
                       CASE WHEN w.lone THEN p_record.latest ELSE syncd.sync_micros((v_registers -> t ->> 'at')::timestamptz) END + 1000 AS us
                FROM jsonb_object_keys(w.taken) t) k
          WHERE w.fresh ? k.key OR CASE WHEN k.key = 'deletedAt' THEN (k.value = 'null') <> (coalesce(k.held, 'null') = 'null')
                                              ELSE k.value <> k.held END) f;
    needed := fields IS NOT NULL;
    SELECT jsonb_object_agg(f.key, f.value || jsonb_build_object('clientId', p_client)) INTO registers FROM jsonb_each(fields) f;
    op := CASE WHEN NOT fields ? 'deletedAt' THEN 2 WHEN fields -> 'deletedAt' -> 'value' <> 'null' THEN 3 WHEN p_record.deleted THEN 1 ELSE 2 END;
END $$;

-- Bytes of the actors of a feed's changes after a seq, counted until they are more than p_most.
CREATE OR REPLACE FUNCTION syncd.sync_actor_bytes(p_space integer, p_app integer, p_seq bigint, p_most bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_bytes bigint := 0;
    v_one   bigint;
BEGIN
    FOR v_one IN SELECT octet_length(c.actor::text) FROM syncd.sync_changes c
                 WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_seq AND c.actor IS NOT NULL LOOP
        v_bytes := v_bytes + v_one;
        EXIT WHEN v_bytes > p_most;
    END LOOP;
    RETURN v_bytes;
END $$;

-- The records that the actor of a revert wrote to after a seq, as [{"t": table, "r": id, "q": seq of the first such change}], the seq before the first
-- of them, and the actor of the revert itself, which says the seq. It looks through the feed from there: no more than the call says. Where changes after
-- it were folded it is not known to what the actor wrote. looked: what was found, for a call that goes on from there as its "looked": under the
-- feed's lock only what came since is looked at. Raises SY010 (restore_too_large, history_gone).
CREATE OR REPLACE FUNCTION syncd.sync_acted_on(p_space integer, p_app integer, p_seq bigint, p_call jsonb,
                                    OUT records jsonb, OUT before bigint, OUT actor text, OUT looked jsonb)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_found   jsonb := CASE WHEN (p_call #>> '{looked,seq}')::bigint = p_seq THEN p_call -> 'looked' ELSE '{}' END;
    v_from    bigint := coalesce((v_found ->> 'upto')::bigint, p_seq);
    v_bytes   bigint := coalesce((v_found ->> 'bytes')::bigint, 0);
    v_many    bigint;
    v_head    bigint;
    v_horizon bigint;
BEGIN
    SELECT h.head, h.horizon INTO v_head, v_horizon FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app;
    IF v_horizon > p_seq THEN
        RAISE EXCEPTION 'history_gone' USING ERRCODE = 'SY010', DETAIL = v_horizon::text;
    ELSIF v_head - p_seq > (p_call ->> 'looks')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('looks', v_head - p_seq)::text;
    END IF;
    v_bytes := v_bytes + syncd.sync_actor_bytes(p_space, p_app, v_from, (p_call ->> 'lookBytes')::bigint - v_bytes);
    IF v_bytes > (p_call ->> 'lookBytes')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('lookBytes', p_call -> 'lookBytes')::text;
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object('t', k.t, 'r', k.r, 'q', k.first)), '[]'), min(k.first) - 1, count(*)
    INTO records, before, v_many
    FROM (SELECT f.t, f.r, min(f.q) AS first
          FROM (SELECT c.table_no AS t, c.record_id AS r, c.seq AS q FROM syncd.sync_changes c
                WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_from AND c.seq <= v_head AND c.actor::jsonb @> (p_call -> 'revert')
                UNION ALL SELECT l.t, l.r, l.q FROM jsonb_to_recordset(v_found -> 'records') AS l (t integer, r text, q bigint)) f
          GROUP BY f.t, f.r) k;
    actor := CASE WHEN p_seq = 0 THEN p_call ->> 'actor' ELSE ((p_call ->> 'actor')::jsonb || jsonb_build_object('after', p_seq))::text END;
    looked := jsonb_build_object('seq', p_seq, 'upto', v_head, 'bytes', v_bytes, 'records', records);
    IF v_many > (p_call ->> 'most')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('records', v_many)::text;
    END IF;
END $$;
