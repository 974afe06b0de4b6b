-- What an application's rules look at before a push is written (syncd/service/rules.py).
-- Called by the server: sync_rules_see, as the user who pushes, whom row security lets see what it may.

-- What stands at each place of the lists, in their order: whether the acting user may write in the space, and the record's fields as JSON
-- text; null where there is no record, or it is deleted. It reads no more than p_most bytes and the last of them.
CREATE OR REPLACE FUNCTION syncd.sync_rules_see(p_app text, p_spaces text[], p_tables text[], p_ids text[], p_most bigint)
RETURNS TABLE (writes boolean, record text, too_large boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_app  integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_app);
    v_left bigint := p_most;
    d      record;
BEGIN
    FOR d IN SELECT u.k, (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = u.t) AS table_no, u.r, s.space_no,
                    coalesce((SELECT m.role <> 'reader' FROM syncd.sync_memberships m
                              WHERE m.user_no = syncd.sync_user() AND m.space_no = s.space_no), false) AS may
             FROM unnest(p_spaces, p_tables, p_ids) WITH ORDINALITY AS u (s, t, r, k)
             LEFT JOIN syncd.sync_spaces s ON s.space_id = u.s
             ORDER BY u.k LOOP
        writes := d.may; record := NULL; too_large := v_left < 0;
        IF v_left >= 0 AND d.space_no IS NOT NULL THEN
            SELECT (SELECT jsonb_object_agg(g.key, g.value -> 'value') FROM jsonb_each(q.registers) g WHERE g.key <> 'deletedAt')::text
            INTO record FROM syncd.sync_records q
            WHERE q.space_no = d.space_no AND q.app_no = v_app AND q.table_no = d.table_no AND q.record_id = d.r AND NOT q.deleted;
            v_left := v_left - coalesce(octet_length(record), 0);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
