-- Places in a feed: its head is moved under its lock, so that seqs are taken in commit order and without gaps.
-- Called by functions alone. sync_advance is SECURITY DEFINER: it takes seqs for a writer, and for nobody else.

-- Takes p_count seqs of a feed for the acting user, who must be a writer in its space, and holds the feed until the end
-- of the transaction; a negative count gives back what was taken and not written. base: the head before; written_at: never falls.
CREATE OR REPLACE FUNCTION syncd.sync_advance(p_space integer, p_app integer, p_count integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_memberships m
                   WHERE m.user_no = syncd.sync_user() AND m.space_no = p_space AND m.role <> 'reader') THEN
        RAISE EXCEPTION 'not a writer' USING ERRCODE = 'insufficient_privilege';
    ELSIF p_count < 0 AND NOT EXISTS (
        SELECT FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.head + p_count >= greatest(h.horizon, (
            SELECT c.seq FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app ORDER BY c.seq DESC LIMIT 1))) THEN
        RAISE EXCEPTION 'these are written' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT t.base, t.written_at INTO base, written_at FROM syncd.sync_take(p_space, p_app, p_count) t;
END $$;

-- Takes p_count seqs of a feed, for whom nobody asks, and notes where the head stood when its first writer after a start
-- came. Of 64 starts with writes; then the oldest two become one, with the later start and the lower head, so that who is
-- older than that is rather told to start again than that all is well.
CREATE OR REPLACE FUNCTION syncd.sync_take(p_space integer, p_app integer, p_count bigint, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_start timestamptz := syncd.sync_start();
BEGIN
    INSERT INTO syncd.sync_feeds AS h (space_no, app_no, head, written_at, boots, bases)
    VALUES (p_space, p_app, p_count, clock_timestamp(), ARRAY[v_start], ARRAY[0])
    ON CONFLICT (space_no, app_no) DO UPDATE SET
        head = h.head + p_count, written_at = greatest(clock_timestamp(), h.written_at),
        boots = CASE WHEN h.boots[cardinality(h.boots)] = v_start THEN h.boots
                     WHEN cardinality(h.boots) < 64 THEN h.boots || v_start
                     ELSE h.boots[2:] || v_start END,
        bases = CASE WHEN h.boots[cardinality(h.boots)] = v_start THEN h.bases
                     WHEN cardinality(h.boots) < 64 THEN h.bases || h.head
                     ELSE h.bases[1] || h.bases[3:] || h.head END
    RETURNING h.head - p_count, h.written_at INTO base, written_at;
END $$;
