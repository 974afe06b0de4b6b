-- What was erased stays so: a record whose deletion says `erased` is not written to any more, whoever does it (functions/erase.sql).
-- Called by functions alone. sync_erased_stays is a trigger of sync_records; sync_was_erased is SECURITY DEFINER, as who asks may not read there.

-- Whether these are the registers of a record that was erased.
CREATE OR REPLACE FUNCTION syncd.sync_is_erased(p_registers jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(p_registers -> 'deletedAt' ? 'erased', false);

-- Refuses what is written to an erased record as what is written to a forgotten one: that change alone, and its device keeps it.
CREATE OR REPLACE FUNCTION syncd.sync_erased_stays() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'erased' USING ERRCODE = 'SY004';
END $$;

-- Whether a record was erased, by its names: for what is held, which has no numbers, and whose author may not read there.
CREATE OR REPLACE FUNCTION syncd.sync_was_erased(p_space text, p_app text, p_table text, p_record text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM syncd.sync_erasures e WHERE e.what = 'record' AND e.record_id = p_record AND e.table_name = p_table
                   AND e.app = p_app AND e.space_id = p_space)
$$;

-- Which changes of a push or an import that raised SY004 are of erased records, by their places. p_head, p_bodies: as in
-- sync_unremembered_in, which has said who acts.
CREATE OR REPLACE FUNCTION syncd.sync_erased_in(p_head jsonb, p_bodies json[]) RETURNS integer[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tables jsonb := coalesce(p_head -> 'tables', p_head -> 'names');
BEGIN
    RETURN ARRAY(
        SELECT x.i FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, t integer, r text)
        JOIN syncd.sync_spaces p ON p.space_id = coalesce(p_head -> 'spaces' ->> (x.s - 1), p_head -> 'feeds' -> (x.k - 1) ->> 's')
        JOIN syncd.sync_names a ON a.name = coalesce(p_head ->> 'app', v_tables ->> ((p_head -> 'feeds' -> (x.k - 1) ->> 'a')::integer - 1))
        JOIN syncd.sync_names t ON t.name = v_tables ->> (x.t - 1)
        JOIN syncd.sync_records q ON q.space_no = p.space_no AND q.app_no = a.name_no AND q.table_no = t.name_no AND q.record_id = x.r
        WHERE q.deleted AND (syncd.sync_is_erased(q.registers) OR EXISTS (  -- or it moved, and was erased there
            SELECT FROM syncd.sync_spaces m JOIN syncd.sync_records h ON h.space_no = m.space_no
            WHERE m.space_id = q.registers -> 'deletedAt' ->> 'movedTo' AND h.app_no = q.app_no AND h.table_no = q.table_no
              AND h.record_id = q.record_id AND h.deleted AND syncd.sync_is_erased(h.registers)))
        ORDER BY x.i);
END $$;
