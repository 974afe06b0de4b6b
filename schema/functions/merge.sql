-- The merge, register by register, and what follows from it: which of two stamps wins, what of a change is logged with the whole record.
-- Called by functions alone.

-- Merges incoming registers into held ones. The greater stamp wins; at an equal stamp (the same
-- device wrote twice at one instant) the incoming one, whose seq is greater. Both sides carry
-- canonical `at` texts of one width, so (at, clientId) compares as one string of bytes.
CREATE OR REPLACE FUNCTION syncd.sync_merge(p_held jsonb, p_new jsonb, OUT merged jsonb, OUT won jsonb, OUT lost jsonb, OUT conflicts jsonb)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_held jsonb := p_held || '{}';  -- unpacked once, and not for each field
BEGIN
    SELECT v_held || coalesce(jsonb_object_agg(r.key, r.new) FILTER (WHERE r.wins), '{}'),
           jsonb_object_agg(r.key, r.new - 'clientId') FILTER (WHERE r.wins),
           jsonb_object_agg(r.key, r.new - 'clientId') FILTER (WHERE NOT r.wins),
           jsonb_agg(jsonb_build_object('field', r.key, 'clientValue', r.new -> 'value', 'clientTimestamp', r.new -> 'at',
               'serverValue', r.held -> 'value', 'serverTimestamp', r.held -> 'at', 'by', r.held -> 'clientId') ORDER BY r.key) FILTER (WHERE NOT r.wins)
    INTO merged, won, lost, conflicts
    FROM (SELECT n.key, n.value AS new, v_held -> n.key AS held,
                 NOT v_held ? n.key
                 OR concat(n.value ->> 'at', n.value ->> 'clientId') COLLATE "C"
                    >= concat(v_held -> n.key ->> 'at', v_held -> n.key ->> 'clientId') COLLATE "C" AS wins
          FROM jsonb_each(p_new) n) r;
END $$;

-- The fields of incoming registers whose client has written another value with the same stamp already; null: there are none.
CREATE OR REPLACE FUNCTION syncd.sync_twice(p_held jsonb, p_new jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_held jsonb := p_held || '{}';  -- unpacked once, and not for each field
BEGIN
    RETURN (SELECT jsonb_agg(n.key) FROM jsonb_each(p_new) n
            WHERE v_held -> n.key ->> 'at' = n.value ->> 'at' AND v_held -> n.key ->> 'clientId' = n.value ->> 'clientId'
              AND (v_held -> n.key -> 'value')::text <> (n.value -> 'value')::text);
END $$;

-- Raises SY009 where the head says "apart" and there is a place with such fields: [[place, [field] or null]].
CREATE OR REPLACE FUNCTION syncd.sync_apart(p_head jsonb, p_twice jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_head ? 'apart' AND p_twice #> '{0,1}' <> 'null' THEN
        RAISE EXCEPTION 'twice' USING ERRCODE = 'SY009', DETAIL = p_twice::text;
    END IF;
END $$;

-- What the log keeps of a change to a record that was deleted: the whole record. A device that was new
-- while the record was a tombstone has none of it, and would else take the change's few registers for all.
-- The registers of others carry their `clientId`, the change's own do not.
CREATE OR REPLACE FUNCTION syncd.sync_whole(p_registers jsonb, p_fields json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (p_registers || p_fields::jsonb)::json;

-- Whether changes that lose are logged with the record, as those to deleted ones: their author's devices show what they wrote, and
-- have no answer that would put them right.
CREATE OR REPLACE FUNCTION syncd.sync_tells() RETURNS boolean
LANGUAGE sql STABLE
RETURN current_setting('syncd.tells', true) = 'yes';

-- The seq of a change to a tombstone. Raises SY007 where that says that its record moved, which whoever pushes has to know.
CREATE OR REPLACE FUNCTION syncd.sync_woken(p_head jsonb, p_moved boolean, p_seq bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_moved AND NOT p_head ?| ARRAY['moves', 'follows'] THEN
        RAISE EXCEPTION 'moves' USING ERRCODE = 'SY007', DETAIL = '{"follow": true}';
    END IF;
    RETURN p_seq;
END $$;
