-- What an import of a log of the first generation does with records that moved (functions/moves.sql).
-- Called by an operator alone, whom row security does not bind.

-- Does an import's moves, as pushes of their authors had done them: {"u": author, "a": app, "t": table, "r": record, "s": the space
-- that it goes to, "c": device, "at": when that was written, "own": whether it was in the personal space}. A record that is not in
-- the personal space, because an import brought it to where it is now, is marked there as moved: what devices that have not
-- heard of it still write goes after it. An operator's.
CREATE OR REPLACE FUNCTION syncd.sync_import_move(p_moves jsonb, p_largest integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_from syncd.sync_records;
    v_at   timestamptz;
    f      record;
    x      record;
BEGIN
    PERFORM syncd.sync_names_put(ARRAY(SELECT unnest(ARRAY[m.a, m.t]) FROM jsonb_to_recordset(p_moves) AS m (a text, t text)), NULL);
    FOR f IN SELECT DISTINCT s.space_id COLLATE "C" AS space_id, m.a COLLATE "C" AS app, s.space_no
             FROM jsonb_to_recordset(p_moves) AS m (u text, a text, s text)
             JOIN syncd.sync_spaces s ON s.space_id IN (m.s, concat('_personal:', m.u)) ORDER BY 1, 2 LOOP
        PERFORM syncd.sync_take(f.space_no, syncd.sync_name(f.app), 0);
    END LOOP;
    FOR x IN SELECT m.*, o.space_no AS personal, s.space_no, syncd.sync_name(m.a) AS app_no, syncd.sync_name(m.t) AS table_no
             FROM jsonb_to_recordset(p_moves) AS m (u text, a text, t text, r text, s text, c text, at timestamptz, own boolean)
             JOIN syncd.sync_spaces o ON o.space_id = concat('_personal:', m.u)
             JOIN syncd.sync_spaces s ON s.space_id = m.s LOOP
        PERFORM syncd.sync_act_as(x.u, true);
        SELECT q.* INTO v_from FROM syncd.sync_records q
        WHERE q.space_no = x.personal AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id = x.r;
        CONTINUE WHEN v_from.deleted AND v_from.registers -> 'deletedAt' ->> 'movedTo' IS NOT NULL OR v_from.seq IS NULL AND NOT x.own;
        v_at := greatest(x.at, (SELECT c.created_at FROM syncd.sync_changes c
                                WHERE c.space_no = x.personal AND c.app_no = x.app_no AND c.seq = v_from.seq));
        PERFORM set_config('syncd.import_at', v_at::text, true);
        IF v_from.seq IS NULL THEN
            SELECT x.personal, x.app_no, x.table_no, x.r, 0, '{}', false INTO v_from.space_no, v_from.app_no, v_from.table_no,
                v_from.record_id, v_from.latest, v_from.registers, v_from.deleted;
        ELSIF NOT syncd.sync_move_into(x.space_no, v_from, p_largest) THEN
            CONTINUE;
        END IF;
        -- No reader of the first generation is sent it, so nobody's instant needs its time: what comes after it keeps its own.
        PERFORM set_config('syncd.import_at', coalesce((SELECT c.created_at FROM syncd.sync_changes c
            WHERE c.space_no = x.personal AND c.app_no = x.app_no ORDER BY c.seq DESC LIMIT 1), v_at)::text, true);
        PERFORM syncd.sync_move_away(x.c, v_from, x.space_no);
    END LOOP;
    PERFORM set_config('syncd.import_at', '', true), set_config(syncd.sync_acting_in(), '', true);
END $$;
