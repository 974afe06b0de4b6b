-- Export: the log as lines of JSON text, feed by feed, through the same row security as a pull; and what a space is.
-- An export of a folded log says so.
-- Called by the role that serves, as the acting user; by an operator, whom row security does not bind, for everybody's.

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

-- What an operator's export says of a space beside that, as further members of its JSON text: who is invited, whom no link brings back as an owner
-- removed them, and of a deleted one who may make it again.
CREATE OR REPLACE FUNCTION syncd.sync_export_sharing(p_space integer, p_owners bigint[]) RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    (SELECT concat(',"invitations":[', string_agg(concat('{"userId":', n.quoted, ',"role":"', i.role, '","invitedBy":', b.quoted,
                                                         ',"invitedAt":"', syncd.sync_instant(i.invited_at), '"}'), ',' ORDER BY n.name), ']')
     FROM syncd.sync_invitations i JOIN syncd.sync_names n ON n.name_no = i.user_no JOIN syncd.sync_names b ON b.name_no = i.invited_by
     WHERE i.space_no = p_space HAVING count(*) > 0),
    (SELECT concat(',"removed":[', string_agg(concat('{"userId":', n.quoted, ',"removedAt":"', syncd.sync_instant(r.removed_at), '"}'), ',' ORDER BY n.name), ']')
     FROM syncd.sync_removals r JOIN syncd.sync_names n ON n.name_no = r.user_no WHERE r.space_no = p_space HAVING count(*) > 0),
    (SELECT concat(',"owners":[', string_agg(n.quoted, ',' ORDER BY n.name), ']')
     FROM syncd.sync_names n WHERE n.name_no = ANY (p_owners) HAVING count(*) > 0));

-- Whom users block, for an operator's export of everything: JSON text, null where nobody does.
CREATE OR REPLACE FUNCTION syncd.sync_export_blocks() RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT json_agg(json_build_object('userId', n.name, 'blocked', b.blocked, 'blockedAt', syncd.sync_instant(b.blocked_at))
                        ORDER BY n.name, b.blocked)::text
        FROM syncd.sync_blocks b JOIN syncd.sync_names n ON n.name_no = b.user_no);

-- The feeds of an export that were folded, of one space (null: of all): JSON text, null where there are none.
CREATE OR REPLACE FUNCTION syncd.sync_export_folded(p_space text) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT json_agg(json_build_object('spaceId', s.space_id, 'appId', a.name, 'head', h.head, 'horizon', h.horizon,
                                          'forgotten', h.forgotten, 'forgottenUs', h.forgotten_us) ORDER BY s.space_id, a.name)::text
        FROM syncd.sync_feeds h
        JOIN syncd.sync_spaces s ON s.space_no = h.space_no
        JOIN syncd.sync_names a ON a.name_no = h.app_no
        WHERE h.horizon > 0 AND (p_space IS NULL OR s.space_id = p_space));
