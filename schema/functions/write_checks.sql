-- What is wrong with what an application's backend writes, as the edge says it of what a device pushes.
-- Called by the functions of write_single and write, as the owner.

-- What is wrong with an id, as syncd/core/ids.py says it; null: nothing. Without concat, which is not immutable, a statement takes it in as a part of itself.
CREATE OR REPLACE FUNCTION syncd.sync_fault_in_id(p_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_id IS NULL THEN 'must be a text'
            WHEN p_id = '' THEN 'must not be empty'
            WHEN p_id IN ('.', '..') THEN 'must not be ' || p_id || ', which addresses lose on their way'
            WHEN length(p_id) > 255 THEN 'must not be longer than 255 characters'
            WHEN p_id ~ U&'[\0001-\001F\007F-\009F]' THEN 'must not contain control characters' END;

-- The same for who writes: none of the ids under which the server writes. A revert is known by its own.
CREATE OR REPLACE FUNCTION syncd.sync_fault_in_client(p_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN starts_with(p_id, '_server:') THEN 'must not begin with _server:, under which the server writes' ELSE syncd.sync_fault_in_id(p_id) END;

-- The same for a user, or a space that a user made: two of them never look the same because of what cannot be seen.
CREATE OR REPLACE FUNCTION syncd.sync_fault_in_user(p_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(syncd.sync_fault_in_id(p_id), CASE
    WHEN starts_with(p_id, '_erased:') THEN 'must not begin with _erased:, by which those are called who were erased'
    WHEN p_id ~ U&'^[ \3000]|[ \3000]$' THEN 'must not begin or end with a space'
    WHEN octet_length(p_id) > length(p_id) AND p_id ~ U&'[\FE00-\FE0F\+0E0100-\+0E01EF\+01BCA0-\+01BCA3\+01D173-\+01D17A\00A0\1680\2000-\200A\2028\2029\202F\205F\2800\00AD\034F\061C\115F\1160\17B4\17B5\180B-\180F\200B-\200F\202A-\202E\2060-\206F\3164\FEFF\FFA0\FFF9-\FFFB\+0E0000-\+0E007F]'
        THEN 'must not contain characters that cannot be seen' END);

-- The actor of a change that no service's token writes, of what is said as it: a member "service" is the server's word for one (syncd/core/principal.py),
-- and what somebody says as that is in the member "said".
CREATE OR REPLACE FUNCTION syncd.sync_actor_said(p_actor jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_actor) = 'object' AND p_actor ? 'service'
            THEN p_actor - 'service' || jsonb_build_object('said', CASE WHEN p_actor ? 'said' THEN jsonb_build_object('said', p_actor -> 'said') ELSE '{}' END || jsonb_build_object('service', p_actor -> 'service'))
            ELSE p_actor END;

-- What is wrong with a value; null: nothing. As the edge has it, numbers are those of a double, and nothing is nested deeper than 64.
CREATE OR REPLACE FUNCTION syncd.sync_fault_in_value(p_value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF jsonb_typeof(p_value) IN ('string', 'boolean', 'null') THEN
        RETURN NULL;
    ELSIF jsonb_typeof(p_value) = 'number' THEN  -- without a statement
        RETURN CASE WHEN abs(p_value::numeric) >= 1.797693134862315808e308 OR p_value::numeric <> 0 AND abs(p_value::numeric) <= 2.4703282292062327e-324
                    THEN 'a number beyond the range of a double cannot be stored' END;
    ELSIF pg_column_size(p_value) > 64 AND jsonb_path_exists(p_value, 'strict $.**{64 to last} ? (@.type() == "array" || @.type() == "object")') THEN
        RETURN 'nested deeper than 64';
    ELSIF EXISTS (SELECT FROM jsonb_path_query(p_value, 'strict $.** ? (@.type() == "number")') AS n (n)
                  WHERE abs(n.n::numeric) >= 1.797693134862315808e308 OR n.n::numeric <> 0 AND abs(n.n::numeric) <= 2.4703282292062327e-324) THEN
        RETURN 'a number beyond the range of a double cannot be stored';
    END IF;
    RETURN NULL;
END $$;

-- What is wrong with a change by itself: the code of syncd/core/error_codes.py, the member that it is about, and a text; nulls: nothing.
CREATE OR REPLACE FUNCTION syncd.sync_write_fault(p_change jsonb, p_own text, OUT code text, OUT field text, OUT detail text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    d record;
BEGIN
    code := 'invalid_change';
    IF jsonb_typeof(p_change) IS DISTINCT FROM 'object' THEN
        detail := 'a change is an object';
        RETURN;
    END IF;
    SELECT e.key, e.wrong INTO field, detail FROM (
        SELECT m.key, CASE
            WHEN m.key IN ('table', 'id', 'changeId') OR m.key = 'spaceId' AND m.value #>> '{}' <> p_own
                THEN CASE jsonb_typeof(m.value) WHEN 'string' THEN syncd.sync_fault_in_id(m.value #>> '{}') ELSE 'must be a text' END
            WHEN m.key = 'spaceId' OR m.key = 'actor' THEN NULL
            WHEN m.key = 'origin' THEN CASE WHEN jsonb_typeof(m.value) <> 'string' THEN 'must be a text' END
            WHEN m.key = 'op' THEN CASE WHEN m.value NOT IN ('"insert"', '"update"', '"delete"') THEN 'must be insert, update or delete' END
            WHEN m.key = 'schemaVersion' THEN CASE WHEN m.value::text !~ '^-?\d{1,9}$' THEN 'must be an integer of nine digits at most' END
            WHEN m.key = 'fields' THEN CASE WHEN jsonb_typeof(m.value) <> 'object' THEN 'must be an object of values by name' END
            ELSE 'is no member of a change that is written here' END AS wrong
        FROM jsonb_each(p_change || CASE WHEN p_change ?& ARRAY['table', 'id'] THEN '{}' ELSE jsonb_build_object(
            'table', p_change -> 'table', 'id', p_change -> 'id') END) m) e
    WHERE e.wrong IS NOT NULL ORDER BY e.key LIMIT 1;
    IF detail IS NULL AND pg_column_size(p_change) > 32768 AND octet_length(p_change::text) > 1048576 THEN
        code := 'change_too_large';
        detail := 'a change has 1 MiB at most';
    ELSIF detail IS NULL AND coalesce(p_change ->> 'op', '') <> 'delete' AND coalesce(p_change -> 'fields', '{}') = '{}' THEN
        code := 'empty_change'; field := 'fields';
        detail := 'a change needs at least one field';
    ELSIF detail IS NULL THEN
        SELECT e.code, concat('fields/', e.key), e.wrong INTO d FROM (
            SELECT 'invalid_change' AS code, f.key, CASE f.key WHEN 'deletedAt' THEN 'is set by op: delete, insert'
                                                     ELSE syncd.sync_fault_in_id(f.key) END AS wrong
            FROM jsonb_object_keys(coalesce(p_change -> 'fields', '{}')) AS f (key)
            UNION ALL
            SELECT 'invalid_value', f.key, syncd.sync_fault_in_value(f.value)
            FROM jsonb_each(coalesce(p_change -> 'fields', '{}')) f) e WHERE e.wrong IS NOT NULL LIMIT 1;
        code := d.code; field := d.concat; detail := d.wrong;
        IF detail IS NULL AND p_change ? 'actor' THEN
            detail := syncd.sync_fault_in_value(p_change -> 'actor');
            code := CASE WHEN detail IS NOT NULL THEN 'invalid_value' END;
            field := CASE WHEN detail IS NOT NULL THEN 'actor' END;
        END IF;
    END IF;
END $$;
