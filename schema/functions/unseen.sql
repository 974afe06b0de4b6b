-- What a change wrote over without its writer having seen it. A change says per field what its writer had seen: {field: {"at": the
-- stamp}} of another's register, {field: {"clientId": its own id}} where it had seen none of another's; an array says so of all its fields,
-- and null says nothing. What a record holds contains that where all was seen, so nothing here is mostly called.
-- Called by functions alone.

-- Whether a change wrote over a register (null: there was none) that is another's, says something else, and was not seen.
CREATE OR REPLACE FUNCTION syncd.sync_is_unseen(p_field text, p_held jsonb, p_new jsonb, p_seen jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_held ->> 'clientId' <> p_new ->> 'clientId' AND (jsonb_typeof(p_seen) = 'array' OR p_seen ? p_field)
    AND coalesce(p_seen -> p_field ->> 'at', '') COLLATE "C" < p_held ->> 'at'
    AND concat(p_new ->> 'at', p_new ->> 'clientId') COLLATE "C" >= concat(p_held ->> 'at', p_held ->> 'clientId') COLLATE "C"
    AND CASE WHEN p_field = 'deletedAt' THEN (p_held -> 'value' = 'null') <> (p_new -> 'value' = 'null')  -- when it was is no matter
             ELSE p_held -> 'value' <> p_new -> 'value' END;

-- Whether another's deletion (a register, or null) hides what a change writes, which says nothing of it.
CREATE OR REPLACE FUNCTION syncd.sync_is_hidden(p_tombstone jsonb, p_new jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_tombstone -> 'value' <> 'null' AND NOT p_new ? 'deletedAt'
    AND p_tombstone -> 'clientId' <> jsonb_path_query_first(p_new, '$.*.clientId');

-- A register as its overwriter is told of it.
CREATE OR REPLACE FUNCTION syncd.sync_overwritten(p_field text, p_held jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_object('field', p_field, 'value', p_held -> 'value', 'by', p_held -> 'clientId', 'at', p_held -> 'at');

-- The registers of a record that a change wrote over unseen, and the deletion that hides it: [{field, value, by, at}], or null. p_new:
-- the change's registers as the record keeps them, p_seen: as above.
CREATE OR REPLACE FUNCTION syncd.sync_unseen(p_held jsonb, p_new jsonb, p_seen jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_held jsonb := p_held || '{}';  -- unpacked once
BEGIN
    RETURN (
        SELECT jsonb_agg(syncd.sync_overwritten(u.key, v_held -> u.key) ORDER BY u.key)
        FROM (SELECT n.key FROM jsonb_each(p_new) n WHERE syncd.sync_is_unseen(n.key, v_held -> n.key, n.value, p_seen)
              UNION ALL SELECT 'deletedAt' WHERE syncd.sync_is_hidden(v_held -> 'deletedAt', p_new)) u);
END $$;

-- What a change's device is told: the registers that lost, and what it wrote over unseen (each as sync_unseen, or null); with p_tombstone,
-- the deletion that hides p_new, too.
CREATE OR REPLACE FUNCTION syncd.sync_told(p_conflicts jsonb, p_unseen jsonb, p_tombstone jsonb DEFAULT NULL, p_new jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_unseen IS NULL AND p_tombstone IS NULL THEN p_conflicts ELSE nullif(coalesce(p_conflicts, '[]') || coalesce(p_unseen, '[]')
    || CASE WHEN syncd.sync_is_hidden(p_tombstone, p_new) THEN jsonb_build_array(syncd.sync_overwritten('deletedAt', p_tombstone)) ELSE '[]' END, '[]') END;

-- A change's registers as the log keeps them, with `base` in those of p_bases ({field: instant or null}; null: none). What a text says
-- else stays as it is: an export of an import is the same.
CREATE OR REPLACE FUNCTION syncd.sync_based(p_fields json, p_bases jsonb) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_bases IS NULL OR p_fields IS NULL THEN p_fields ELSE (
    SELECT concat('{', string_agg(concat(to_json(e.key), ':', CASE WHEN p_bases ? e.key
        THEN concat(left(e.value::text, -1), ',"base":', p_bases -> e.key, '}') ELSE e.value::text END), ',' ORDER BY e.n), '}')::json
    FROM json_each(p_fields) WITH ORDINALITY AS e (key, value, n)) END;

-- What is said of a change's registers in the log: those that wrote over something unseen (p_unseen: as sync_unseen says) say what their
-- writer had seen, so that whose they wrote over can tell.
CREATE OR REPLACE FUNCTION syncd.sync_marked(p_fields json, p_unseen jsonb, p_seen jsonb) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_unseen IS NULL THEN p_fields ELSE syncd.sync_based(p_fields, (
    SELECT jsonb_object_agg(u.field, p_seen -> u.field -> 'at') FROM jsonb_to_recordset(p_unseen) AS u (field text))) END;

-- An imported change's registers that won, with what its line said of them so.
CREATE OR REPLACE FUNCTION syncd.sync_imported(p_won jsonb, p_fields json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN syncd.sync_based(p_won::json, (
    SELECT jsonb_object_agg(e.key, e.value::jsonb -> 'base') FROM json_each(p_fields) e WHERE e.value::jsonb ? 'base'));
