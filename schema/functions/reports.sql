-- Reports: what a view of a table is made of, and who sees what in it. A view belongs to syncd_views, so its tables are read as that role;
-- a policy binds that role to the spaces of the login that reads, by current_user, which nothing that a login may do sets to another's.
-- Called by an operator (`syncd views`), as the owner. No other role may call one.

-- A field's value in a record `r` as an SQL expression of a type: null where the value has another type, and never an error. A date or an
-- instant is looked at by a pattern that takes no day which there is not, before it is made one.
CREATE OR REPLACE FUNCTION syncd.sync_report_value(p_field text, p_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v     text := format('(r.registers -> %L -> ''value'')', p_field);
    t     text := format('(r.registers -> %L ->> ''value'')', p_field);
    v_day text := '(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)'
        '|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)';
    v_at  text := '[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?(?:[Zz]|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])';
    v_of  text := CASE WHEN p_type IN ('bigint', 'double precision') THEN 'number' WHEN p_type = 'boolean' THEN p_type ELSE 'string' END;
    v_as  text;
BEGIN
    v_as := CASE p_type
        WHEN 'text' THEN t
        WHEN 'boolean' THEN format('%s::pg_catalog.bool', v)
        WHEN 'bigint' THEN format('CASE WHEN %1$s::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 AND %1$s::numeric %% 1 = 0 '
                                  'THEN %1$s::bigint END', v)
        WHEN 'double precision' THEN format('CASE WHEN %1$s::numeric = 0 THEN 0::double precision '
                                            'WHEN abs(%1$s::numeric) BETWEEN 1e-300 AND 1e308 THEN %1$s::double precision END', v)
        WHEN 'date' THEN format('CASE WHEN %s ~ %L THEN %1$s::date END', t, format('^(?:%s)$', v_day))
        WHEN 'timestamptz' THEN format('CASE WHEN %s ~ %L THEN %1$s::timestamptz END', t, format('^(?:%s)%s$', v_day, v_at))
    END;
    IF p_type = 'jsonb' THEN
        RETURN format('nullif(%s, ''null''::jsonb)', v);
    END IF;
    RETURN format('CASE jsonb_typeof(%s) WHEN %L THEN %s END', v, v_of, v_as);
END $$;

-- A column of a view as an SQL expression over a record `r`. p_column: as sync_report_views has it. The space's id is a subquery: joined, it would
-- be compared in the rows of all spaces, which EXPLAIN ANALYZE counts, as comparing texts tells nothing by itself.
CREATE OR REPLACE FUNCTION syncd.sync_report_column(p_column jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE p_column ->> 'is'
        WHEN 'space_id' THEN '(SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = r.space_no)'
        WHEN 'id' THEN 'r.record_id'
        -- The earliest of what stands: of a record whose fields were all written again it is its insert's.
        WHEN 'created_at' THEN '(SELECT min((e.value ->> ''at'') COLLATE "C") FROM jsonb_each(r.registers) AS e)::timestamptz'
        WHEN 'updated_at' THEN 'timestamptz ''1970-01-01 00:00:00Z'' + r.latest * interval ''1 microsecond'''
        WHEN 'updated_by' THEN '(SELECT u.name FROM syncd.sync_changes c JOIN syncd.sync_names u ON u.name_no = c.user_no '
                               'WHERE c.space_no = r.space_no AND c.app_no = r.app_no AND c.seq = r.seq)'
        WHEN 'deleted' THEN 'r.deleted'
        ELSE syncd.sync_report_value(p_column ->> 'field', p_column ->> 'type')
    END;
END $$;

-- The statement that makes a view, or puts it in the place of one whose columns it begins with. It is a barrier: what a reader asks is asked
-- of rows that the reader may see.
CREATE OR REPLACE FUNCTION syncd.sync_report_view_text(p_view text, p_app text, p_table text, p_columns jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN format('CREATE OR REPLACE VIEW syncd_app.%I WITH (security_barrier) AS SELECT %s FROM syncd.sync_records r '
                  'WHERE r.app_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = %L) '
                  'AND r.table_no = (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = %L)',
                  p_view, (SELECT string_agg(format('%s AS %I', syncd.sync_report_column(e.value), e.value ->> 'column'), ', ' ORDER BY e.ordinality)
                           FROM jsonb_array_elements(p_columns) WITH ORDINALITY AS e), p_app, p_table);
END $$;

-- Says which view a table has.
CREATE OR REPLACE FUNCTION syncd.sync_report_view_note(p_app text, p_table text, p_view text, p_version integer, p_columns jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO syncd.sync_report_views (app, table_name, view_name, version, columns) VALUES (p_app, p_table, p_view, p_version, p_columns)
    ON CONFLICT (app, table_name) DO UPDATE SET version = EXCLUDED.version, columns = EXCLUDED.columns, made_at = clock_timestamp();
END $$;

-- Has a table have a policy for syncd_views that is so: one that was altered is made again. What the database prints of a condition has
-- brackets and types that were not written.
CREATE OR REPLACE FUNCTION syncd.sync_report_policy(p_table text, p_name text, p_permissive boolean, p_condition text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_table regclass := format('syncd.%I', p_table)::regclass;
    v_as    text := '[[:space:]()]|::(name|text)\M';
    v_same  boolean;
BEGIN
    SELECT p.polpermissive = p_permissive AND p.polcmd = 'r' AND p.polroles = ARRAY[to_regrole('syncd_views')::oid]
           AND regexp_replace(pg_get_expr(p.polqual, p.polrelid), v_as, '', 'g') = regexp_replace(p_condition, v_as, '', 'g')
    INTO v_same FROM pg_policy p WHERE p.polname = p_name AND p.polrelid = v_table;
    IF v_same THEN
        RETURN;
    END IF;
    EXECUTE format('DROP POLICY IF EXISTS %I ON %s', p_name, v_table);
    EXECUTE format('CREATE POLICY %I ON %s AS %s FOR SELECT TO syncd_views USING (%s)',
                   p_name, v_table, CASE WHEN p_permissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p_condition);
END $$;

-- Has syncd_views see the rows of a table for which a condition holds.
CREATE OR REPLACE FUNCTION syncd.sync_report_sees(p_table text, p_condition text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_report_policy(p_table, 'reports_read', true, p_condition);
END $$;

-- Has syncd_views see the rows of a table that are in a space of the login that reads, and no others, whatever another policy allows. A
-- login that is a member of the role that serves sees nothing. `syncd doctor` knows this text too (syncd/postgres/checks/reports.sql).
CREATE OR REPLACE FUNCTION syncd.sync_report_bind(p_table text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_report_policy(p_table, 'reports_bound', false, $c$space_no = ANY (ARRAY(
            SELECT m.space_no FROM syncd.sync_report_roles b
            JOIN syncd.sync_names n ON n.name = b.user_id
            JOIN syncd.sync_memberships m ON m.user_no = n.name_no
            WHERE b.role = CURRENT_USER AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER')
            UNION ALL
            SELECT s.space_no FROM syncd.sync_report_roles b
            JOIN syncd.sync_spaces s ON s.space_no = ANY (b.spaces)
            WHERE b.role = CURRENT_USER AND s.deleted_at IS NULL AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER')))$c$);
    PERFORM syncd.sync_report_sees(p_table, 'true');
END $$;

-- Maps a login to a user, or to spaces by their ids. Raises no_data_found with the id of a space that there is not.
CREATE OR REPLACE FUNCTION syncd.sync_report_grant(p_role text, p_user text, p_spaces text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_lacking text;
    v_spaces  integer[];
BEGIN
    SELECT w.id INTO v_lacking FROM unnest(p_spaces) AS w (id)
    WHERE NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = w.id AND s.deleted_at IS NULL) LIMIT 1;
    IF v_lacking IS NOT NULL THEN
        RAISE EXCEPTION 'there is no space %', v_lacking USING ERRCODE = 'no_data_found';
    END IF;
    IF p_spaces IS NOT NULL THEN
        v_spaces := ARRAY(SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = ANY (p_spaces) ORDER BY 1);
    END IF;
    INSERT INTO syncd.sync_report_roles (role, user_id, spaces) VALUES (p_role, p_user, v_spaces)
    ON CONFLICT (role) DO UPDATE SET user_id = EXCLUDED.user_id, spaces = EXCLUDED.spaces, given_at = clock_timestamp();
END $$;
