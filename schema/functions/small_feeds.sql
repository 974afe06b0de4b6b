-- Small feeds, read together: in one statement for all of them, since each statement looks through the user's memberships.
-- Called by functions alone.

-- Of the feeds at p_active, those that a page reads to their heads, as far as it has room for p_left changes, in their order. swept: the
-- whole state, newest first, of one that a sweep has not begun with; base: as of sync_state_text, null: from the log. A sweep at the start of
-- its rest may have read the tables of "first" already: where the feed has moved since, what those were written is in no rest.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_fitting(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                         p_without integer[], p_history boolean, p_left integer)
RETURNS TABLE (k integer, space_no integer, head bigint, after bigint, base bigint, swept boolean, whole text, quoted text, large boolean)
LANGUAGE sql STABLE AS $$
    SELECT w.k, w.space_no, w.head, w.after, w.base, w.swept, w.whole, w.quoted,
           32768 < CASE WHEN w.base IS NULL THEN (  -- "ORDER BY" for the index
               SELECT sum(pg_column_size(c.fields) ORDER BY c.seq) FROM syncd.sync_changes c
               WHERE c.space_no = w.space_no AND c.app_no = p_app AND c.seq > w.after AND c.seq <= w.head)
           ELSE (
               SELECT sum(pg_column_size(r.registers) ORDER BY r.seq) FROM syncd.sync_records r
               WHERE r.space_no = w.space_no AND r.app_no = p_app AND r.seq > w.after AND r.seq <= w.head)
           END FROM (
        SELECT d.*, sum(d.head - d.after) OVER (ORDER BY d.n) AS total FROM (
            SELECT c.k, c.n, h.space_no, h.head, c.swept, CASE WHEN c.swept THEN 0 ELSE c.seq END AS after,
                   CASE WHEN c.swept THEN h.head WHEN c.base >= 0 THEN c.base WHEN c.seq < h.horizon AND NOT p_history THEN c.seq END AS base,
                   CASE WHEN h.forgotten > 0 AND NOT c.swept THEN ',"whole":true' END AS whole, s.quoted
            FROM (SELECT a.k, a.n, p_spaces[a.k] AS space_no, p_seqs[a.k] AS seq, p_bases[a.k] AS base, p_bases[a.k] IN (syncd.sync_phase_base('first', p_seqs[a.k]), syncd.sync_phase_base('rest', p_seqs[a.k])) AS swept
                  FROM unnest(p_active) WITH ORDINALITY AS a (k, n)) c
            JOIN syncd.sync_feeds h ON h.space_no = c.space_no AND h.app_no = p_app
            JOIN syncd.sync_spaces s ON s.space_no = h.space_no
            WHERE (h.head > c.seq OR c.base <> -1) AND NOT h.space_no = ANY (p_without)
              AND (c.base >= -1 OR c.swept AND (h.head = c.seq OR c.base = syncd.sync_phase_base('first', c.seq)))) d) w
    WHERE w.total <= p_left ORDER BY w.n
$$;

-- The text of each of these feeds up to its head, as sync_log_text, sync_state_text or sync_sweep_text has it; empty: there is none, null: it
-- is not small. A sweep that begins with named tables is one text with the others after them.
CREATE OR REPLACE FUNCTION syncd.sync_small_pieces(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                        p_without integer[], p_history boolean, p_left integer, p_tables integer[], p_firsts integer[])
RETURNS TABLE (k integer, piece text)
LANGUAGE sql STABLE AS $$
    SELECT o.k, CASE WHEN o.large THEN NULL ELSE coalesce(CASE WHEN o.base IS NULL THEN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, o.quoted, o.whole, false), ',' ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = o.space_no AND c.app_no = p_app AND c.seq > o.after AND c.seq <= o.head
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)))
    WHEN o.swept AND p_firsts IS NOT NULL THEN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, ',"fields":'), ','
                          ORDER BY (r.table_no = ANY (p_firsts)) DESC, r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > 0 AND r.seq <= o.head
          AND NOT r.deleted AND (p_tables IS NULL OR r.table_no = ANY (p_tables)) AND (o.named OR NOT r.table_no = ANY (p_firsts)))
    WHEN o.swept THEN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, ',"fields":'), ',' ORDER BY r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > 0 AND r.seq <= o.head
          AND NOT r.deleted AND (p_tables IS NULL OR r.table_no = ANY (p_tables)))
    ELSE (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, o.space, concat(o.whole, ',"fields":')), ',' ORDER BY r.seq)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = o.space_no AND r.app_no = p_app AND r.seq > o.after AND r.seq <= o.head
          AND (NOT r.deleted OR r.seq > o.base) AND (p_tables IS NULL OR r.table_no = ANY (p_tables)))
    END, '') END
    FROM (SELECT f.*, concat(',"spaceId":', f.quoted, ',"clientId":') AS space, p_bases[f.k] = syncd.sync_phase_base('first', p_seqs[f.k]) AS named
          FROM syncd.sync_feeds_fitting(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left) f OFFSET 0) o
$$;

-- The same for the first generation. p_legacy: as of sync_log_text.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_small_pieces(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                               p_without integer[], p_history boolean, p_left integer, p_tables integer[],
                                               p_legacy boolean, p_firsts integer[])
RETURNS TABLE (k integer, piece text)
LANGUAGE sql STABLE AS $$
    SELECT o.k, CASE WHEN o.large THEN NULL ELSE coalesce(CASE WHEN o.base IS NULL AND p_legacy THEN (
        SELECT l.piece FROM syncd.sync_legacy_log(o.space_no, p_app, o.after, o.head, p_tables, o.quoted, ',') l)
    WHEN o.base IS NULL THEN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, o.quoted, o.whole, true), ',' ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = o.space_no AND c.app_no = p_app AND c.seq > o.after AND c.seq <= o.head
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)))
    WHEN o.swept THEN concat_ws(',', CASE WHEN o.named THEN (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, 0, o.head, o.base, p_tables, o.quoted, NULL, true, p_firsts, true) l) END, (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, 0, o.head, o.base, p_tables, o.quoted, NULL, true, p_firsts, false) l))
    ELSE (
        SELECT l.piece FROM syncd.sync_legacy_state(o.space_no, p_app, o.after, o.head, o.base, p_tables, o.quoted, NULL, false, NULL, NULL) l)
    END, '') END
    FROM (SELECT f.*, p_bases[f.k] = syncd.sync_phase_base('first', p_seqs[f.k]) AS named
          FROM syncd.sync_feeds_fitting(p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left) f OFFSET 0) o
$$;

-- The texts of feeds that are small, by their places in the lists; null: it is to be read by itself. They are read in one statement, as row
-- security looks through all the user's memberships in each: for one in thousands of spaces that costs more than what it reads. What is
-- stored in over 32 KiB is not small, and a page is full after p_bytes.
CREATE OR REPLACE FUNCTION syncd.sync_feeds_together(p_app integer, p_spaces integer[], p_seqs bigint[], p_bases bigint[], p_active integer[],
                                          p_without integer[], p_history boolean, p_left integer, p_tables integer[], p_bytes bigint,
                                          p_legacy boolean, p_firsts integer[]) RETURNS text[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_texts text[] := array_fill(NULL::text, ARRAY[cardinality(p_spaces)]);
    v_read  refcursor;
    f       record;
BEGIN
    IF p_legacy IS FALSE THEN  -- not FOR, which reads fifty ahead
        OPEN v_read FOR SELECT s.* FROM syncd.sync_small_pieces(
            p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left, p_tables, p_firsts) s;
    ELSE
        OPEN v_read FOR SELECT s.* FROM syncd.sync_legacy_small_pieces(
            p_app, p_spaces, p_seqs, p_bases, p_active, p_without, p_history, p_left, p_tables, p_legacy, p_firsts) s;
    END IF;
    WHILE p_bytes > 0 LOOP
        FETCH v_read INTO f;
        EXIT WHEN NOT FOUND;
        v_texts[f.k] := f.piece;
        p_bytes := p_bytes - coalesce(octet_length(f.piece), 0);
    END LOOP;
    CLOSE v_read;
    RETURN v_texts;
END $$;
