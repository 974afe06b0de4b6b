-- JSON Schemas of an application's tables: what a change's record has to be.
-- Called by the server: sync_schemas_mark and sync_schemas_in_force, which are SECURITY DEFINER. sync_schema_put is an operator's.

-- Another text whenever a schema was put in force or taken out, in another history too: what a worker asks again and again.
CREATE OR REPLACE FUNCTION syncd.sync_schemas_mark() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce((SELECT concat(s.ordinal, ' ', extract(epoch FROM s.applied_at))
                     FROM syncd.sync_table_schemas s ORDER BY s.ordinal DESC LIMIT 1), '')
$$;

-- The newest version of each table's schema, where that is not that there is none.
CREATE OR REPLACE FUNCTION syncd.sync_schemas_in_force() RETURNS TABLE (app text, table_name text, version integer, body text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.app, n.table_name, n.version, n.body::text
    FROM (SELECT DISTINCT ON (s.app, s.table_name) s.app, s.table_name, s.version, s.body
          FROM syncd.sync_table_schemas s ORDER BY s.app, s.table_name, s.version DESC) n
    WHERE n.body IS NOT NULL
$$;

-- Puts a table's schema in force, null: takes it out; its version, null where it was so already. An operator's.
CREATE OR REPLACE FUNCTION syncd.sync_schema_put(p_app text, p_table text, p_body text) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_last    record;
    v_version integer;
BEGIN
    -- One after the other, so that a greater ordinal is never seen before a smaller one.
    LOCK TABLE syncd.sync_table_schemas IN SHARE ROW EXCLUSIVE MODE;
    SELECT s.version, s.body::text AS body INTO v_last FROM syncd.sync_table_schemas s
    WHERE s.app = p_app AND s.table_name = p_table ORDER BY s.version DESC LIMIT 1;
    PERFORM syncd.sync_writable_put(p_app, p_table, p_body::json);
    IF v_last.body IS NOT DISTINCT FROM p_body THEN
        RETURN NULL;
    END IF;
    INSERT INTO syncd.sync_table_schemas AS s (app, table_name, version, body)
    VALUES (p_app, p_table, coalesce(v_last.version, 0) + 1, p_body::json) RETURNING s.version INTO v_version;
    RETURN v_version;
END $$;

-- Puts in force what the schemas in force say already of who may write, as those of a database of before. One that says what cannot be is left as it
-- was, with a warning: nobody refused it when it was applied.
CREATE OR REPLACE FUNCTION syncd.sync_schemas_say() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s record;
BEGIN
    FOR s IN SELECT f.app, f.table_name, f.body FROM syncd.sync_schemas_in_force() f WHERE f.body LIKE '%x-writable-by%' ORDER BY 1, 2 LOOP
        BEGIN
            PERFORM syncd.sync_writable_put(s.app, s.table_name, s.body::json);
        EXCEPTION WHEN check_violation OR invalid_parameter_value THEN
            RAISE WARNING 'the schema of table % of app % has an x-writable-by that cannot be: apply it again', s.table_name, s.app;
        END;
    END LOOP;
END $$;
