-- Where a page of a feed ends: after so many rows or bytes, and always between two pushes.
-- Called by functions alone.

-- The most that a page has of one push, in bytes. None that was bounded (functions/touched.sql) has as much; of one from before
-- there was a bound, or of an import, a page may have a part.
CREATE OR REPLACE FUNCTION syncd.sync_page_most() RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 67108864;

-- The bytes of a stored value as text: a compressed one is unpacked, any other is about as long as it is stored.
CREATE OR REPLACE FUNCTION syncd.sync_change_size(p_fields json) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_column_compression(p_fields) IS NULL THEN pg_column_size(p_fields) ELSE octet_length(p_fields::text) END;

CREATE OR REPLACE FUNCTION syncd.sync_record_size(p_registers jsonb) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_column_compression(p_registers) IS NULL THEN pg_column_size(p_registers) ELSE octet_length(p_registers::text) END;

-- Where a page of the log ends: after p_limit rows or p_bytes bytes, and between two pushes. What is compressed is unpacked to
-- be measured as far as the page reaches, and no further: the sums run along the index, and end with the first that is enough.
CREATE OR REPLACE FUNCTION syncd.sync_log_cut(p_space integer, p_app integer, p_after bigint, p_head bigint,
                                   p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_cut    bigint := p_head;
    v_size   bigint;
    v_packed boolean;
    v_full   record;
BEGIN
    IF p_head - p_after > p_limit THEN
        SELECT c.push_end INTO v_cut FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq >= p_after + p_limit ORDER BY c.seq LIMIT 1;
        v_cut := least(coalesce(v_cut, p_head), p_head);
    END IF;
    SELECT sum(pg_column_size(c.fields)), bool_or(pg_column_compression(c.fields) IS NOT NULL) INTO v_size, v_packed
    FROM syncd.sync_changes c
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_cut;
    IF v_size <= p_bytes AND NOT v_packed THEN
        RETURN v_cut;
    END IF;
    SELECT s.* INTO v_full FROM (
        SELECT c.seq, c.push_end, sum(syncd.sync_change_size(c.fields)) OVER (ORDER BY c.seq) AS total
        FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= v_cut) s
    WHERE s.total >= p_bytes ORDER BY s.seq LIMIT 1;
    v_cut := least(coalesce(v_full.push_end, v_cut), v_cut);
    SELECT s.* INTO v_full FROM (  -- a push without a bound
        SELECT c.seq, sum(syncd.sync_change_size(c.fields)) OVER (ORDER BY c.seq) AS total
        FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > v_full.seq AND c.seq <= v_cut) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq LIMIT 1;
    RETURN coalesce(v_full.seq - 1, v_cut);
END $$;

-- The same for the state, whose rows lie at the seq that touched them last.
CREATE OR REPLACE FUNCTION syncd.sync_state_cut(p_space integer, p_app integer, p_after bigint, p_head bigint,
                                     p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last   bigint;
    v_upto   bigint;
    v_size   bigint;
    v_packed boolean;
    v_cut    bigint;
    v_full   bigint;
BEGIN
    SELECT r.seq INTO v_last FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_head
    ORDER BY r.seq OFFSET p_limit - 1 LIMIT 1;
    v_upto := coalesce(v_last, p_head);  -- coalesce in a condition counts as leaky: row security would keep it off the index
    SELECT sum(pg_column_size(r.registers)), bool_or(pg_column_compression(r.registers) IS NOT NULL) INTO v_size, v_packed
    FROM syncd.sync_records r
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= v_upto;
    IF v_size > p_bytes OR v_packed THEN
        SELECT s.seq INTO v_full FROM (
            SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq) AS total
            FROM syncd.sync_records r
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= v_upto) s
        WHERE s.total >= p_bytes ORDER BY s.seq LIMIT 1;
        v_last := coalesce(v_full, v_last);  -- as text it may be smaller than as stored, and fit
    END IF;
    IF v_last IS NULL THEN
        RETURN p_head;
    END IF;
    v_cut := least(p_head, coalesce((SELECT c.push_end FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq = v_last), v_last));
    IF v_cut <= v_last THEN
        RETURN v_cut;
    END IF;
    SELECT s.seq INTO v_full FROM (  -- a push without a bound
        SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq) AS total
        FROM syncd.sync_records r
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_last AND r.seq <= v_cut) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq LIMIT 1;
    RETURN coalesce(v_full - 1, v_cut);
END $$;

-- How far down a page of a sweep reaches: after p_limit rows or p_bytes bytes, and always between two pushes. Looked for some rows at a time:
-- a page that is full of bytes has far fewer rows than it might.
CREATE OR REPLACE FUNCTION syncd.sync_sweep_cut(p_space integer, p_app integer, p_upto bigint, p_limit integer, p_bytes bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_above bigint := p_upto + 1;
    v_rows  bigint := p_limit;
    v_bytes bigint := p_bytes;
    v_last  bigint;
    v_cut   bigint;
    v_full  bigint;
    f       record;
BEGIN
    WHILE v_last IS NULL LOOP
        SELECT min(s.seq) AS seq, count(*) AS rows, sum(s.size) AS size, bool_or(s.packed) AS packed INTO f FROM (
            SELECT r.seq, pg_column_size(r.registers) AS size, pg_column_compression(r.registers) IS NOT NULL AS packed FROM syncd.sync_records r
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq < v_above ORDER BY r.seq DESC LIMIT least(v_rows, 500)) s;
        IF f.rows = 0 THEN
            RETURN 0;
        ELSIF f.size >= v_bytes OR f.packed THEN
            SELECT max(s.seq) FILTER (WHERE s.total >= v_bytes), max(s.total) INTO v_last, f.size FROM (  -- unpacked it may still fit
                SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq DESC) AS total FROM syncd.sync_records r
                WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq >= f.seq AND r.seq < v_above) s;
        END IF;
        v_rows := v_rows - f.rows; v_bytes := v_bytes - f.size; v_above := f.seq;
        v_last := CASE WHEN v_last IS NULL AND v_rows <= 0 THEN f.seq ELSE v_last END;
    END LOOP;
    v_cut := coalesce((SELECT c.seq FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq < v_last AND c.push_end < v_last ORDER BY c.seq DESC LIMIT 1), 0);
    IF v_cut >= v_last - 1 THEN
        RETURN v_cut;
    END IF;
    SELECT s.seq INTO v_full FROM (  -- a push without a bound
        SELECT r.seq, sum(syncd.sync_record_size(r.registers)) OVER (ORDER BY r.seq DESC) AS total
        FROM syncd.sync_records r
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_cut AND r.seq < v_last) s
    WHERE s.total > syncd.sync_page_most() ORDER BY s.seq DESC LIMIT 1;
    RETURN coalesce(v_full, v_cut);
END $$;
