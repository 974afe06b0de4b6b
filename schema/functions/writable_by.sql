-- Which role of a space may write a table, or a field of one: what its JSON Schema says by `x-writable-by`. The policies of the log and of the state
-- ask it of each row, so that nothing is written past it; the ways in ask it before, so that a change is refused for itself.
-- Called by policies (sync_may_…) and functions, as whoever acts. sync_writable_put is an operator's.

-- Says who may write a table and its fields, as its schema has it (null: it has none).
CREATE OR REPLACE FUNCTION syncd.sync_writable_put(p_app text, p_table text, p_body json) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_app   integer;
    v_table integer;
BEGIN
    IF p_body::text LIKE '%x-writable-by%' THEN
        PERFORM syncd.sync_names_put(ARRAY[p_app, p_table], NULL);
    END IF;
    v_app := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_app);
    v_table := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_table);
    DELETE FROM syncd.sync_writable_by w WHERE w.app_no = v_app AND w.table_no = v_table;
    IF p_body::text LIKE '%x-writable-by%' THEN  -- 'writer' is everybody who may write in the space
        INSERT INTO syncd.sync_writable_by (app_no, table_no, field, role)
        SELECT v_app, v_table, s.field, s.role FROM (
            SELECT '' AS field, p_body ->> 'x-writable-by' AS role
            UNION ALL SELECT p.key, p.value ->> 'x-writable-by' FROM json_each(p_body -> 'properties') p WHERE json_typeof(p.value) = 'object') s
        WHERE s.role <> 'writer';
    END IF;
END $$;

-- A name that is a path, and each name before one of its dots: `a.b.c`, `a` and `a.b`.
CREATE OR REPLACE FUNCTION syncd.sync_name_and_objects(p_name text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_to_string(p.parts[1:n.i], '.') FROM (SELECT string_to_array(p_name, '.') AS parts) p CROSS JOIN LATERAL generate_subscripts(p.parts, 1) AS n (i)
$$;

-- What of a change this role may not write: a field, or the empty text for its table; null: it may write all. p_fields: the registers that it
-- writes. The first generation takes one with a dot for a member of the object before it, so the word of either is the other's.
CREATE OR REPLACE FUNCTION syncd.sync_unwritable_field(p_role text, p_app integer, p_table integer, p_fields text[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_field text;
BEGIN
    IF p_role = 'owner' THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = p_app AND w.table_no = p_table AND w.field = '') THEN
        RETURN '';
    END IF;
    -- Both lookups are by hash: a record may have thousands of fields, and a schema as many words. Their OR keeps them from being joined.
    SELECT min(f.name COLLATE "C") INTO v_field FROM unnest(p_fields) AS f (name)
    WHERE f.name IN (SELECT o.name FROM syncd.sync_writable_by w CROSS JOIN LATERAL syncd.sync_name_and_objects(w.field) AS o (name)
                     WHERE w.app_no = p_app AND w.table_no = p_table)
       OR f.name LIKE '%.%' AND EXISTS (
              SELECT FROM syncd.sync_name_and_objects(f.name) AS o (name)
              JOIN syncd.sync_writable_by w ON w.app_no = p_app AND w.table_no = p_table AND w.field = o.name);
    RETURN (SELECT w.field FROM syncd.sync_writable_by w
            WHERE v_field IS NOT NULL AND w.app_no = p_app AND w.table_no = p_table
              AND (w.field = v_field OR starts_with(v_field, concat(w.field, '.')) OR starts_with(w.field, concat(v_field, '.')))
            ORDER BY w.field LIMIT 1);
END $$;

-- The names of those of p_registers that a record does not have so, and with p_gone of those too that it has and p_registers have not. The record is
-- joined, not looked into for each field: that would unpack all of it each time.
CREATE OR REPLACE FUNCTION syncd.sync_other_registers(p_space integer, p_app integer, p_table integer, p_record text, p_registers jsonb, p_gone boolean)
RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(
        SELECT coalesce(e.key, h.key) FROM jsonb_each(p_registers) e
        FULL JOIN (SELECT r.key, r.value FROM syncd.sync_records q CROSS JOIN LATERAL jsonb_each(q.registers) r
                   WHERE q.space_no = p_space AND q.app_no = p_app AND q.table_no = p_table AND q.record_id = p_record) h ON h.key = e.key
        WHERE e.value IS DISTINCT FROM h.value AND (p_gone OR e.key IS NOT NULL));
END $$;

-- Whether a user may append this change to the log. p_fields: as the log keeps them. Those with a `clientId` are others', which are kept beside a change
-- as the record has them: where they are not so, they are the change's own.
CREATE OR REPLACE FUNCTION syncd.sync_may_append(p_user integer, p_space integer, p_app integer, p_table integer, p_record text, p_fields json, p_lost json)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_role  text;
    v_wrote text[];
BEGIN
    v_role := (SELECT m.role FROM syncd.sync_memberships m WHERE m.user_no = p_user AND m.space_no = p_space);
    IF v_role = 'owner' THEN
        RETURN true;
    ELSIF EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = p_app AND w.table_no = p_table AND w.field = '') THEN
        RETURN false;
    END IF;
    v_wrote := ARRAY(SELECT e.key FROM json_each(p_fields) e WHERE e.value ->> 'clientId' IS NULL UNION ALL SELECT json_object_keys(p_lost));
    IF EXISTS (SELECT FROM json_each(p_fields) e WHERE e.value ->> 'clientId' IS NOT NULL) THEN
        v_wrote := v_wrote || syncd.sync_other_registers(p_space, p_app, p_table, p_record, (
            SELECT jsonb_object_agg(o.key, o.value::jsonb) FROM json_each(p_fields) o WHERE o.value ->> 'clientId' IS NOT NULL), false);
    END IF;
    RETURN syncd.sync_unwritable_field(v_role, p_app, p_table, v_wrote) IS NULL;
END $$;

-- Whether a record may be stored so: what differs from the record as it is counts as written. In a group of pushes the user is that of the row's device.
CREATE OR REPLACE FUNCTION syncd.sync_may_store(p_space integer, p_app integer, p_table integer, p_client integer, p_record text, p_registers jsonb)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_role text;
BEGIN
    IF v_user = 0 THEN
        v_user := (syncd.sync_group(5))[array_position(syncd.sync_group(6), p_client)];
    END IF;
    v_role := (SELECT m.role FROM syncd.sync_memberships m WHERE m.user_no = v_user AND m.space_no = p_space);
    IF v_role = 'owner' THEN
        RETURN true;
    ELSIF EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = p_app AND w.table_no = p_table AND w.field = '') THEN
        RETURN false;
    END IF;
    RETURN syncd.sync_unwritable_field(v_role, p_app, p_table, syncd.sync_other_registers(p_space, p_app, p_table, p_record, p_registers, true)) IS NULL;
END $$;

-- A change that is refused so: its place, the field (null: the table), and a text for people.
CREATE OR REPLACE FUNCTION syncd.sync_unwritable_said(p_place integer, p_field text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN jsonb_build_array(p_place, nullif(p_field, ''), CASE p_field WHEN '' THEN 'only an owner of the space may write to this table'
    ELSE concat(p_field, ': only an owner of the space may write this field') END);

-- Raises SY012 with those that there are.
CREATE OR REPLACE FUNCTION syncd.sync_refuse_unwritable(p_said jsonb) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_said <> '[]' THEN
        RAISE EXCEPTION 'unwritable' USING ERRCODE = 'SY012', DETAIL = p_said::text;
    END IF;
END $$;

-- Raises SY012 where of these changes, as a push or an import has them, the user may not write some that are to be written (p_marks: `a`).
-- p_apps: of each of p_spaces.
CREATE OR REPLACE FUNCTION syncd.sync_check_writable(p_user integer, p_apps integer[], p_spaces integer[], p_tables integer[], p_marks text[], p_bodies json[])
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.table_no = ANY (p_tables) AND w.app_no = ANY (p_apps)) THEN
        RETURN;
    END IF;
    PERFORM syncd.sync_refuse_unwritable((
        SELECT jsonb_agg(syncd.sync_unwritable_said(x.i, f.field) ORDER BY x.i)
        FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, t integer, g jsonb)
        CROSS JOIN LATERAL (SELECT syncd.sync_unwritable_field(
            (SELECT m.role FROM syncd.sync_memberships m WHERE m.user_no = p_user AND m.space_no = p_spaces[coalesce(x.s, x.k)]),
            p_apps[coalesce(x.s, x.k)], p_tables[x.t], ARRAY(SELECT jsonb_object_keys(x.g))) OFFSET 0) AS f (field)
        WHERE p_marks[x.i] = 'a' AND f.field IS NOT NULL));
END $$;

-- The changes at these places of a push, as refusals, where the acting user may not write this record to a space as a whole; else none.
CREATE OR REPLACE FUNCTION syncd.sync_unwritable_move(p_space integer, p_record syncd.sync_records, p_places integer[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_field text;
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = p_record.app_no AND w.table_no = p_record.table_no) THEN
        v_field := syncd.sync_unwritable_field(
            (SELECT m.role FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.space_no = p_space),
            p_record.app_no, p_record.table_no, ARRAY(SELECT jsonb_object_keys(p_record.registers)));
    END IF;
    RETURN (SELECT coalesce(jsonb_agg(syncd.sync_unwritable_said(e.place, v_field) ORDER BY e.place), '[]')
            FROM unnest(p_places) AS e (place) WHERE v_field IS NOT NULL);
END $$;

-- Raises SY012 where changes of a push go where their records went (p_away: {place: space}) and may not be written there. p_tables: the names of its tables.
CREATE OR REPLACE FUNCTION syncd.sync_check_follow(p_away jsonb, p_app integer, p_tables jsonb, p_bodies json[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = p_app) THEN
        RETURN;
    END IF;
    PERFORM syncd.sync_refuse_unwritable((
        SELECT jsonb_agg(syncd.sync_unwritable_said(x.i, f.field) ORDER BY x.i)
        FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, t integer, g jsonb)
        JOIN syncd.sync_names t ON t.name = p_tables ->> (x.t - 1)
        JOIN syncd.sync_spaces s ON s.space_id = p_away ->> x.i::text
        JOIN syncd.sync_memberships m ON m.user_no = syncd.sync_user() AND m.space_no = s.space_no AND m.role <> 'reader'
        CROSS JOIN LATERAL (SELECT syncd.sync_unwritable_field(m.role, p_app, t.name_no, ARRAY(SELECT jsonb_object_keys(x.g))) OFFSET 0) AS f (field)
        WHERE f.field IS NOT NULL));
END $$;
