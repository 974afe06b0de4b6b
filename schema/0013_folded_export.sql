-- An export of a folded log says so, and the import of an operator's does: history there is no more complete than it was here, and
-- devices that were behind the horizon, or what was forgotten, are still behind it.

-- What a change adds to a line, in bytes: compressed values as they will be, all else about as long as it is stored.
CREATE FUNCTION syncd.sync_line_size(p_fields json, p_lost json, p_actor json) RETURNS bigint LANGUAGE sql STABLE
RETURN CASE WHEN p_fields IS NULL THEN 0 WHEN pg_column_compression(p_fields) IS NULL THEN pg_column_size(p_fields) ELSE octet_length(p_fields::text) END
     + CASE WHEN p_lost IS NULL THEN 0 WHEN pg_column_compression(p_lost) IS NULL THEN pg_column_size(p_lost) ELSE octet_length(p_lost::text) END
     + CASE WHEN p_actor IS NULL THEN 0 WHEN pg_column_compression(p_actor) IS NULL THEN pg_column_size(p_actor) ELSE octet_length(p_actor::text) END;

-- The lines of one feed, as before; `folded` on a line: changes of its record before it, and after the one that an
-- import will find, are missing; `husk`: the stamps of a deleted record, whose values are gone.
CREATE OR REPLACE FUNCTION syncd.sync_export_page(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_user integer,
                                       p_limit integer, p_bytes bigint, OUT upto bigint, OUT events integer, OUT body bytea)
LANGUAGE plpgsql STABLE SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
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

-- One wave of an import, as before. A folded change of a record that is not there gets 0 for the change before it.
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
        LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_wave
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

DROP TRIGGER sync_guard ON syncd.sync_changes;
CREATE TRIGGER sync_guard BEFORE INSERT ON syncd.sync_changes FOR EACH ROW WHEN (coalesce(NEW.prev_seq, 0) = 0) EXECUTE FUNCTION syncd.sync_guard();

-- The feeds of an export that were folded, of one space (null: of all): JSON text, null where there are none.
CREATE FUNCTION syncd.sync_export_folded(p_space text) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT json_agg(json_build_object('spaceId', s.space_id, 'appId', a.name, 'head', h.head, 'horizon', h.horizon,
                                          'forgotten', h.forgotten, 'forgottenUs', h.forgotten_us) ORDER BY s.space_id, a.name)::text
        FROM syncd.sync_feeds h
        JOIN syncd.sync_spaces s ON s.space_no = h.space_no
        JOIN syncd.sync_names a ON a.name_no = h.app_no
        WHERE h.horizon > 0 AND (p_space IS NULL OR s.space_id = p_space));

-- The end of an operator's import of p_folded, as sync_export_folded made it. A feed that stands where the export stood is
-- folded that far. p_numbered: cursors stay good, so it does stand there, even if the end of its log was forgotten. In any
-- other, changes have other seqs: whoever is behind what was imported gets the state.
CREATE FUNCTION syncd.sync_import_folded(p_folded jsonb, p_numbered boolean) RETURNS void
LANGUAGE sql VOLATILE AS $$
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

REVOKE ALL ON FUNCTION syncd.sync_export_folded(text), syncd.sync_import_folded(jsonb, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION syncd.sync_line_size(json, json, json) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION syncd.sync_export_folded(text), syncd.sync_line_size(json, json, json) TO syncd_runtime;
