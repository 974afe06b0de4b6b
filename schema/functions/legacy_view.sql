-- The old table as a view, for SQL users of the first generation's log: what its triggers do. `syncd migrate --legacy-view`
-- makes the view (schema/legacy_view.sql). Called by its triggers, as the owner.

-- A time as a row says it: text that begins with a date, milliseconds or seconds since 1970, or {at | updatedAt | timestamp};
-- p_else where that is none.
CREATE OR REPLACE FUNCTION syncd.sync_view_instant(p_said jsonb, p_else timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
DECLARE
    v_said jsonb := CASE jsonb_typeof(p_said)
        WHEN 'object' THEN coalesce(p_said -> 'at', p_said -> 'updatedAt', p_said -> 'timestamp') ELSE p_said END;
    v_at   timestamptz;
BEGIN
    IF jsonb_typeof(v_said) = 'string' AND v_said #>> '{}' ~ '^\d{4}-\d\d-\d\d' THEN  -- not 'yesterday', which PostgreSQL knows
        v_at := (v_said #>> '{}')::timestamptz;
    ELSIF jsonb_typeof(v_said) = 'number' THEN
        v_at := to_timestamp(CASE WHEN v_said::numeric >= 100000000000 THEN v_said::numeric / 1000 ELSE v_said::numeric END);
    END IF;
    RETURN CASE WHEN v_at BETWEEN 'epoch' AND timestamptz '9999-12-31' THEN v_at ELSE p_else END;
EXCEPTION WHEN data_exception THEN
    RETURN p_else;
END $$;

-- The registers of a row, each dated as an import dates it, p_at where it has a time that is none; a time that is ahead of the clock is brought down to it.
CREATE OR REPLACE FUNCTION syncd.sync_view_registers(p_op integer, p_data jsonb, p_meta jsonb, p_at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_now     timestamptz := clock_timestamp();
    v_written timestamptz := CASE WHEN p_op = 1 THEN syncd.sync_view_instant(p_data -> 'updatedAt',
                                                     syncd.sync_view_instant(p_data -> 'createdAt', p_at)) ELSE p_at END;
    v_deleted timestamptz := syncd.sync_view_instant(coalesce(p_meta -> 'deletedAt', p_data -> 'deletedAt'), p_at);
    v_made    timestamptz;
    v_fields  jsonb;
BEGIN
    SELECT coalesce(jsonb_object_agg(t.key, jsonb_build_object('value', t.value, 'at', syncd.sync_instant(least(t.at, v_now)))
                        || CASE WHEN t.at > v_now THEN jsonb_build_object('sent', syncd.sync_instant(t.at)) ELSE '{}' END), '{}'),
           least(coalesce(max(t.at), v_written), v_now)
    INTO v_fields, v_made
    FROM (SELECT e.key, CASE WHEN e.key = 'deletedAt' AND e.value IN ('""', 'false', '0') THEN 'null' ELSE e.value END AS value,  -- it lives
                 syncd.sync_view_instant(p_meta -> e.key, CASE WHEN p_meta ? e.key THEN p_at ELSE v_written END) AS at FROM jsonb_each(p_data) e
          WHERE p_op <> 3 OR p_meta ? e.key AND e.key <> 'deletedAt') t;
    IF p_op = 3 THEN
        v_deleted := least(v_deleted, v_now);
        RETURN v_fields || jsonb_build_object('deletedAt', jsonb_build_object('value', syncd.sync_instant(v_deleted), 'at', syncd.sync_instant(v_deleted)));
    ELSIF p_op = 1 AND NOT v_fields ? 'deletedAt' THEN
        RETURN v_fields || jsonb_build_object('deletedAt', jsonb_build_object('value', NULL, 'at', syncd.sync_instant(v_made)));
    END IF;
    RETURN v_fields;
END $$;

-- Raises what a push would be refused for: names that cannot be, and numbers that no reader holds.
CREATE OR REPLACE FUNCTION syncd.sync_view_check(p_names text[], p_data jsonb) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(p_names) AS n (name) WHERE n.name IS NULL OR length(n.name) NOT BETWEEN 1 AND 255
               OR n.name IN ('.', '..') OR n.name ~ U&'[\0001-\001F\007F-\009F]') THEN
        RAISE EXCEPTION 'a name is missing, empty, longer than 255 characters, has control characters, or is . or ..'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM n::text::double precision FROM jsonb_path_query(p_data, 'strict $.** ? (@.type() == "number")') n;
END $$;

-- When a change of the user's under this id was written, null where there is none: a row that comes again and says no time is
-- that one. Leaves the acting user as it was.
CREATE OR REPLACE FUNCTION syncd.sync_view_written(p_user text, p_client text, p_id uuid) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_acting text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_at     timestamptz;
BEGIN
    PERFORM set_config(syncd.sync_acting_in(), ',owner', true);
    PERFORM syncd.sync_act_as(p_user);
    SELECT max((e.value ->> 'at')::timestamptz) INTO v_at
    FROM syncd.sync_names d CROSS JOIN LATERAL syncd.sync_receipts(d.name_no, ARRAY[p_id::text]) k CROSS JOIN LATERAL jsonb_each(k.fields) e
    WHERE d.name = p_client;
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
    RETURN v_at;
END $$;

-- An INSERT is a push of its user. The row says what became of it: its id, its space, its time.
CREATE OR REPLACE FUNCTION syncd.sync_view_insert() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   text := nullif(current_setting('app.current_user_id', true), '');
    v_acting text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    v_op     integer := array_position(ARRAY['insert', 'update', 'delete'], NEW.op);
    v_head   jsonb;
    v_fields jsonb;
    v_said   jsonb;
    v_marks  text;
    v_hi     bigint;
    v_lo     bigint;
BEGIN
    IF v_user IS NULL OR NEW.user_id <> v_user THEN
        RAISE EXCEPTION 'new row violates row-level security: it is not of the user in app.current_user_id' USING ERRCODE = 'insufficient_privilege';
    ELSIF v_op IS NULL OR jsonb_typeof(NEW.data) NOT IN ('object', 'null') OR jsonb_typeof(NEW.field_meta) NOT IN ('object', 'null') THEN
        RAISE EXCEPTION 'op is insert, update or delete; data and field_meta are objects' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    NEW.data := coalesce(nullif(NEW.data, 'null'), '{}');
    NEW.field_meta := coalesce(nullif(NEW.field_meta, 'null'), '{}');
    NEW.user_id := v_user;
    NEW.client_id := coalesce(nullif(NEW.client_id, ''), left(concat('legacy:', v_user), 255));
    IF starts_with(v_user, '_erased:') OR starts_with(NEW.client_id, '_server:') THEN
        RAISE EXCEPTION 'a client id does not begin with _server:, nor a user''s with _erased:' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    NEW.space_id := coalesce(nullif(NEW.space_id, ''), CASE jsonb_typeof(NEW.data -> 'spaceId') WHEN 'string' THEN nullif(NEW.data ->> 'spaceId', '') END,
                             concat('_personal:', v_user));
    IF NEW.created_at IS NULL AND NEW.id IS NOT NULL THEN
        NEW.created_at := syncd.sync_view_written(v_user, NEW.client_id, NEW.id);
    END IF;
    NEW.created_at := coalesce(NEW.created_at, clock_timestamp());
    PERFORM syncd.sync_view_check(ARRAY[NEW.app_id, NEW.table_name, NEW.record_id, NEW.client_id, v_user]
        || CASE WHEN NEW.space_id = concat('_personal:', v_user) THEN '{}' ELSE ARRAY[NEW.space_id] END
        || ARRAY(SELECT jsonb_object_keys(NEW.data)), NEW.data);
    v_fields := syncd.sync_view_registers(v_op, NEW.data, NEW.field_meta, NEW.created_at);
    IF v_fields = '{}' THEN
        RETURN NEW;
    END IF;
    SELECT min(syncd.sync_micros((e.value ->> 'at')::timestamptz)), max(syncd.sync_micros((e.value ->> 'at')::timestamptz))
    INTO v_lo, v_hi FROM jsonb_each(v_fields) e;
    v_head := jsonb_build_object('user', v_user, 'client', NEW.client_id, 'app', NEW.app_id, 'n', 1, 'spaces', ARRAY[NEW.space_id],
        'tables', ARRAY[NEW.table_name], 'ids', ARRAY[NEW.id::text], 'hi', v_hi, 'skew', 60000000, 'largest', 16777216, 'touched', 33554432, 'moves', false)
        || CASE WHEN NEW.space_id = concat('_personal:', v_user) THEN '{"personal": true}'::jsonb ELSE '{}' END;
    v_said := jsonb_build_object('i', 1, 's', 1, 't', 1, 'r', NEW.record_id, 'o', v_op, 'c', NEW.id, 'e', coalesce(NEW.id, gen_random_uuid()),
        'f', v_fields, 'g', (SELECT jsonb_object_agg(e.key, e.value || jsonb_build_object('clientId', NEW.client_id)) FROM jsonb_each(v_fields) e),
        'lo', v_lo, 'hi', v_hi, 'v', NEW.schema_version, 'a', syncd.sync_actor_said(NEW.actor::jsonb)::text, 'n', NEW.origin);
    NEW.id := (v_said ->> 'e')::uuid;
    PERFORM set_config(syncd.sync_acting_in(), ',owner', true);
    v_marks := syncd.sync_view_push(v_head, v_said);
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
    IF v_marks IN ('n', 'r') THEN
        RAISE EXCEPTION 'the user in app.current_user_id may not write in the space %', NEW.space_id USING ERRCODE = 'insufficient_privilege';
    ELSIF v_marks = 'u' THEN
        RAISE EXCEPTION 'another change has this id' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END $$;

-- Pushes one change, to where its record is; the receipt's mark.
CREATE OR REPLACE FUNCTION syncd.sync_view_push(p_head jsonb, p_change jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_head  jsonb := p_head;
    v_said  text;
    v_marks text;
BEGIN
    LOOP
        BEGIN
            SELECT r.marks INTO v_marks FROM syncd.sync_push_moving(jsonb_build_array(v_head), ARRAY[1], ARRAY[json_build_array(p_change)]) r;
            RETURN v_marks;
        EXCEPTION
            WHEN SQLSTATE 'SY007' THEN
                GET STACKED DIAGNOSTICS v_said = PG_EXCEPTION_DETAIL;
                IF v_said::jsonb -> 'away' ? '1' THEN
                    v_head := (v_head - 'personal') || jsonb_build_object('spaces', ARRAY[v_said::jsonb -> 'away' ->> '1']);
                ELSE
                    v_head := v_head || '{"moves": true}';
                END IF;
            WHEN SQLSTATE 'SY001' THEN
                RAISE EXCEPTION 'the record would be larger than 16 MiB' USING ERRCODE = 'program_limit_exceeded';
            WHEN SQLSTATE 'SY008' THEN
                RAISE EXCEPTION 'the record would be larger than 32 MiB as text' USING ERRCODE = 'program_limit_exceeded';
            WHEN SQLSTATE 'SY012' THEN
                GET STACKED DIAGNOSTICS v_said = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION '%', v_said::jsonb #>> '{0,2}' USING ERRCODE = 'insufficient_privilege';
            WHEN SQLSTATE 'SY004' THEN
                RAISE EXCEPTION 'the record was deleted, so long ago that this is forgotten' USING ERRCODE = 'object_not_in_prerequisite_state';
        END;
    END LOOP;
END $$;

-- The log is not changed.
CREATE OR REPLACE FUNCTION syncd.sync_view_refuse() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'sync_changes is the log, where nothing is changed or deleted: insert a change'
        USING ERRCODE = 'feature_not_supported';
END $$;
