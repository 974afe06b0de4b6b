-- What an application's rules look at before a push is written (syncd/service/rules.py).
-- Called by the server: sync_rules_see and sync_rules_repeats, as the user who pushes, whom row security lets see what it may.

-- The fields of a record as JSON text, without the one that says whether it is deleted. Each value is copied whole: to put them into another
-- jsonb would take every item of a list apart.
CREATE OR REPLACE FUNCTION syncd.sync_plain_fields(p_registers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT concat('{', string_agg(concat(to_json(g.key), ':', coalesce((g.value -> 'value')::text, 'null')), ','), '}')
        FROM jsonb_each(p_registers) g WHERE g.key <> 'deletedAt' HAVING count(*) > 0);

-- What stands at each place of the lists, in their order. A record that moved is looked for where it is by now, `space`; `role` is the acting
-- user's there, null where it has none. `record`: its fields as JSON text, null where there is none; `deleted`: they are what an
-- insert brings back. It reads no more than p_most bytes and the last of them, and then says that they are too many.
CREATE OR REPLACE FUNCTION syncd.sync_rules_see(p_app text, p_spaces text[], p_tables text[], p_ids text[], p_most bigint)
RETURNS TABLE (role text, space text, record text, deleted boolean, too_large boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_app   integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_app);
    v_left  bigint := p_most;
    v_moved text;
    v_table integer;
    v_space integer;
    d       record;
BEGIN
    FOR d IN SELECT * FROM unnest(p_spaces, p_tables, p_ids) WITH ORDINALITY AS u (s, t, r, k) ORDER BY u.k LOOP
        space := d.s;
        v_table := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = d.t);
        FOR hop IN 1 .. 8 LOOP
            v_space := (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = space);
            record := NULL; deleted := false; v_moved := NULL; too_large := v_left < 0;
            EXIT WHEN too_large OR v_space IS NULL;
            SELECT syncd.sync_plain_fields(q.registers), q.deleted, CASE WHEN q.deleted THEN q.registers -> 'deletedAt' ->> 'movedTo' END
            INTO record, deleted, v_moved FROM syncd.sync_records q
            WHERE q.space_no = v_space AND q.app_no = v_app AND q.table_no = v_table AND q.record_id = d.r;
            v_left := v_left - coalesce(octet_length(record), 0);
            EXIT WHEN v_moved IS NULL;
            space := v_moved;
        END LOOP;
        role := (SELECT m.role FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.space_no = v_space);
        RETURN NEXT;
    END LOOP;
END $$;

-- Whether a change that was written (p_fields, p_lost: its registers) wrote all these values: {"name": value}. What is stamped above p_highest was
-- written beside it by a rule, and may be anything; so may what was erased since.
CREATE OR REPLACE FUNCTION syncd.sync_wrote(p_fields json, p_lost json, p_values json, p_highest text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NOT EXISTS (
    SELECT FROM json_each(p_values) n
    LEFT JOIN (SELECT * FROM json_each(p_fields) UNION ALL SELECT * FROM json_each(p_lost)) o ON o.key = n.key
    WHERE CASE WHEN o.key IS NULL THEN true
               WHEN o.value ->> 'at' COLLATE "C" > p_highest OR o.value ->> 'erased' IS NOT NULL THEN false
               WHEN (o.value -> 'value')::text = n.value::text THEN false
               ELSE (o.value -> 'value')::jsonb IS DISTINCT FROM n.value::jsonb END);

-- Which of these changes of a device of the acting user were written before: [{"c": change id, "t": table, "r": record, "hi": its highest stamp,
-- "f": {"name": value}}]. `same`: as they are, but for what a rule wrote beside. No content leaves, since the user may read it no
-- longer where it is. It reads no more than p_most bytes and the last of them; of what is `too_large` nobody knows.
CREATE OR REPLACE FUNCTION syncd.sync_rules_repeats(p_client text, p_app text, p_asked json, p_most bigint)
RETURNS TABLE (change_id text, event_id text, seq bigint, same boolean, too_large boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_app    integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_app);
    v_client integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_client);
    v_left   bigint := p_most;
    v_table  integer;
    v_size   bigint;
    d        record;
    h        record;
BEGIN
    FOR d IN SELECT * FROM json_to_recordset(p_asked) AS x (c text, t text, r text, hi text, f json) LOOP
        SELECT c.event_id, c.seq, c.app_no, c.table_no, c.record_id, c.fields, c.lost INTO h FROM syncd.sync_changes c
        WHERE c.user_no = syncd.sync_user() AND c.client_no = v_client AND c.change_id = d.c;
        CONTINUE WHEN NOT FOUND;
        v_table := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = d.t);
        change_id := d.c; event_id := h.event_id::text; seq := h.seq; same := NULL; too_large := v_left < 0;
        IF NOT too_large THEN
            v_size := coalesce(octet_length(h.fields::text), 0) + coalesce(octet_length(h.lost::text), 0);
            v_left := v_left - v_size;
            same := (h.app_no, h.table_no, h.record_id) IS NOT DISTINCT FROM (v_app, v_table, d.r)
                AND syncd.sync_wrote(coalesce(h.fields, '{}'), coalesce(h.lost, '{}'), d.f, d.hi);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- For workers of a release that reads the registers itself: the changes of a device of the acting user that were written
-- before, of these ids.
CREATE OR REPLACE FUNCTION syncd.sync_rules_written(p_client text, p_ids text[])
RETURNS TABLE (change_id text, event_id text, seq bigint, app text, table_name text, record_id text, fields text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.change_id, r.event_id::text, r.seq, a.name, t.name, r.record_id, r.fields::text
    FROM syncd.sync_receipts((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_client), p_ids) r
    JOIN syncd.sync_names a ON a.name_no = r.app_no
    JOIN syncd.sync_names t ON t.name_no = r.table_no WHERE r.event_id IS NOT NULL
$$;
