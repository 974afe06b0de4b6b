-- Export and import: the log as lines of JSON text, feed by feed, and back. Reading goes through the same row security as
-- a pull; writing appends to the log by the same merge as a push, with the times, devices and seqs that the lines name.
-- An export of a folded log says so, and the import of an operator's does: history there is no more complete than it was
-- here, and devices that were behind the horizon, or what was forgotten, are still behind it.
-- Called by the role that serves, as the acting user; by an operator, whom row security does not bind, for everybody's.
-- sync_space_remake, sync_import_spaces, sync_import_folded and sync_import_settle are an operator's alone.

-- What a change adds to a line, in bytes: compressed values as they will be, all else about as long as it is stored.
CREATE OR REPLACE FUNCTION syncd.sync_line_size(p_fields json, p_lost json, p_actor json) RETURNS bigint LANGUAGE sql STABLE
RETURN CASE WHEN p_fields IS NULL THEN 0 WHEN pg_column_compression(p_fields) IS NULL THEN pg_column_size(p_fields) ELSE octet_length(p_fields::text) END
     + CASE WHEN p_lost IS NULL THEN 0 WHEN pg_column_compression(p_lost) IS NULL THEN pg_column_size(p_lost) ELSE octet_length(p_lost::text) END
     + CASE WHEN p_actor IS NULL THEN 0 WHEN pg_column_compression(p_actor) IS NULL THEN pg_column_size(p_actor) ELSE octet_length(p_actor::text) END;

-- The lines of one feed after p_after: `body` has them separated by U+001E, which JSON text cannot contain; `events`
-- counts them; `upto` is the seq to go on from, at most p_upto. p_user: only that user's own changes, null for all.
-- At most p_limit rows are looked at, and some p_bytes of lines are made. `folded` on a line: changes of its record before
-- it, and after the one that an import will find, are missing; `husk`: the stamps of a deleted record, whose values are gone.
CREATE OR REPLACE FUNCTION syncd.sync_export_page(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_user integer,
                                       p_limit integer, p_bytes bigint, OUT upto bigint, OUT events integer, OUT body bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_size bigint;
    v_text text;
    v_head text := concat('{"appId":', (SELECT a.quoted FROM syncd.sync_names a WHERE a.name_no = p_app), ',"userId":');
    v_in   text;
    -- Below it links may be missing. One author's changes have none to the others' anyway.
    v_hold bigint := coalesce(CASE WHEN p_user IS NULL THEN (SELECT h.horizon FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app) END, -1);
BEGIN
    SELECT max(c.seq), sum(syncd.sync_line_size(c.fields, c.lost, c.actor)) FILTER (WHERE p_user IS NULL OR c.user_no = p_user) INTO upto, v_size
    FROM (SELECT * FROM syncd.sync_changes q
          WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq > p_after AND q.seq <= p_upto
          ORDER BY q.seq LIMIT p_limit) c;
    IF v_size > p_bytes THEN  -- rarely: a running sum takes four times as long
        SELECT min(s.seq) FILTER (WHERE s.total >= p_bytes) INTO upto FROM (
            SELECT c.seq, sum(syncd.sync_line_size(c.fields, c.lost, c.actor)) FILTER (WHERE p_user IS NULL OR c.user_no = p_user) OVER (ORDER BY c.seq) AS total
            FROM (SELECT * FROM syncd.sync_changes q
                  WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq > p_after AND q.seq <= p_upto
                  ORDER BY q.seq LIMIT p_limit) c) s;
    END IF;
    upto := coalesce(upto, p_upto);
    v_in := concat(',"spaceId":', (SELECT s.quoted FROM syncd.sync_spaces s WHERE s.space_no = p_space), ',"clientId":');
    SELECT count(*), string_agg(concat(
        v_head, w.quoted, ',"createdAt":"', to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        '","eventId":"', c.event_id, '","seq":', c.seq,
        CASE WHEN c.push_end <> c.seq THEN concat(',"pushEnd":', c.push_end) END,
        ',"table":', t.quoted, ',"id":', to_json(c.record_id), CASE c.op WHEN 1 THEN ',"op":"insert"' WHEN 2 THEN ',"op":"update"' ELSE
            concat(',"op":"delete","deletedAt":"', coalesce(c.fields -> 'deletedAt', c.lost -> 'deletedAt') ->> 'at', '"') END,
        v_in, d.quoted,
        CASE WHEN c.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(c.change_id))
             WHEN starts_with(c.change_id, U&'\0001') THEN concat(',"contentId":"', substr(c.change_id, 2), '"') END,
        CASE WHEN c.schema_version IS NOT NULL THEN concat(',"schemaVersion":', c.schema_version) END,
        CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
        CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END,
        ',"fields":', c.fields, CASE WHEN c.fields IS NULL THEN '{}' END,
        CASE WHEN c.lost IS NOT NULL THEN concat(',"superseded":', c.lost) END,
        CASE WHEN c.prev_seq IS NULL THEN NULL WHEN c.prev_seq < 0 OR abs(c.prev_seq) <= v_hold AND NOT EXISTS (SELECT FROM syncd.sync_changes o
                 WHERE o.space_no = p_space AND o.app_no = p_app AND o.seq = c.prev_seq OFFSET 0)
             THEN ',"folded":true' END,
        CASE WHEN c.seq <= v_hold THEN (
            SELECT concat(',"husk":', jsonb_object_agg(g.key, g.value)) FROM syncd.sync_records r CROSS JOIN LATERAL jsonb_each(r.registers) g
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.table_no = c.table_no AND r.record_id = c.record_id AND r.seq = c.seq
              AND r.deleted AND g.value -> 'value' = 'null' AND NOT coalesce(c.fields::jsonb, '{}') ? g.key
            HAVING count(*) > 0) END, '}'), U&'\001E' ORDER BY c.seq)
    INTO events, v_text
    FROM syncd.sync_changes c
    JOIN syncd.sync_names w ON w.name_no = c.user_no
    JOIN syncd.sync_names t ON t.name_no = c.table_no
    JOIN syncd.sync_names d ON d.name_no = c.client_no
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= sync_export_page.upto
      AND (p_user IS NULL OR c.user_no = p_user);
    body := convert_to(v_text, 'UTF8');
END $$;

-- A space and its members (JSON texts) as JSON text. p_whole: as an operator keeps it, with the number that cursors name.
CREATE OR REPLACE FUNCTION syncd.sync_export_space(p_space syncd.sync_spaces, p_members text, p_whole boolean) RETURNS text
LANGUAGE sql STABLE
RETURN concat('{"id":', p_space.quoted, ',"name":', to_json(p_space.name), ',"createdAt":',
              to_json(to_char(p_space.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
              CASE WHEN p_whole AND p_space.deleted_at IS NOT NULL THEN concat(',"deletedAt":',
                  to_json(to_char(p_space.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))) END,
              CASE WHEN p_whole AND p_space.former_id IS NOT NULL THEN concat(',"formerId":', to_json(p_space.former_id)) END,
              CASE WHEN p_whole THEN concat(',"number":', p_space.space_no) END,
              ',"members":[', p_members, ']}');

CREATE OR REPLACE FUNCTION syncd.sync_export_member(p_user text, p_role text, p_joined timestamptz, p_source text) RETURNS text
LANGUAGE sql STABLE
RETURN concat('{"userId":', to_json(p_user), ',"role":"', p_role, '","joinedAt":',
              to_json(to_char(p_joined AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')),
              CASE WHEN p_source <> 'table' THEN concat(',"source":"', p_source, '"') END, '}');

-- What an operator's export says of a space beside that, as further members of its JSON text: who is invited, and of a deleted one who
-- may make it again.
CREATE OR REPLACE FUNCTION syncd.sync_export_sharing(p_space integer, p_owners bigint[]) RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    (SELECT concat(',"invitations":[', string_agg(concat('{"userId":', n.quoted, ',"role":"', i.role, '","invitedBy":', b.quoted,
                                                         ',"invitedAt":"', syncd.sync_instant(i.invited_at), '"}'), ',' ORDER BY n.name), ']')
     FROM syncd.sync_invitations i JOIN syncd.sync_names n ON n.name_no = i.user_no JOIN syncd.sync_names b ON b.name_no = i.invited_by
     WHERE i.space_no = p_space HAVING count(*) > 0),
    (SELECT concat(',"owners":[', string_agg(n.quoted, ',' ORDER BY n.name), ']')
     FROM syncd.sync_names n WHERE n.name_no = ANY (p_owners) HAVING count(*) > 0));

-- Puts that back, of a space that an import has just made.
CREATE OR REPLACE FUNCTION syncd.sync_import_sharing(p_no integer, p_space jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_names_put(ARRAY(
        SELECT unnest(ARRAY[i."userId", i."invitedBy"]) FROM jsonb_to_recordset(p_space -> 'invitations') AS i ("userId" text, "invitedBy" text)
        UNION SELECT o FROM jsonb_array_elements_text(p_space -> 'owners') o), NULL);
    UPDATE syncd.sync_spaces s SET owners = ARRAY(
        SELECT syncd.sync_name(o) FROM jsonb_array_elements_text(p_space -> 'owners') o) WHERE s.space_no = p_no AND p_space ? 'owners';
    INSERT INTO syncd.sync_invitations (user_no, space_no, role, invited_by, invited_at)
    SELECT syncd.sync_name(i."userId"), p_no, i.role, syncd.sync_name(i."invitedBy"), least(i."invitedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_space -> 'invitations') AS i ("userId" text, role text, "invitedBy" text, "invitedAt" timestamptz)
    ORDER BY i."userId";
END $$;

-- Whom users block, for an operator's export of everything: JSON text, null where nobody does.
CREATE OR REPLACE FUNCTION syncd.sync_export_blocks() RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT json_agg(json_build_object('userId', n.name, 'blocked', b.blocked, 'blockedAt', syncd.sync_instant(b.blocked_at))
                        ORDER BY n.name, b.blocked)::text
        FROM syncd.sync_blocks b JOIN syncd.sync_names n ON n.name_no = b.user_no);

-- Puts them back, beside those that there are.
CREATE OR REPLACE FUNCTION syncd.sync_import_blocks(p_blocks jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_names_put(ARRAY(SELECT b."userId" FROM jsonb_to_recordset(p_blocks) AS b ("userId" text)), NULL);
    INSERT INTO syncd.sync_blocks (user_no, blocked, blocked_at)
    SELECT syncd.sync_name(b."userId"), b.blocked, least(b."blockedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_blocks) AS b ("userId" text, blocked text, "blockedAt" timestamptz) ORDER BY b."userId", b.blocked
    ON CONFLICT (user_no, blocked) DO NOTHING;
END $$;

-- The feeds of an export that were folded, of one space (null: of all): JSON text, null where there are none.
CREATE OR REPLACE FUNCTION syncd.sync_export_folded(p_space text) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT json_agg(json_build_object('spaceId', s.space_id, 'appId', a.name, 'head', h.head, 'horizon', h.horizon,
                                          'forgotten', h.forgotten, 'forgottenUs', h.forgotten_us) ORDER BY s.space_id, a.name)::text
        FROM syncd.sync_feeds h
        JOIN syncd.sync_spaces s ON s.space_no = h.space_no
        JOIN syncd.sync_names a ON a.name_no = h.app_no
        WHERE h.horizon > 0 AND (p_space IS NULL OR s.space_id = p_space));

-- Puts back a space that is not there, with its members: [{"userId", "role", "joinedAt", "source"?}]. Returns its
-- number, or null where the id is taken. p_number: the number to give it, null for the next one.
CREATE OR REPLACE FUNCTION syncd.sync_space_remake(p_space jsonb, p_number integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_no    integer;
    v_users text[];
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id') THEN
        RETURN NULL;
    END IF;
    INSERT INTO syncd.sync_spaces (space_no, space_id, quoted, name, created_at, deleted_at, former_id) OVERRIDING SYSTEM VALUE
    VALUES (coalesce(p_number, (syncd.sync_numbers_take('space', 1))[1]), p_space ->> 'id', (to_json(p_space ->> 'id'))::text, p_space ->> 'name',
            least((p_space ->> 'createdAt')::timestamptz, clock_timestamp()), (p_space ->> 'deletedAt')::timestamptz, p_space ->> 'formerId')
    ON CONFLICT (space_id) DO NOTHING RETURNING space_no INTO v_no;
    IF v_no IS NULL THEN
        RETURN NULL;
    END IF;
    v_users := ARRAY(SELECT m."userId" FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text));
    IF syncd.sync_user() IS NULL THEN
        PERFORM syncd.sync_names_put(v_users, NULL);
    ELSE
        PERFORM syncd.sync_names_add(v_users);
    END IF;
    INSERT INTO syncd.sync_memberships (user_no, space_no, role, source, joined_at)
    SELECT syncd.sync_name(m."userId"), v_no, m.role, coalesce(m.source, 'table'), least(m."joinedAt", clock_timestamp())
    FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text, role text, source text, "joinedAt" timestamptz)
    ORDER BY m."userId";
    RETURN v_no;
END $$;

-- The same for the acting user, who must be an owner in it: what they could do by making the space and inviting its
-- members one by one, with the times that it had. Returns 'created', 'there' for one that the user is in, or 'taken'.
CREATE OR REPLACE FUNCTION syncd.sync_space_restore(p_space jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user text := (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = syncd.sync_user());
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
               WHERE s.space_id = p_space ->> 'id' AND m.user_no = syncd.sync_user()) THEN
        RETURN 'there';
    END IF;
    IF v_user IS NULL OR starts_with(p_space ->> 'id', '_personal:') OR NOT EXISTS (
            SELECT FROM jsonb_to_recordset(p_space -> 'members') AS m ("userId" text, role text)
            WHERE m."userId" = v_user AND m.role = 'owner') THEN
        RETURN 'taken';
    END IF;
    RETURN CASE WHEN syncd.sync_space_remake(jsonb_build_object(
        'id', p_space -> 'id', 'name', p_space -> 'name', 'createdAt', p_space -> 'createdAt',
        'members', (SELECT jsonb_agg(e - 'source') FROM jsonb_array_elements(p_space -> 'members') e)), NULL) IS NULL
        THEN 'taken' ELSE 'created' END;
END $$;

-- The same within the bounds that hold for whoever makes a space and adds its members one by one (functions/allowances.sql),
-- and with those invited who have to be asked. Members who take no more are left out.
CREATE OR REPLACE FUNCTION syncd.sync_space_put_back(p_space jsonb, p_ask boolean, p_bounds jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   bigint := syncd.sync_user();
    v_name   text := (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = v_user);
    v_own    jsonb;
    v_others jsonb;
    v_space  bigint;
    m        record;
BEGIN
    PERFORM syncd.sync_count_alone(v_user);
    SELECT jsonb_agg(e) FILTER (WHERE e ->> 'userId' = v_name), coalesce(jsonb_agg(e) FILTER (WHERE e ->> 'userId' <> v_name), '[]')
    INTO v_own, v_others FROM jsonb_array_elements(p_space -> 'members') e;
    -- What is there, or is not the acting user's, is not made, and so costs nothing.
    IF v_own -> 0 ->> 'role' IS DISTINCT FROM 'owner' OR EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id') THEN
        RETURN syncd.sync_space_restore(p_space);
    END IF;
    PERFORM syncd.sync_check_room(v_user, 'owner', p_bounds);
    PERFORM syncd.sync_must_spend(v_user, 'made', p_bounds, 1);
    PERFORM syncd.sync_must_spend(v_user, 'members', p_bounds, jsonb_array_length(v_others));
    IF syncd.sync_space_restore(p_space || jsonb_build_object('members', v_own)) <> 'created' THEN
        RETURN 'taken';
    END IF;
    SELECT s.space_no INTO STRICT v_space FROM syncd.sync_spaces s WHERE s.space_id = p_space ->> 'id';
    FOR m IN SELECT * FROM jsonb_to_recordset(v_others) AS x ("userId" text, role text, "joinedAt" timestamptz) ORDER BY x."userId" LOOP
        PERFORM syncd.sync_join(v_space, m."userId", m.role, p_ask, p_bounds, least(m."joinedAt", clock_timestamp()));
    END LOOP;
    RETURN 'created';
END $$;

-- Merges and appends the changes of one wave of an import: no record twice. As sync_apply does, but each change has a
-- feed, an author, a device and a time of its own. Returns those whose record became too large. A folded change of a
-- record that is not there gets 0 for the change before it.
CREATE OR REPLACE FUNCTION syncd.sync_import_wave(p_names integer[], p_spaces integer[], p_apps integer[], p_ends bigint[], p_seqs bigint[],
                                       p_ats timestamptz[], p_largest integer, p_body json) RETURNS SETOF integer
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT x.*, p_spaces[x.k] AS space_no, p_apps[x.k] AS app_no, p_names[x.t] AS table_no, p_seqs[x.i] AS seq
        FROM json_to_recordset(p_body) AS x (i integer, k integer, w integer, u integer, t integer, r text, o smallint, c text,
                                             e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text, p boolean)
        WHERE p_seqs[x.i] > 0
    ), met AS MATERIALIZED (
        SELECT x.*, h.registers AS held, h.seq AS prev_seq, h.latest, h.deleted AS was_deleted,
               h.latest IS NULL OR x.lo > h.latest AS newer
        FROM incoming x
        LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r
        ) h ON true
    ), merged AS MATERIALIZED (
        SELECT y.*, greatest(y.latest, y.hi) AS newest,
               CASE WHEN y.held IS NULL THEN y.g WHEN y.newer THEN y.held || y.g ELSE z.merged END AS registers,
               CASE WHEN y.newer THEN y.f ELSE z.won::json END AS fields, z.lost
        FROM met y
        LEFT JOIN LATERAL (SELECT m.won, m.lost, m.merged FROM (SELECT WHERE NOT y.newer OFFSET 0) late
                           CROSS JOIN LATERAL syncd.sync_merge(y.held, y.g) m OFFSET 0) z ON true
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT m.seq, p_ends[m.i], CASE WHEN m.p THEN coalesce(-m.prev_seq, 0) ELSE m.prev_seq END, p_ats[m.i], m.e, m.space_no, m.app_no, m.table_no, p_names[m.w],
               p_names[m.u], m.v, m.o, m.r, m.c, m.n, m.a::json,
               CASE WHEN m.was_deleted THEN syncd.sync_whole(m.registers, m.fields) ELSE m.fields END, m.lost::json
        FROM merged m
    ), stored AS (
        INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version,
                                             deleted, record_id, registers)
        SELECT m.seq, m.newest, m.e, m.space_no, m.app_no, m.table_no, p_names[m.u], m.v,
               m.registers ? 'deletedAt' AND m.registers -> 'deletedAt' -> 'value' <> 'null', m.r, m.registers
        FROM merged m
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT m.i FROM merged m WHERE pg_column_size(m.registers) > p_largest;
END $$;

-- The numbers of an import's names. An operator's makes all of them; any other those of changes that may be written (p_whys: of each
-- feed a letter, as in a receipt) and were not, nor have the change id of something else.
CREATE OR REPLACE FUNCTION syncd.sync_import_names(p_head jsonb, p_feeds integer[], p_ids text[], p_devices integer[], p_waves json[], p_whys text[])
RETURNS integer[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_said   text[] := ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'names') e);
    v_known  integer[] := syncd.sync_names_known(v_said);
    v_places integer[];
    v_names  text[];
BEGIN
    IF array_position(v_known, NULL) IS NULL OR 'a' <> ALL (p_whys) THEN
        RETURN v_known;
    ELSIF NOT p_head ? 'user' THEN
        PERFORM syncd.sync_names_put(v_said, NULL);
        RETURN syncd.sync_names_known(v_said);
    END IF;
    SELECT array_agg(x.i ORDER BY x.i, n.o), array_agg(n.name ORDER BY x.i, n.o) INTO v_places, v_names
    FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, k integer, u integer, t integer)
    CROSS JOIN LATERAL (VALUES (1, v_said[x.u]), (2, v_said[(p_head -> 'feeds' -> (x.k - 1) ->> 'a')::integer]), (3, v_said[x.t])) AS n (o, name)
    WHERE p_whys[x.k] = 'a' AND NOT EXISTS (SELECT FROM syncd.sync_receipts(v_known[p_devices[x.i]], ARRAY[p_ids[x.i]]));
    IF v_places IS NOT NULL THEN
        PERFORM syncd.sync_names_needed(v_places, v_names);
    END IF;
    RETURN syncd.sync_names_known(v_said);
END $$;

-- Which changes of an import have the change id of one that their author's device wrote, wherever, and whether it is the same. It acts as
-- the authors meanwhile, which those that it is called by may not; it tells nothing to whom nobody acts for.
CREATE OR REPLACE FUNCTION syncd.sync_import_same(p_names integer[], p_spaces integer[], p_apps integer[], p_feeds integer[], p_events uuid[],
                                       p_ids text[], p_authors integer[], p_devices integer[], p_marks text[], p_waves json[])
RETURNS TABLE (i integer, same boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_acting text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
    f        record;
BEGIN
    IF syncd.sync_user() IS NULL AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'nobody acts' USING ERRCODE = 'insufficient_privilege';
    END IF;
    FOR f IN SELECT p.author, p.device, array_agg(p.id) AS ids
             FROM unnest(p_authors, p_devices, p_ids, p_marks) AS p (author, device, id, mark)
             WHERE p.mark = 'a' AND p.id IS NOT NULL GROUP BY p.author, p.device LOOP
        PERFORM set_config(syncd.sync_acting_in(), coalesce(p_names[f.author]::text, ''), true);
        RETURN QUERY
        SELECT p.i::integer, c.event_id = p.event OR syncd.sync_content(c.fields, c.op) = syncd.sync_content(x.f, x.o) AND c.space_no = p_spaces[p.feed]
               AND c.app_no = p_apps[p.feed] AND c.record_id = x.r AND c.op = x.o AND c.table_no = p_names[x.t]
        FROM syncd.sync_receipts(p_names[f.device], f.ids) c
        JOIN unnest(p_feeds, p_events, p_authors, p_devices, p_ids, p_marks) WITH ORDINALITY AS p (feed, event, author, device, id, mark, i)
          ON p.id = c.change_id AND p.author = f.author AND p.device = f.device AND p.mark = 'a'
        JOIN (SELECT y.* FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body)
              AS y (i integer, t integer, r text, o integer, f jsonb)) x ON x.i = p.i;
    END LOOP;
    PERFORM set_config(syncd.sync_acting_in(), v_acting, true);
END $$;

-- The numbers of an import's spaces (0: not there), and of each a letter as in a receipt. p_user: null for an operator, who may write
-- everywhere; of anybody else the memberships are held, as in a push.
CREATE OR REPLACE FUNCTION syncd.sync_import_may(p_user integer, p_spaces text[], OUT spaces integer[], OUT whys text[])
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_user IS NULL THEN
        SELECT array_agg(coalesce(s.space_no, 0) ORDER BY e.k), array_agg(CASE WHEN s.space_no IS NULL THEN 'n' ELSE 'a' END ORDER BY e.k)
        INTO spaces, whys FROM unnest(p_spaces) WITH ORDINALITY AS e (id, k) LEFT JOIN syncd.sync_spaces s ON s.space_id = e.id;
    ELSE
        SELECT m.spaces, m.whys INTO spaces, whys FROM syncd.sync_push_may(p_user, p_spaces) m;
    END IF;
END $$;

-- Locks the feeds of an import: the numbers of their apps, and their heads. p_user: as in sync_import_may.
CREATE OR REPLACE FUNCTION syncd.sync_import_lock(p_user integer, p_head jsonb, p_names integer[], p_spaces integer[],
                                       OUT apps integer[], OUT heads bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_app  integer;
    v_head bigint;
BEGIN
    apps := '{}';
    heads := '{}';
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        v_app := p_names[(p_head -> 'feeds' -> (k - 1) ->> 'a')::integer];
        v_head := 0;
        IF p_spaces[k] > 0 AND p_user IS NULL THEN
            SELECT a.base INTO v_head FROM syncd.sync_take(p_spaces[k], v_app, 0) a;
        ELSIF p_spaces[k] > 0 AND v_app IS NOT NULL THEN
            SELECT a.base INTO v_head FROM syncd.sync_advance(p_spaces[k], v_app, 0) a;
        END IF;
        apps := apps || v_app;
        heads := heads || v_head;
    END LOOP;
END $$;

-- By change of an import, whether it is to be appended, there already or refused: a letter as sync_import has it. A change is there at its
-- place in the feed that it came from, or anywhere under its device's id for it.
CREATE OR REPLACE FUNCTION syncd.sync_import_marks(p_names integer[], p_spaces integer[], p_whys text[], p_apps integer[], p_heads bigint[],
                                        p_feeds integer[], p_seqs bigint[], p_events uuid[], p_ids text[], p_authors integer[],
                                        p_devices integer[], p_waves json[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_marks text[] := ARRAY(SELECT p_whys[p.feed] FROM unnest(p_feeds) WITH ORDINALITY AS p (feed, i) ORDER BY p.i);
    d       record;
BEGIN
    FOR d IN SELECT p.i FROM unnest(p_feeds, p_seqs, p_events) WITH ORDINALITY AS p (feed, seq, event, i)
             CROSS JOIN LATERAL (SELECT c.event_id, c.user_no FROM syncd.sync_changes c
                 WHERE c.space_no = p_spaces[p.feed] AND c.app_no = p_apps[p.feed] AND c.seq = p.seq OFFSET 0) c
             WHERE p.seq <= p_heads[p.feed] AND c.event_id = p.event AND c.user_no = p_names[p_authors[p.i]] LOOP
        v_marks[d.i] := 'd';
    END LOOP;
    FOR d IN SELECT s.* FROM syncd.sync_import_same(p_names, p_spaces, p_apps, p_feeds, p_events, p_ids, p_authors, p_devices, v_marks, p_waves) s LOOP
        v_marks[d.i] := CASE WHEN d.same THEN 'd' ELSE 'u' END;
    END LOOP;
    RETURN v_marks;
END $$;

-- Takes seqs of one feed, number p_k of an import, for its p_count changes that are to be appended: as they were in the export, up to p_last
-- (`kept`), where it stood at p_head before them as well, else the next ones. reached: the new head.
CREATE OR REPLACE FUNCTION syncd.sync_import_take(p_user integer, p_space integer, p_app integer, p_head bigint, p_after bigint, p_last bigint,
                                       p_count bigint, OUT kept boolean, OUT reached bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    kept := p_after = p_head AND p_last - p_head < 1 << 30;
    reached := CASE WHEN kept THEN p_last ELSE p_head + p_count END;
    IF p_user IS NULL THEN
        SELECT a.written_at INTO written_at FROM syncd.sync_take(p_space, p_app, reached - p_head) a;
    ELSE
        SELECT a.written_at INTO written_at FROM syncd.sync_advance(p_space, p_app, (reached - p_head)::integer) a;
    END IF;
END $$;

-- The places of an import's changes in the log: by change its seq (0: it is not appended), the end of its push and its time, which is kept
-- with the seq, and never falls; by feed its new head (0: nothing is appended).
CREATE OR REPLACE FUNCTION syncd.sync_import_places(p_user integer, p_head jsonb, p_spaces integer[], p_apps integer[], p_heads bigint[],
                                         p_feeds integer[], p_seqs bigint[], p_ends bigint[], p_ats timestamptz[], p_marks text[],
                                         OUT seqs bigint[], OUT ends bigint[], OUT ats timestamptz[], OUT heads bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_count   bigint;
    v_last    bigint;
    v_last_at timestamptz;
    t         record;
    d         record;
BEGIN
    seqs := array_fill(0::bigint, ARRAY[cardinality(p_feeds)]);
    ends := p_ends; ats := p_ats; heads := '{}';
    FOR k IN 1 .. cardinality(p_spaces) LOOP
        SELECT count(*), max(p.seq) INTO v_count, v_last
        FROM unnest(p_feeds, p_seqs, p_marks) AS p (feed, seq, mark) WHERE p.feed = k AND p.mark = 'a';
        IF v_count = 0 THEN
            heads := heads || 0::bigint;
            CONTINUE;
        END IF;
        t := syncd.sync_import_take(p_user, p_spaces[k], p_apps[k], p_heads[k], (p_head -> 'feeds' -> (k - 1) ->> 'after')::bigint, v_last, v_count);
        SELECT c.created_at INTO v_last_at FROM syncd.sync_changes c
        WHERE c.space_no = p_spaces[k] AND c.app_no = p_apps[k] AND c.seq <= p_heads[k] ORDER BY c.seq DESC LIMIT 1;
        FOR d IN SELECT y.i, y.place, max(y.place) OVER (PARTITION BY y.pushed) AS last,
                        greatest(v_last_at, max(least(y.at, t.written_at)) OVER (ORDER BY y.i)) AS at
                 FROM (SELECT p.i, p.pushed, p.at, CASE WHEN t.kept THEN p.seq ELSE p_heads[k] + row_number() OVER (ORDER BY p.i) END AS place
                       FROM unnest(p_feeds, p_seqs, p_ends, p_marks, p_ats) WITH ORDINALITY AS p (feed, seq, pushed, mark, at, i)
                       WHERE p.feed = k AND p.mark = 'a') y LOOP
            seqs[d.i] := d.place;
            ends[d.i] := d.last;
            ats[d.i] := CASE WHEN t.kept THEN d.at ELSE t.written_at END;
        END LOOP;
        heads := heads || t.reached;
    END LOOP;
END $$;

-- One batch of an import, whole pushes in the order of the log. p_head: {"user"?, "list"?, "asOf"?, "personal"?,
-- "largest", "names": [users, apps, tables, devices], "feeds": [{"s": space, "a": app (place in names), "after": the seq
-- before this batch in the export}]}, feeds in the order of their spaces' ids; without "user" it is an operator's.
-- By change: its feed, seq, end of push, time, event id, change id (null: none), author and device (places in names).
-- p_waves: what the log keeps of them, in waves, no record twice in one.
-- marks, by change: a appended, d there already, u change id used for something else, n no such space, r not a writer.
-- A feed that stands where the export stood gets the same seqs; any other gets new ones, at the time of the import.
-- Raises SY001 (records too large: their places), SY011 (changes that need too many names: their places).
CREATE OR REPLACE FUNCTION syncd.sync_import(p_head jsonb, p_feeds integer[], p_seqs bigint[], p_ends bigint[], p_ats text[], p_events uuid[],
                                  p_ids text[], p_authors integer[], p_devices integer[], p_waves json[],
                                  OUT marks text, OUT heads bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    v_user  integer;
    v_ids   text[] := ARRAY(SELECT e.f ->> 's' FROM jsonb_array_elements(p_head -> 'feeds') WITH ORDINALITY AS e (f, k) ORDER BY e.k);
    v_names integer[];
    v_marks text[];
    v_large integer[] := '{}';
    m       record;
    f       record;
    p       record;
BEGIN
    IF p_head ? 'user' THEN
        v_user := syncd.sync_act_as(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ?| ARRAY['list', 'personal']);
        PERFORM syncd.sync_adopt_said(p_head);
    END IF;
    -- Memberships are held, names made, and feeds locked, as in a push.
    m := syncd.sync_import_may(v_user, v_ids);
    v_names := syncd.sync_import_names(p_head, p_feeds, p_ids, p_devices, p_waves, m.whys);
    f := syncd.sync_import_lock(v_user, p_head, v_names, m.spaces);
    v_marks := syncd.sync_import_marks(v_names, m.spaces, m.whys, f.apps, f.heads, p_feeds, p_seqs, p_events, p_ids, p_authors, p_devices, p_waves);
    p := syncd.sync_import_places(v_user, p_head, m.spaces, f.apps, f.heads, p_feeds, p_seqs, p_ends, p_ats::timestamptz[], v_marks);
    FOR k IN 1 .. cardinality(p_waves) LOOP
        v_large := v_large || ARRAY(SELECT syncd.sync_import_wave(v_names, m.spaces, f.apps, p.ends, p.seqs, p.ats,
                                                                  (p_head ->> 'largest')::integer, p_waves[k]));
    END LOOP;
    IF v_large <> '{}' THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = array_to_json(v_large)::text;
    END IF;
    marks := array_to_string(v_marks, '');
    heads := p.heads;
END $$;

-- The start of an operator's import: puts back the spaces that are not there. Where the export has a cursor key, into a
-- server that holds nothing (or what an interrupted import of it brought) spaces get their numbers and the server gets
-- the key, so that the cursors of devices stay good: `numbered`. Not where the database was started before p_made, when
-- the export was: a cursor could then not be told from one of a future that the export does not have.
CREATE OR REPLACE FUNCTION syncd.sync_import_spaces(p_spaces jsonb, p_key bytea, p_made timestamptz, OUT made integer, OUT numbered boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    s    jsonb;
    v_no integer;
BEGIN
    LOCK TABLE syncd.sync_spaces IN EXCLUSIVE MODE;
    made := 0;
    numbered := p_key IS NOT NULL AND p_made < syncd.sync_start() AND (
        EXISTS (SELECT FROM syncd.sync_server k WHERE k.cursor_key = p_key)
        OR NOT EXISTS (SELECT FROM syncd.sync_spaces) AND NOT EXISTS (SELECT FROM syncd.sync_feeds));
    IF numbered THEN
        UPDATE syncd.sync_server SET cursor_key = p_key WHERE cursor_key <> p_key;
        -- Those who come with a cursor have it from a start of the other server, of which nothing is known here.
        DELETE FROM syncd.sync_starts s WHERE s.started_at < syncd.sync_start();
    END IF;
    FOR s IN SELECT e FROM jsonb_array_elements(p_spaces) e LOOP
        v_no := syncd.sync_space_remake(s, CASE WHEN numbered AND NOT EXISTS (
                SELECT FROM syncd.sync_spaces t WHERE t.space_no = (s ->> 'number')::integer) THEN (s ->> 'number')::integer END);
        IF v_no IS NOT NULL THEN
            PERFORM syncd.sync_import_sharing(v_no, s);
            made := made + 1;
        END IF;
    END LOOP;
    IF numbered THEN
        DELETE FROM syncd.sync_numbers f WHERE f.kind = 'space';  -- a space of the export may have got one of them
        PERFORM setval(pg_get_serial_sequence('syncd.sync_spaces', 'space_no'),
                       greatest((SELECT max(t.space_no) FROM syncd.sync_spaces t), 1));
    END IF;
END $$;

-- The end of an operator's import of p_folded, as sync_export_folded made it. A feed that stands where the export stood is
-- folded that far. p_numbered: cursors stay good, so it does stand there, even if the end of its log was forgotten. In any
-- other, changes have other seqs: whoever is behind what was imported gets the state.
CREATE OR REPLACE FUNCTION syncd.sync_import_folded(p_folded jsonb, p_numbered boolean) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE syncd.sync_feeds h
    SET head = CASE WHEN i.same THEN i.head ELSE h.head END,
        horizon = greatest(h.horizon, CASE WHEN i.same THEN i.horizon ELSE h.head END),
        forgotten = greatest(h.forgotten, CASE WHEN i.same THEN i.forgotten WHEN i.forgotten > 0 THEN h.head END),
        forgotten_us = greatest(h.forgotten_us, i."forgottenUs")
    FROM (SELECT f.space_no, f.app_no, x.*, f.head = x.head OR p_numbered AND f.head < x.head AS same
          FROM jsonb_to_recordset(p_folded) AS x ("spaceId" text, "appId" text, head bigint, horizon bigint, forgotten bigint, "forgottenUs" bigint)
          JOIN syncd.sync_spaces s ON s.space_id = x."spaceId"
          JOIN syncd.sync_names a ON a.name = x."appId"
          JOIN syncd.sync_feeds f ON f.space_no = s.space_no AND f.app_no = a.name_no
          WHERE f.horizon < x.horizon OR f.forgotten < x.forgotten) i
    WHERE h.space_no = i.space_no AND h.app_no = i.app_no
$$;

-- The end of an operator's import with numbered spaces: what the devices had seen until here is what is here.
CREATE OR REPLACE FUNCTION syncd.sync_import_settle() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    UPDATE syncd.sync_feeds h SET bases = ARRAY[h.head] WHERE h.bases = ARRAY[0::bigint] AND h.boots = ARRAY[syncd.sync_start()]
$$;
