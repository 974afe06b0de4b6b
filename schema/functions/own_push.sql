-- What a device is told of its own push: how the records are that it wrote to, where the page that follows would not say it.
-- Called by functions alone.

-- The changes of a feed after p_after, up to p_upto, that made their records.
CREATE OR REPLACE FUNCTION syncd.sync_made_between(p_space integer, p_app integer, p_after bigint, p_upto bigint) RETURNS bigint[]
LANGUAGE sql STABLE
RETURN ARRAY(SELECT c.seq FROM syncd.sync_changes c
             WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto AND c.prev_seq IS NULL);

-- How the records are now that a push of this transaction wrote to a feed, of which its device is to be told (sync_pull_acting); p_head:
-- the feed's before it.
CREATE OR REPLACE FUNCTION syncd.sync_own_text(p_space integer, p_app integer, p_head bigint, p_now bigint, p_forgotten bigint, p_woken bigint[],
                                    p_tables integer[], p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE sql STABLE
RETURN syncd.sync_state_text(p_space, p_app, p_head, p_now, 0, p_tables, p_legacy, p_space_quoted,
    p_woken || CASE WHEN p_forgotten > 0 THEN syncd.sync_made_between(p_space, p_app, p_head, p_now) END);

-- How the records are that a device is to be told of after its push to some feeds, whose heads were p_own_bases before it, where no page
-- reaches so far. p_without: feeds that are left out; p_woken is as in sync_pull_acting.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_own_text(p_app integer, p_own_spaces integer[], p_own_bases bigint[], p_woken bigint[],
                                           p_tables integer[], p_without integer[]) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT string_agg(syncd.sync_state_text(h.space_no, p_app, o.base, h.head, 0, p_tables, true, s.quoted, p_woken
                   || CASE WHEN h.forgotten > 0 THEN syncd.sync_made_between(h.space_no, p_app, o.base, h.head) END), ',' ORDER BY o.k)
        FROM unnest(p_own_spaces, p_own_bases) WITH ORDINALITY AS o (space_no, base, k)
        JOIN syncd.sync_feeds h ON h.space_no = o.space_no AND h.app_no = p_app
        JOIN syncd.sync_spaces s ON s.space_no = h.space_no
        WHERE NOT h.space_no = ANY (p_without));
END $$;

-- A push's page with how the records are now that changes lost to which its device pushes again: it may not have had the answer that
-- told it. p_of: the place of each change's space, null: there is one; p_marks: `d` for a change that was pushed before. What is more
-- than 32 MiB in all is left out.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_repeats(p_page syncd.sync_page, p_app integer, p_spaces integer[], p_of integer[], p_marks text[],
                                          p_seqs bigint[]) RETURNS syncd.sync_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_text text;
BEGIN
    SELECT string_agg(syncd.sync_legacy_state_text(x.space_no, p_app, x.seq - 1, x.seq, 0, NULL, x.quoted, NULL, false, NULL, NULL), ',' ORDER BY x.k)
    INTO v_text
    FROM (
        SELECT m.*, s.quoted, sum(m.size) OVER (ORDER BY m.k) AS total
        FROM (
            SELECT c.space_no, r.seq, min(o.k) AS k, max(syncd.sync_record_size(r.registers)) AS size
            FROM (SELECT p_spaces[coalesce(p_of[u.k], 1)] AS space_no, u.seq, u.k
                  FROM unnest(p_marks, p_seqs) WITH ORDINALITY AS u (mark, seq, k) WHERE u.mark = 'd') o
            CROSS JOIN LATERAL (  -- one probe each
                SELECT h.space_no, h.table_no, h.record_id, h.lost FROM syncd.sync_changes h
                WHERE h.space_no = o.space_no AND h.app_no = p_app AND h.seq = o.seq OFFSET 0) c
            CROSS JOIN LATERAL (
                SELECT q.registers, q.seq, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = c.space_no AND q.app_no = p_app AND q.table_no = c.table_no AND q.record_id >= c.record_id
                ORDER BY q.record_id LIMIT 1) r
            WHERE c.lost IS NOT NULL AND r.record_id = c.record_id GROUP BY c.space_no, r.seq) m
        JOIN syncd.sync_spaces s ON s.space_no = m.space_no) x
    WHERE x.total <= 33554432;
    IF v_text IS NOT NULL THEN
        p_page.body := CASE WHEN length(p_page.body) > 0 THEN p_page.body || ','::bytea ELSE '' END || convert_to(v_text, 'UTF8');
    END IF;
    RETURN p_page;
END $$;
