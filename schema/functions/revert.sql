-- Reverts: what an actor's changes wrote is taken back. A record becomes what the merge of all other changes makes of it.
-- Everything runs as the acting user. Refusals are raised with ERRCODE SY010 and the problem's code as message.
-- Called by functions alone.

-- Of two registers, each with its client, the one with the greater stamp. Either may be null.
CREATE OR REPLACE FUNCTION syncd.sync_later_register(p_one jsonb, p_other jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_other IS NULL OR concat(p_one ->> 'at', p_one ->> 'clientId') COLLATE "C"
                                    >= concat(p_other ->> 'at', p_other ->> 'clientId') COLLATE "C" THEN p_one ELSE p_other END;

-- Whether a change is one that is taken back: its actor has all that one of p_actors has, as "reverted", and it is after that one's "after".
CREATE OR REPLACE FUNCTION syncd.sync_is_reverted(p_actor jsonb, p_seq bigint, p_actors jsonb[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM unnest(p_actors) a WHERE p_actor @> (a -> 'reverted') AND p_seq > coalesce((a ->> 'after')::bigint, 0));

-- What a record would hold without the changes after p_after whose actor has all that p_actor has, and without those that were reverted before and
-- not again since. taken: the registers that are of those changes, or of a revert; fresh: those of the first alone. others: for each, what the
-- greatest stamp among all other changes wrote, those that lost to it included; nothing where there is none. lone: there is
-- no other change. It goes down the record's chain until the change that each such register was won from.
CREATE OR REPLACE FUNCTION syncd.sync_of_others(p_record syncd.sync_records, p_actor jsonb, p_after bigint, OUT taken text[], OUT fresh text[],
                                     OUT others jsonb, OUT lone boolean, OUT complete boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_open   text[] := ARRAY(SELECT jsonb_object_keys(p_record.registers));
    v_sought text[] := '{}';
    v_gone   jsonb[] := '{}';
    v_left   integer := syncd.sync_steps_left();
    v_at     bigint := p_record.seq;
    c        record;
BEGIN
    taken := '{}'; fresh := '{}'; others := '{}'; lone := true; complete := true;
    WHILE v_at IS NOT NULL AND (v_open <> '{}' OR v_sought <> '{}') LOOP
        v_left := v_left - 1;
        SELECT h.seq, h.prev_seq, h.client_no, syncd.sync_own_fields(h.fields) AS own, syncd.sync_written(h.fields)::jsonb AS won,
               coalesce(h.lost::jsonb, '{}') AS lost, h.actor::jsonb AS actor,
               h.seq > p_after AND coalesce(h.actor::jsonb @> p_actor, false) AS meant, syncd.sync_is_reverted(h.actor::jsonb, h.seq, v_gone) AS gone
        INTO c FROM syncd.sync_changes h
        WHERE h.space_no = p_record.space_no AND h.app_no = p_record.app_no AND h.seq = v_at;
        complete := v_left >= 0 AND c.seq IS NOT NULL;
        EXIT WHEN NOT complete;
        IF c.meant OR c.gone OR coalesce(c.actor ? 'reverted', false) THEN
            v_gone := CASE WHEN c.meant OR c.gone OR NOT c.actor ? 'reverted' THEN v_gone ELSE v_gone || c.actor END;
            taken := taken || ARRAY(SELECT f FROM unnest(c.own) f WHERE f = ANY (v_open));
            fresh := fresh || ARRAY(SELECT f FROM unnest(c.own) f WHERE f = ANY (v_open) AND c.meant);
            v_sought := v_sought || ARRAY(SELECT f FROM unnest(c.own) f WHERE f = ANY (v_open));
        ELSE
            lone := false;
            others := others || coalesce((
                SELECT jsonb_object_agg(r.key, syncd.sync_later_register(others -> r.key, r.value))
                FROM jsonb_each(syncd.sync_registers_in(c.won || c.lost, c.client_no, v_open || v_sought)) r), '{}');
            v_sought := ARRAY(SELECT f FROM unnest(v_sought) f WHERE NOT f = ANY (c.own));
        END IF;
        v_open := ARRAY(SELECT f FROM unnest(v_open) f WHERE NOT f = ANY (c.own));
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
    w record := syncd.sync_of_others(p_record, p_actor, p_after);
BEGIN
    complete := w.complete;
    schema_version := p_record.schema_version;
    needed := false;
    IF p_record.deleted AND (w.lone OR NOT complete OR p_record.registers -> 'deletedAt' ? 'movedTo') THEN
        complete := complete OR NOT 'deletedAt' = ANY (w.taken) OR p_record.registers -> 'deletedAt' ? 'movedTo';
        RETURN;
    ELSIF w.lone THEN
        w.taken := ARRAY['deletedAt'];
        w.others := jsonb_build_object('deletedAt', jsonb_build_object('value', true));
    END IF;
    SELECT jsonb_object_agg(f.key, jsonb_build_object('at', f.at, 'value',
               CASE WHEN f.key = 'deletedAt' AND f.value <> 'null' THEN to_jsonb(f.at) ELSE f.value END)), max(f.us)
    INTO fields, stamp
    FROM (SELECT k.*, syncd.sync_instant(timestamptz 'epoch' + k.us * interval '1 microsecond') AS at
          FROM (SELECT t AS key, coalesce(w.others -> t -> 'value', 'null') AS value, p_record.registers -> t -> 'value' AS held,
                       CASE WHEN w.lone THEN p_record.latest ELSE syncd.sync_micros((p_record.registers -> t ->> 'at')::timestamptz) END + 1000 AS us
                FROM unnest(w.taken) t) k
          WHERE k.key = ANY (w.fresh) OR CASE WHEN k.key = 'deletedAt' THEN (k.value = 'null') <> (coalesce(k.held, 'null') = 'null')
                                              ELSE k.value <> k.held END) f;
    needed := fields IS NOT NULL;
    SELECT jsonb_object_agg(f.key, f.value || jsonb_build_object('clientId', p_client)) INTO registers FROM jsonb_each(fields) f;
    op := CASE WHEN NOT fields ? 'deletedAt' THEN 2 WHEN fields -> 'deletedAt' -> 'value' <> 'null' THEN 3 WHEN p_record.deleted THEN 1 ELSE 2 END;
END $$;

-- The records that the actor of a revert wrote to after a seq, as [{"t": table, "r": id}], the seq before its first such change, and the actor
-- of the revert itself, which says the seq. It looks through the feed from there: no more than the call says. Raises SY010 (restore_too_large).
CREATE OR REPLACE FUNCTION syncd.sync_acted_on(p_space integer, p_app integer, p_seq bigint, p_call jsonb,
                                    OUT records jsonb, OUT before bigint, OUT actor text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_many bigint := (SELECT h.head - p_seq FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app);
BEGIN
    IF v_many > (p_call ->> 'looks')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('looks', v_many)::text;
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object('t', k.table_no, 'r', k.record_id)), '[]'), min(k.first) - 1, count(*)
    INTO records, before, v_many
    FROM (SELECT c.table_no, c.record_id, min(c.seq) AS first FROM syncd.sync_changes c
          WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_seq AND c.actor::jsonb @> (p_call -> 'revert')
          GROUP BY c.table_no, c.record_id) k;
    actor := CASE WHEN p_seq = 0 THEN p_call ->> 'actor' ELSE ((p_call ->> 'actor')::jsonb || jsonb_build_object('after', p_seq))::text END;
    IF v_many > (p_call ->> 'most')::bigint THEN
        RAISE EXCEPTION 'restore_too_large' USING ERRCODE = 'SY010', DETAIL = jsonb_build_object('records', v_many)::text;
    END IF;
END $$;
