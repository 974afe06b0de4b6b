-- What an application's rules look at before a push is written (syncd/service/rules.py).
-- Called by the server: sync_rules_see and sync_rules_written, as the user who pushes, whom row security lets see what it may.

-- The fields of a record as JSON text, without the one that says whether it is deleted.
CREATE OR REPLACE FUNCTION syncd.sync_plain_fields(p_registers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(g.key, g.value -> 'value') FROM jsonb_each(p_registers) g WHERE g.key <> 'deletedAt')::text;

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

-- The changes of a device of the acting user that were written before, of these ids: where, and their registers.
CREATE OR REPLACE FUNCTION syncd.sync_rules_written(p_client text, p_ids text[])
RETURNS TABLE (change_id text, event_id text, seq bigint, app text, table_name text, record_id text, fields text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.change_id, r.event_id::text, r.seq, a.name, t.name, r.record_id, r.fields::text
    FROM syncd.sync_receipts((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_client), p_ids) r
    JOIN syncd.sync_names a ON a.name_no = r.app_no
    JOIN syncd.sync_names t ON t.name_no = r.table_no WHERE r.event_id IS NOT NULL
$$;
