-- What a device pushed before: a change that comes again gets the answer of the first time, and is not done again.
-- Called by the role that serves: sync_pushed_before. Those that are SECURITY DEFINER find what the acting user's device wrote,
-- also where it may no longer read.

-- What the acting user's device already had written, by change id, wherever it was. A restore that it asked for is there
-- too, without content: no change is the same. p_most: no content either where its text has more bytes than that, by id; such a
-- one is not read: its compressed size alone may say so.
CREATE OR REPLACE FUNCTION syncd.sync_receipts_within(p_client_no integer, p_change_ids text[], p_most bigint[])
RETURNS TABLE (change_id text, space_no integer, app_no integer, table_no integer, record_id text,
               seq bigint, event_id uuid, op smallint, fields jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.change_id, c.space_no, c.app_no, c.table_no, c.record_id, c.seq, c.event_id, c.op,
           CASE WHEN pg_column_size(c.fields) > i.most OR pg_column_size(c.lost) > i.most THEN NULL
                WHEN octet_length(concat(c.fields::text, c.lost::text)) > i.most THEN NULL
                ELSE coalesce(c.fields::jsonb, '{}') || coalesce(c.lost::jsonb, '{}') END
    -- one probe an id, whatever the planner believes of the table: = ANY can become a filter
    FROM unnest(p_change_ids, p_most) AS i (change_id, most) CROSS JOIN LATERAL (
        SELECT * FROM syncd.sync_changes h
        WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id
        OFFSET 0) c
    UNION ALL
    SELECT r.change_id, r.space_no, r.app_no, r.table_no, r.record_id, r.first_seq, NULL::uuid, NULL::smallint, NULL::jsonb
    FROM unnest(p_change_ids) AS i (change_id) CROSS JOIN LATERAL (
        SELECT * FROM syncd.sync_restores h
        WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id
        OFFSET 0) r;
END $$;

-- The same with all content.
CREATE OR REPLACE FUNCTION syncd.sync_receipts(p_client_no integer, p_change_ids text[])
RETURNS TABLE (change_id text, space_no integer, app_no integer, table_no integer, record_id text,
               seq bigint, event_id uuid, op smallint, fields jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT * FROM syncd.sync_receipts_within(p_client_no, p_change_ids, NULL);
END $$;

-- Of these change ids those that the acting user's device used before, as sync_receipts has them, without a look at what they wrote.
CREATE OR REPLACE FUNCTION syncd.sync_used_ids(p_client_no integer, p_change_ids text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT i.change_id FROM unnest(p_change_ids) AS i (change_id)
    WHERE (SELECT h.seq FROM syncd.sync_changes h
           WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id LIMIT 1) IS NOT NULL
       OR (SELECT h.first_seq FROM syncd.sync_restores h
           WHERE h.user_no = syncd.sync_user() AND h.client_no = p_client_no AND h.change_id = i.change_id LIMIT 1) IS NOT NULL;
END $$;

-- Which of a device's changes are in the log already, wherever.
CREATE OR REPLACE FUNCTION syncd.sync_pushed_before(p_user text, p_client text, p_ids text[]) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM syncd.sync_act_as(p_user);
    RETURN ARRAY(SELECT d FROM syncd.sync_names n CROSS JOIN LATERAL syncd.sync_used_ids(n.name_no, p_ids) d WHERE n.name = p_client);
END $$;

-- The numbers of spaces, in the order of their ids, also of those that the acting user is no member of: for comparing what
-- the user's device repeats with what it wrote there.
CREATE OR REPLACE FUNCTION syncd.sync_spaces_named(p_ids text[]) RETURNS integer[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(s.space_no ORDER BY n.place)
    FROM unnest(p_ids) WITH ORDINALITY AS n (id, place) LEFT JOIN syncd.sync_spaces s ON s.space_id = n.id
$$;

-- A change's content as its device sent it: values, and instants before the server lowered any.
CREATE OR REPLACE FUNCTION syncd.sync_content(p_fields jsonb, p_op integer) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(f.key, jsonb_build_array(
            CASE WHEN p_op = 3 AND f.key = 'deletedAt' THEN NULL ELSE f.value -> 'value' END,
            CASE WHEN f.value ? 'sent' THEN f.value -> 'sent' ELSE f.value -> 'at' END))
        FROM jsonb_each(p_fields) f WHERE NOT f.value ? 'clientId');

-- Whether a change that comes again is the one that was written (p_held, p_op: its registers and what it was). Of what was erased since, only the
-- stamp is compared: its device may send it again.
CREATE OR REPLACE FUNCTION syncd.sync_same_content(p_held jsonb, p_op integer, p_new jsonb, p_new_op integer) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF jsonb_path_exists(p_held, '$.*.erased') THEN
        p_new := (SELECT jsonb_object_agg(n.key, CASE WHEN p_held -> n.key ? 'erased' THEN n.value || '{"value": null}' ELSE n.value END)
                  FROM jsonb_each(p_new) n);
    END IF;
    IF p_held #> '{deletedAt,value}' = p_held #> '{deletedAt,at}' AND NOT syncd.sync_is_instant(p_new #> '{deletedAt,value}') THEN
        p_new := jsonb_set(p_new, '{deletedAt,value}', p_held #> '{deletedAt,value}');
    END IF;
    RETURN p_op = p_new_op AND syncd.sync_content(p_held, p_op) = syncd.sync_content(p_new, p_new_op);
END $$;

-- The changes of a push that its device had pushed before: place in the push, first seq and event
-- id, and whether the content is still the same. What was written is only read where it is of about the size of what comes: it is
-- the same text, or as jsonb prints it. So nobody has the server read much by sending little.
CREATE OR REPLACE FUNCTION syncd.sync_repeats(p_client integer, p_app integer, p_ids text[], p_bodies json[],
                                   p_spaces integer[], p_tables integer[])
RETURNS TABLE (i integer, seq bigint, event_id uuid, same boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT x.i, d.seq, d.event_id,
           d.app_no = p_app AND d.space_no = p_spaces[x.s] AND d.table_no = p_tables[x.t] AND d.record_id = x.r
           AND d.fields IS NOT NULL AND syncd.sync_same_content(d.fields, d.op, x.f::jsonb, x.o)
    FROM unnest(p_bodies) AS b (body)
    CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, t integer, r text, o integer, c text, f json)
    CROSS JOIN LATERAL syncd.sync_receipts_within(p_client, ARRAY[x.c], ARRAY[4096 + 4 * octet_length(x.f::text)::bigint]) d
    WHERE x.c = ANY (p_ids);
END $$;
