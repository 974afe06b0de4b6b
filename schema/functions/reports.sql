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

-- A column of a view as an SQL expression over a record `r` in a space `s`. p_column: as sync_report_views has it.
CREATE OR REPLACE FUNCTION syncd.sync_report_column(p_column jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE p_column ->> 'is'
        WHEN 'space_id' THEN 's.space_id'
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
                  'JOIN syncd.sync_spaces s ON s.space_no = r.space_no '
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

-- Has syncd_views see the rows of a table for which a condition holds.
CREATE OR REPLACE FUNCTION syncd.sync_report_sees(p_table text, p_condition text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polname = 'reports_read' AND p.polrelid = format('syncd.%I', p_table)::regclass) THEN
        EXECUTE format('CREATE POLICY reports_read ON syncd.%I FOR SELECT TO syncd_views USING (%s)', p_table, p_condition);
    END IF;
END $$;

-- Has syncd_views see the rows of a table that are in a space of the login that reads, and no others, whatever another policy allows. A
-- login that is a member of the role that serves sees nothing.
CREATE OR REPLACE FUNCTION syncd.sync_report_bind(p_table text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy p WHERE p.polname = 'reports_bound' AND p.polrelid = format('syncd.%I', p_table)::regclass) THEN
        EXECUTE format($f$CREATE POLICY reports_bound ON syncd.%I AS RESTRICTIVE FOR SELECT TO syncd_views USING (space_no = ANY (ARRAY(
            SELECT m.space_no FROM syncd.sync_report_roles b
            JOIN syncd.sync_names n ON n.name = b.user_id
            JOIN syncd.sync_memberships m ON m.user_no = n.name_no
            WHERE b.role = CURRENT_USER AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER')
            UNION ALL
            SELECT s.space_no FROM syncd.sync_report_roles b
            JOIN syncd.sync_spaces s ON s.space_no = ANY (b.spaces)
            WHERE b.role = CURRENT_USER AND s.deleted_at IS NULL AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER'))))$f$, p_table);
    END IF;
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
