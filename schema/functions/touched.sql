-- How many bytes a push may touch: the records that it writes to, as they are, and what it writes to them.
-- Called by functions alone.

-- The bytes of a stored value that is unpacked, at most: a compressed one is up to 255 times as large.
CREATE OR REPLACE FUNCTION syncd.sync_size_at_most(p_held jsonb) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN p_held IS NULL THEN 0 WHEN pg_column_compression(p_held) IS NULL THEN pg_column_size(p_held)
            ELSE 255 * pg_column_size(p_held)::bigint END;

-- The changes of a push that make it touch more than p_most bytes, and those that are not alone in the first of p_bodies. What it
-- touches are the records as they are and what it writes to them, as JSON text; of a deleted record, which the log keeps
-- whole with each change, as often as it is changed. Changes count in their order, record by record. It reads no more than it has to. A
-- change's space, app and table are columns before its record is looked up: with an expression there the planner gives up the order
-- of the primary key, and a restore of 10,000 records takes half a minute.
CREATE OR REPLACE FUNCTION syncd.sync_beyond(p_apps integer[], p_spaces integer[], p_tables integer[], p_seqs bigint[], p_most bigint,
                                  p_bodies json[], OUT beyond integer[], OUT again integer[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_left   bigint := p_most;
    v_read   bigint := 0;
    v_record bigint;
    v_size   bigint;
    d        record;
BEGIN
    beyond := '{}';
    again := '{}';
    FOR d IN SELECT x.i, x.g, x.n, x.m > 1 OR x.w > 1 AS again, h.registers, h.deleted
             FROM (SELECT y.*, b.w, p_spaces[coalesce(y.s, y.k)] AS space_no, p_apps[coalesce(y.s, y.k)] AS app_no, p_tables[y.t] AS table_no, row_number() OVER record AS n, min(y.i) OVER whole AS first, count(*) OVER whole AS m
                   FROM unnest(p_bodies) WITH ORDINALITY AS b (body, w)
                   CROSS JOIN LATERAL json_to_recordset(b.body) AS y (i integer, s integer, k integer, t integer, r text, g jsonb)
                   WHERE p_seqs[y.i] > 0
                   WINDOW whole AS (PARTITION BY y.s, y.k, y.t, y.r), record AS (PARTITION BY y.s, y.k, y.t, y.r ORDER BY y.i)) x
             LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
                SELECT * FROM (
                    SELECT q.registers, q.deleted, q.record_id FROM syncd.sync_records q
                    WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                    ORDER BY q.record_id LIMIT 1) first
                WHERE first.record_id = x.r) h ON true
             ORDER BY x.first, x.i LOOP
        IF d.again THEN
            again := again || d.i;
        END IF;
        IF v_read > 2 * p_most THEN  -- of so much most was too much: the rest is not even looked at
            beyond := beyond || d.i;
            CONTINUE;
        ELSIF d.n = 1 THEN
            v_record := coalesce(octet_length(d.registers::text), 0);
            v_read := v_read + v_record;
        END IF;
        v_size := octet_length(d.g::text) + v_record;
        IF v_size > v_left THEN
            beyond := beyond || d.i;
            CONTINUE;
        END IF;
        v_left := v_left - v_size;
        IF d.deleted IS NOT TRUE THEN
            v_record := 0;  -- it is paid for
        END IF;
    END LOOP;
    beyond := ARRAY(SELECT b FROM unnest(beyond) b ORDER BY b);
END $$;

-- The bounds of a push of one change, for one that may be beyond. Raises SY001, SY008.
CREATE OR REPLACE FUNCTION syncd.sync_check_size(p_registers jsonb, p_head jsonb) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF pg_column_size(p_registers) > (p_head ->> 'largest')::integer THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = '[1]';
    ELSIF octet_length(p_registers::text) > (p_head ->> 'touched')::bigint THEN
        RAISE EXCEPTION 'touched' USING ERRCODE = 'SY008', DETAIL = '[1]';
    END IF;
END $$;
