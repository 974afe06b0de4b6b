-- Digests: what a device compares its replica with. A record's digest is of its stamps; that of a set of records is the
-- exclusive or of theirs, so it does not depend on order, and a record goes in and out of it by the same operation.
-- Nothing is done for it when a record is written. The asker for a digest first folds in what was touched since the
-- last time, in small transactions of its own; what is touched in between is reckoned with when it is read.
-- Called by the role that serves: sync_digest and sync_digest_fold; sync_digest_forget by a trigger of sync_records.

-- A record's digest: table, id, and for each register its name, instant and writer, a line each. No name holds a line feed.
CREATE OR REPLACE FUNCTION syncd.sync_digest_of(p_table text, p_record text, p_registers jsonb) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN concat('x', substr(encode(sha256(convert_to(concat(p_table, E'\n', p_record, (
    SELECT string_agg(concat(E'\n', r.key, E'\n', r.value ->> 'at', E'\n', r.value ->> 'clientId'), '' ORDER BY r.key COLLATE "C")
    FROM jsonb_each(p_registers) r)), 'UTF8')), 'hex'), 1, 16))::bit(64)::bigint;

-- In which of the 256 parts of its feed a record is compared.
CREATE OR REPLACE FUNCTION syncd.sync_digest_bucket(p_table text, p_record text) RETURNS smallint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN get_byte(sha256(convert_to(concat(p_table, E'\n', p_record), 'UTF8')), 0)::smallint;

-- A digest as the wire has it.
CREATE OR REPLACE FUNCTION syncd.sync_digest_text(p_digest bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN lpad(to_hex(p_digest), 16, '0');

-- Folds in up to p_limit records of a feed that the acting user may read. Returns how many it looked at; null where
-- somebody else is folding this feed.
CREATE OR REPLACE FUNCTION syncd.sync_digest_fold_feed(p_space integer, p_app integer, p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_folded bigint;
    v_upto   bigint;
    v_count  integer;
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.space_no = p_space) THEN
        RETURN 0;
    END IF;
    INSERT INTO syncd.sync_digests (space_no, app_no, folded) VALUES (p_space, p_app, 0) ON CONFLICT DO NOTHING;
    SELECT d.folded INTO v_folded FROM syncd.sync_digests d
    WHERE d.space_no = p_space AND d.app_no = p_app FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH touched AS MATERIALIZED (
        SELECT q.seq, q.table_no, q.record_id, syncd.sync_digest_bucket(t.name, q.record_id) AS bucket,
               CASE WHEN NOT q.deleted THEN syncd.sync_digest_of(t.name, q.record_id, q.registers) END AS digest
        FROM (SELECT r.* FROM syncd.sync_records r
              WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_folded ORDER BY r.seq LIMIT p_limit) q
        CROSS JOIN LATERAL (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = q.table_no OFFSET 0) t
    ), met AS MATERIALIZED (
        SELECT t.*, d.digest AS held FROM touched t
        LEFT JOIN LATERAL (SELECT e.digest FROM syncd.sync_digest_records e
            WHERE e.space_no = p_space AND e.app_no = p_app AND e.bucket = t.bucket AND e.table_no = t.table_no
              AND e.record_id = t.record_id OFFSET 0) d ON true
    ), kept AS (
        INSERT INTO syncd.sync_digest_records AS d (digest, space_no, app_no, table_no, bucket, record_id)
        SELECT m.digest, p_space, p_app, m.table_no, m.bucket, m.record_id FROM met m WHERE m.digest IS NOT NULL OR m.held IS NOT NULL
        ON CONFLICT (space_no, app_no, bucket, table_no, record_id) DO UPDATE SET digest = EXCLUDED.digest
    ), news AS (
        SELECT x.table_no, x.bucket, sum(x.n)::integer AS n, bit_xor(x.digest) AS digest FROM (
            SELECT m.table_no, m.bucket, -1 AS n, m.held AS digest FROM met m WHERE m.held IS NOT NULL
            UNION ALL SELECT m.table_no, m.bucket, 1, m.digest FROM met m WHERE m.digest IS NOT NULL) x
        GROUP BY x.table_no, x.bucket
    ), counted AS (
        INSERT INTO syncd.sync_digest_buckets AS b (space_no, app_no, table_no, bucket, records, digest)
        SELECT p_space, p_app, n.table_no, n.bucket, n.n, n.digest FROM news n
        ON CONFLICT (space_no, app_no, table_no, bucket) DO UPDATE SET records = b.records + EXCLUDED.records, digest = b.digest # EXCLUDED.digest
    )
    SELECT count(*), max(t.seq) INTO v_count, v_upto FROM touched t;
    IF v_upto > v_folded THEN
        UPDATE syncd.sync_digests d SET folded = v_upto WHERE d.space_no = p_space AND d.app_no = p_app;
    END IF;
    RETURN v_count;
END $$;

-- A record that is removed, not deleted: a tombstone that nobody needs any more. It may have been folded in alive.
CREATE OR REPLACE FUNCTION syncd.sync_digest_forget() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_bucket smallint := (SELECT syncd.sync_digest_bucket(t.name, OLD.record_id) FROM syncd.sync_names t WHERE t.name_no = OLD.table_no);
    v_digest bigint;
BEGIN
    PERFORM FROM syncd.sync_digests d WHERE d.space_no = OLD.space_no AND d.app_no = OLD.app_no FOR UPDATE;
    DELETE FROM syncd.sync_digest_records d
    WHERE d.space_no = OLD.space_no AND d.app_no = OLD.app_no AND d.bucket = v_bucket AND d.table_no = OLD.table_no
      AND d.record_id = OLD.record_id
    RETURNING d.digest INTO v_digest;
    IF v_digest IS NOT NULL THEN
        UPDATE syncd.sync_digest_buckets b SET records = b.records - 1, digest = b.digest # v_digest
        WHERE b.space_no = OLD.space_no AND b.app_no = OLD.app_no AND b.table_no = OLD.table_no AND b.bucket = v_bucket;
    END IF;
    RETURN NULL;
END $$;

-- How many records are not folded in yet, counted up to p_most.
CREATE OR REPLACE FUNCTION syncd.sync_digest_lag(p_space integer, p_app integer, p_most integer) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_folded bigint := coalesce((SELECT d.folded FROM syncd.sync_digests d WHERE d.space_no = p_space AND d.app_no = p_app), 0);
BEGIN
    RETURN (SELECT count(*) FROM (SELECT FROM syncd.sync_records r
            WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_folded ORDER BY r.seq LIMIT p_most) s);
END $$;

-- The records that were touched since they were folded in, as they are: a null digest is a deleted one. p_tables: null for all.
CREATE OR REPLACE FUNCTION syncd.sync_digest_touched(p_space integer, p_app integer, p_tables integer[])
RETURNS TABLE (table_no integer, record_id text, bucket smallint, digest bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_folded bigint := coalesce((SELECT d.folded FROM syncd.sync_digests d WHERE d.space_no = p_space AND d.app_no = p_app), 0);
BEGIN
    RETURN QUERY
    SELECT r.table_no, r.record_id, syncd.sync_digest_bucket(t.name, r.record_id),
           CASE WHEN NOT r.deleted THEN syncd.sync_digest_of(t.name, r.record_id, r.registers) END
    FROM syncd.sync_records r
    CROSS JOIN LATERAL (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = r.table_no OFFSET 0) t
    WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > v_folded AND (p_tables IS NULL OR r.table_no = ANY (p_tables));
END $$;

-- A feed's digest by bucket, as of the snapshot: what is folded in, without what was touched since, and with it as it is now.
CREATE OR REPLACE FUNCTION syncd.sync_digest_now(p_space integer, p_app integer, p_tables integer[])
RETURNS TABLE (bucket smallint, records bigint, digest bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH touched AS MATERIALIZED (
        SELECT * FROM syncd.sync_digest_touched(p_space, p_app, p_tables)
    )
    SELECT x.bucket, sum(x.n), bit_xor(x.digest) FROM (
        SELECT b.bucket, b.records AS n, b.digest FROM syncd.sync_digest_buckets b
        WHERE b.space_no = p_space AND b.app_no = p_app AND (p_tables IS NULL OR b.table_no = ANY (p_tables))
        UNION ALL
        SELECT d.bucket, -1, d.digest FROM touched t CROSS JOIN LATERAL (SELECT e.bucket, e.digest FROM syncd.sync_digest_records e
            WHERE e.space_no = p_space AND e.app_no = p_app AND e.bucket = t.bucket AND e.table_no = t.table_no
              AND e.record_id = t.record_id AND e.digest IS NOT NULL OFFSET 0) d
        UNION ALL
        SELECT t.bucket, 1, t.digest FROM touched t WHERE t.digest IS NOT NULL) x
    GROUP BY x.bucket HAVING sum(x.n) <> 0 OR bit_xor(x.digest) <> 0;
END $$;

-- The living records of one bucket, as of the snapshot.
CREATE OR REPLACE FUNCTION syncd.sync_digest_bucket_now(p_space integer, p_app integer, p_tables integer[], p_bucket integer)
RETURNS TABLE (table_no integer, record_id text, digest bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH touched AS MATERIALIZED (
        SELECT * FROM syncd.sync_digest_touched(p_space, p_app, p_tables) t WHERE t.bucket = p_bucket
    )
    SELECT d.table_no, d.record_id, d.digest FROM syncd.sync_digest_records d
    WHERE d.space_no = p_space AND d.app_no = p_app AND d.bucket = p_bucket AND d.digest IS NOT NULL AND (p_tables IS NULL OR d.table_no = ANY (p_tables))
      AND NOT EXISTS (SELECT FROM touched t WHERE t.table_no = d.table_no AND t.record_id = d.record_id)
    UNION ALL
    SELECT t.table_no, t.record_id, t.digest FROM touched t WHERE t.digest IS NOT NULL;
END $$;

-- The feeds of the acting user in an app, or the one in p_space (an id), with their heads and where the device stands in
-- them: p_since as sync_pull takes it, or null for one that does not say. `there`: at the head.
CREATE OR REPLACE FUNCTION syncd.sync_digest_feeds(p_user integer, p_app integer, p_space text, p_since jsonb)
RETURNS TABLE (space_no integer, space_id text, quoted text, head bigint, there boolean)
LANGUAGE sql STABLE AS $$
    SELECT s.space_no, s.space_id, s.quoted, coalesce(h.head, 0),
           p_since IS NULL OR coalesce(c.seq = coalesce(h.head, 0) AND c.base = -1, false)
    FROM syncd.sync_memberships m
    JOIN syncd.sync_spaces s ON s.space_no = m.space_no
    LEFT JOIN syncd.sync_feeds h ON h.space_no = m.space_no AND h.app_no = p_app
    LEFT JOIN syncd.sync_cursor_positions(p_user, p_since) c ON c.space_no = m.space_no
    WHERE m.user_no = p_user AND (p_space IS NULL OR s.space_id = p_space)
    ORDER BY s.space_no
$$;

-- The tables that a call names, by number; null for all.
CREATE OR REPLACE FUNCTION syncd.sync_digest_tables(p_call jsonb) RETURNS integer[]
LANGUAGE sql STABLE
RETURN CASE WHEN p_call ? 'tables' THEN syncd.sync_tables_in(p_call -> 'tables') END;

-- Digests of the acting user's feeds. STABLE, so that heads and records are of one snapshot.
CREATE OR REPLACE FUNCTION syncd.sync_digest_acting(p_user integer, p_call jsonb) RETURNS syncd.sync_digest_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_digest_page;
    v_app    integer := coalesce((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app'), 0);
    v_tables integer[] := syncd.sync_digest_tables(p_call);
    v_pieces text[] := '{}';
    v_lag    bigint := (p_call ->> 'lag')::bigint;
    v_waits  bigint;
    f        record;
    d        record;
BEGIN
    v.behind := '{}';
    v.unready := '{}';
    FOR f IN SELECT * FROM syncd.sync_digest_feeds(p_user, v_app, p_call ->> 'space', p_call -> 'since') LOOP
        IF NOT f.there THEN
            v.behind := v.behind || f.space_id;
            CONTINUE;
        END IF;
        v_waits := syncd.sync_digest_lag(f.space_no, v_app, v_lag::integer + 1);
        IF v_waits > v_lag THEN
            v.unready := v.unready || f.space_id;
        ELSE
            v_lag := v_lag - v_waits;
            SELECT coalesce(sum(b.records), 0) AS records, coalesce(bit_xor(b.digest), 0) AS digest,
                   string_agg(concat('[', b.bucket, ',', b.records, ',"', syncd.sync_digest_text(b.digest), '"]'), ',' ORDER BY b.bucket) AS buckets
            INTO d FROM syncd.sync_digest_now(f.space_no, v_app, v_tables) b;
            v_pieces := v_pieces || concat('{"spaceId":', f.quoted, ',"seq":', f.head, ',"records":', d.records,
                ',"digest":"', syncd.sync_digest_text(d.digest), '"',
                CASE WHEN p_call ? 'space' THEN concat(',"buckets":[', d.buckets, ']') END, '}');
        END IF;
    END LOOP;
    v.body := array_to_string(v_pieces, ',');
    RETURN v;
END $$;

-- Compares one bucket of a feed with what a device has there: p_call -> 'records': [[table, id, digest]]. `body`: what the device
-- has not or has otherwise, in the form of a snapshot. At most "limit" differences and some "bytes" are told at a time.
CREATE OR REPLACE FUNCTION syncd.sync_digest_compare(p_user integer, p_call jsonb) RETURNS syncd.sync_digest_page
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v        syncd.sync_digest_page;
    v_app    integer := coalesce((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app'), 0);
    v_left   integer := (p_call ->> 'limit')::integer;
    v_bytes  bigint := (p_call ->> 'bytes')::bigint;
    v_pieces text[] := '{}';
    v_gone   text[] := '{}';
    f        record;
    d        record;
BEGIN
    v.more := false;
    SELECT * INTO f FROM syncd.sync_digest_feeds(p_user, v_app, p_call ->> 'space', p_call -> 'since');
    IF NOT f.there THEN
        RAISE EXCEPTION 'digest_behind' USING ERRCODE = 'SY010';
    ELSIF syncd.sync_digest_lag(f.space_no, v_app, (p_call ->> 'lag')::integer + 1) > (p_call ->> 'lag')::integer THEN
        RAISE EXCEPTION 'busy' USING ERRCODE = 'SY010';
    END IF;
    v.seq := f.head;
    FOR d IN
        WITH ours AS MATERIALIZED (
            SELECT t.name AS tbl, b.record_id AS id, syncd.sync_digest_text(b.digest) AS digest
            FROM syncd.sync_digest_bucket_now(f.space_no, v_app, syncd.sync_digest_tables(p_call), (p_call ->> 'bucket')::integer) b
            CROSS JOIN LATERAL (SELECT n.name FROM syncd.sync_names n WHERE n.name_no = b.table_no OFFSET 0) t
        ), theirs AS MATERIALIZED (
            SELECT DISTINCT ON (1, 2) e ->> 0 AS tbl, e ->> 1 AS id, e ->> 2 AS digest FROM jsonb_array_elements(p_call -> 'records') e
        ), named AS MATERIALIZED (  -- coalesce counts as leaky: row security would keep it off the index
            SELECT coalesce(o.tbl, t.tbl) AS tbl, coalesce(o.id, t.id) AS id
            FROM ours o FULL JOIN theirs t ON t.tbl = o.tbl AND t.id = o.id WHERE o.digest IS DISTINCT FROM t.digest
        )
        SELECT n.tbl, n.id, r.seq FROM named n
        LEFT JOIN LATERAL (SELECT a.name_no FROM syncd.sync_names a WHERE a.name = n.tbl OFFSET 0) t ON true
        LEFT JOIN LATERAL (SELECT q.seq, q.record_id FROM syncd.sync_records q  -- one probe of the primary key, as in sync_apply
            WHERE q.space_no = f.space_no AND q.app_no = v_app AND q.table_no = t.name_no AND q.record_id >= n.id
            ORDER BY q.record_id LIMIT 1) r ON r.record_id = n.id
        ORDER BY r.seq NULLS FIRST, n.tbl, n.id LIMIT v_left + 1
    LOOP
        IF v_left = 0 OR v_bytes <= 0 THEN
            v.more := true;
            EXIT;
        ELSIF d.seq IS NULL THEN
            v_gone := v_gone || json_build_array(d.tbl, d.id)::text;
        ELSE  -- a seq is one record's
            v_pieces := v_pieces || syncd.sync_state_text(f.space_no, v_app, d.seq - 1, d.seq, 0, NULL, false, f.quoted);
            v_bytes := v_bytes - octet_length(v_pieces[cardinality(v_pieces)]);
        END IF;
        v_left := v_left - 1;
    END LOOP;
    v.body := array_to_string(v_pieces, ',');
    v.gone := concat('[', array_to_string(v_gone, ','), ']');
    RETURN v;
END $$;

-- Whether the log that the cursor is of is still this one, and the space that is asked for the caller's.
CREATE OR REPLACE FUNCTION syncd.sync_digest_trouble(p_user integer, p_call jsonb) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_call ? 'space' AND syncd.sync_space_read(p_call ->> 'space', p_call ->> 'user') IS NULL AND p_call ? 'bucket' THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';  -- a personal space before its first use
    ELSIF p_call -> 'since' ? 's' THEN
        RETURN (syncd.sync_pull_acting(p_user, p_call ->> 'app', p_call -> 'since', '{"limit": 1, "bytes": 1, "peek": true}')).trouble;
    END IF;
    RETURN NULL;
END $$;

-- A question about digests: {"user", "app", "since"?: as for a pull, "space"?: id, "tables"?, "lag": records that may be waiting in all,
-- "bucket"?, "records"?, "limit"?, "bytes"?, "list"?, "asOf"?}. With "bucket" it is compared, else told.
CREATE OR REPLACE FUNCTION syncd.sync_digest(p_call jsonb) RETURNS syncd.sync_digest_page
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v      syncd.sync_digest_page;
    v_user integer := syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ? 'list');
BEGIN
    IF p_call ? 'list' THEN
        PERFORM syncd.sync_adopt(p_call -> 'list', to_timestamp((p_call ->> 'asOf')::bigint / 1000000.0));
    END IF;
    PERFORM syncd.sync_start();
    v.trouble := syncd.sync_digest_trouble(v_user, p_call);
    IF v.trouble IS NOT NULL THEN
        RETURN v;
    ELSIF p_call ? 'bucket' THEN
        RETURN syncd.sync_digest_compare(v_user, p_call);
    END IF;
    RETURN syncd.sync_digest_acting(v_user, p_call);
END $$;

-- Folds in up to "chunk" records of the feeds that the same question is about. True where there may be more to fold.
CREATE OR REPLACE FUNCTION syncd.sync_digest_fold(p_call jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_user integer := syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ? 'list');
    v_app  integer := (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = p_call ->> 'app');
    v_left integer := (p_call ->> 'chunk')::integer;
    v_more boolean := false;
    v_done integer;
    f      record;
BEGIN
    IF p_call ? 'list' THEN
        PERFORM syncd.sync_adopt(p_call -> 'list', to_timestamp((p_call ->> 'asOf')::bigint / 1000000.0));
    END IF;
    FOR f IN SELECT q.space_no FROM syncd.sync_digest_feeds(v_user, v_app, p_call ->> 'space', NULL) q WHERE q.head > 0 LOOP
        IF v_left = 0 THEN
            RETURN true;
        ELSIF syncd.sync_digest_lag(f.space_no, v_app, 1) > 0 THEN
            v_done := syncd.sync_digest_fold_feed(f.space_no, v_app, v_left);
            v_more := v_more OR v_done IS NULL;
            v_left := v_left - coalesce(v_done, 0);
        END IF;
    END LOOP;
    RETURN v_more OR v_left = 0;
END $$;
