-- Import of what is new: the batches of an operator's import, of which nothing is here yet, as is mostly so. They come as columns, which are
-- read once, and are looked for and written by a few statements. What is not so goes the way of functions/import.sql.
-- Called by an operator alone, whom row security does not bind.

-- Whether any change of a batch may be here: at its place in its feed, or under its device's id. p_ids: null where that is known. The arrays are
-- those of sync_import_new, by change; p_spaces, p_apps, p_heads: by feed.
CREATE OR REPLACE FUNCTION syncd.sync_import_any_known(p_names integer[], p_spaces integer[], p_apps integer[], p_heads bigint[],
                                            p_feeds integer[], p_seqs bigint[], p_events uuid[], p_ids text[], p_authors integer[],
                                            p_devices integer[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM generate_subscripts(p_seqs, 1) AS p (i) CROSS JOIN LATERAL (
            SELECT FROM syncd.sync_changes c
            WHERE c.space_no = p_spaces[p_feeds[p.i]] AND c.app_no = p_apps[p_feeds[p.i]] AND c.seq = p_seqs[p.i] AND c.event_id = p_events[p.i]
            OFFSET 0) c
        WHERE p_seqs[p.i] <= p_heads[p_feeds[p.i]]
    ) OR EXISTS (  -- one probe an id, whatever the planner believes of the table
        SELECT FROM generate_subscripts(p_ids, 1) AS p (i) CROSS JOIN LATERAL (
            SELECT FROM syncd.sync_changes c
            WHERE c.user_no = p_names[p_authors[p.i]] AND c.client_no = p_names[p_devices[p.i]] AND c.change_id = p_ids[p.i] OFFSET 0) c
    ) OR EXISTS (
        SELECT FROM generate_subscripts(p_ids, 1) AS p (i) CROSS JOIN LATERAL (
            SELECT FROM syncd.sync_restores d
            WHERE d.user_no = p_names[p_authors[p.i]] AND d.client_no = p_names[p_devices[p.i]] AND d.change_id = p_ids[p.i] OFFSET 0) d
        WHERE EXISTS (SELECT FROM syncd.sync_restores));
END $$;

-- Merges and appends changes, no two of one record: those that have registers. Everything is by change, but p_names, p_spaces and p_apps; the
-- arrays from p_tables on are those of sync_import_new. What is new is merged with nothing, and inserted. Returns the places of those whose
-- record became too large.
CREATE OR REPLACE FUNCTION syncd.sync_import_columns(p_names integer[], p_spaces integer[], p_apps integer[], p_feeds integer[], p_seqs bigint[],
    p_ends bigint[], p_ats timestamptz[], p_largest integer, p_events uuid[], p_ids text[], p_authors integer[], p_devices integer[],
    p_tables integer[], p_records text[], p_ops smallint[], p_fields json[], p_registers jsonb[], p_lows bigint[], p_highs bigint[],
    p_versions integer[], p_actors json[], p_origins text[], p_partial boolean[]) RETURNS SETOF integer
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
    WITH met AS MATERIALIZED (
        SELECT x.*, h.registers AS held, h.seq AS prev_seq, h.latest, h.deleted AS was_deleted, p_lows[x.i] > h.latest AS newer
        FROM (SELECT g.i, p_spaces[p_feeds[g.i]] AS space_no, p_apps[p_feeds[g.i]] AS app_no, p_names[p_tables[g.i]] AS table_no,
                     p_records[g.i] AS r FROM generate_subscripts(p_records, 1) AS g (i) WHERE p_registers[g.i] IS NOT NULL) x
        LEFT JOIN LATERAL (  -- one probe of the primary key, as in sync_apply
            SELECT * FROM (
                SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id FROM syncd.sync_records q
                WHERE q.space_no = x.space_no AND q.app_no = x.app_no AND q.table_no = x.table_no AND q.record_id >= x.r
                ORDER BY q.record_id LIMIT 1) first
            WHERE first.record_id = x.r
        ) h ON true
    ), merged AS MATERIALIZED (
        SELECT y.i, y.was_deleted, greatest(y.latest, p_highs[y.i]) AS latest,
               CASE WHEN y.newer THEN y.held || p_registers[y.i] ELSE z.merged END AS registers,
               CASE WHEN y.newer THEN p_fields[y.i] ELSE syncd.sync_imported(z.won, p_fields[y.i]) END AS fields, z.lost
        FROM met y
        LEFT JOIN LATERAL (SELECT m.won, m.lost, m.merged FROM (SELECT WHERE NOT y.newer OFFSET 0) late
                           CROSS JOIN LATERAL syncd.sync_merge(y.held, p_registers[y.i]) m OFFSET 0) z ON true
        WHERE y.prev_seq IS NOT NULL
    ), logged AS (
        INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                        client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
        SELECT p_seqs[y.i], p_ends[y.i], CASE WHEN p_partial[y.i] THEN coalesce(-y.prev_seq, 0) ELSE y.prev_seq END, p_ats[y.i], p_events[y.i],
               y.space_no, y.app_no, y.table_no, p_names[p_authors[y.i]], p_names[p_devices[y.i]], p_versions[y.i], p_ops[y.i], y.r,
               p_ids[y.i], p_origins[y.i], p_actors[y.i],
               CASE WHEN y.prev_seq IS NULL THEN p_fields[y.i] WHEN m.was_deleted THEN syncd.sync_whole(m.registers, m.fields) ELSE m.fields END, m.lost::json
        FROM met y LEFT JOIN merged m ON m.i = y.i
    ), added AS (  -- under the feed's lock nobody else can have made them
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        SELECT p_seqs[y.i], p_highs[y.i], p_events[y.i], y.space_no, y.app_no, y.table_no, p_names[p_devices[y.i]], p_versions[y.i],
               syncd.sync_is_deleted(p_registers[y.i]), y.r, p_registers[y.i]
        FROM met y WHERE y.prev_seq IS NULL
    ), stored AS (
        INSERT INTO syncd.sync_records AS q (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        SELECT p_seqs[y.i], m.latest, p_events[y.i], y.space_no, y.app_no, y.table_no, p_names[p_devices[y.i]], p_versions[y.i],
               syncd.sync_is_deleted(m.registers), y.r, m.registers
        FROM merged m JOIN met y ON y.i = m.i
        ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE
        SET seq = EXCLUDED.seq, latest = EXCLUDED.latest, event_id = EXCLUDED.event_id, client_no = EXCLUDED.client_no,
            schema_version = EXCLUDED.schema_version, deleted = EXCLUDED.deleted, registers = EXCLUDED.registers
    )
    SELECT y.i FROM met y LEFT JOIN merged m ON m.i = y.i WHERE pg_column_size(coalesce(m.registers, p_registers[y.i])) > p_largest;
END $$;

-- One batch of an operator's import, if all of it is new here and nothing was ever erased, else null, and nothing is written. p_head, and by change p_feeds to p_devices:
-- as sync_import has them; p_at: the place of its time in p_times. p_tables to p_partial: what the log keeps of a change, null where its record is
-- in the batch more than once; p_tables are places in the head's names, an array is null where all its members are. p_waves: those others, as in
-- sync_import. heads, and what is raised: as there.
CREATE OR REPLACE FUNCTION syncd.sync_import_new(p_head jsonb, p_feeds integer[], p_seqs bigint[], p_ends bigint[], p_at integer[], p_times text[],
    p_events uuid[], p_ids text[], p_known text[], p_authors integer[], p_devices integer[], p_tables integer[], p_records text[], p_ops smallint[],
    p_fields json[], p_registers jsonb[], p_lows bigint[], p_highs bigint[], p_versions integer[], p_actors json[], p_origins text[],
    p_partial boolean[], p_waves json[], OUT marks text, OUT heads bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_said   text[] := ARRAY(SELECT e FROM jsonb_array_elements_text(p_head -> 'names') e);
    v_names  integer[] := syncd.sync_names_known(v_said);
    v_times  timestamptz[] := p_times::timestamptz[];
    v_marks  text[] := array_fill('a'::text, ARRAY[cardinality(p_feeds)]);
    v_folded bigint[];
    v_large  integer[];
    m        record;
    f        record;
    p        record;
BEGIN
    IF EXISTS (SELECT FROM syncd.sync_erasures) THEN  -- then it is asked of each change whether it is of what was erased
        RETURN;
    END IF;
    m := syncd.sync_import_may(NULL, ARRAY(SELECT e.f ->> 's' FROM jsonb_array_elements(p_head -> 'feeds') WITH ORDINALITY AS e (f, k) ORDER BY e.k));
    IF 'n' = ANY (m.whys) THEN
        RETURN;
    END IF;
    IF array_position(v_names, NULL) IS NOT NULL THEN
        PERFORM syncd.sync_names_put(v_said, NULL);
        v_names := syncd.sync_names_known(v_said);
    END IF;
    f := syncd.sync_import_lock(NULL, p_head, v_names, m.spaces);
    IF syncd.sync_import_any_known(v_names, m.spaces, f.apps, f.heads, p_feeds, p_seqs, p_events, p_known, p_authors, p_devices) THEN
        RETURN;
    END IF;
    p := syncd.sync_import_places(NULL, p_head, m.spaces, f.apps, f.heads, p_feeds, p_seqs, p_ends,
                                  ARRAY(SELECT v_times[e.at] FROM unnest(p_at) WITH ORDINALITY AS e (at, i) ORDER BY e.i), v_marks);
    v_large := ARRAY(SELECT syncd.sync_import_columns(v_names, m.spaces, f.apps, p_feeds, p.seqs, p.ends, p.ats, (p_head ->> 'largest')::integer,
        p_events, p_ids, p_authors, p_devices, p_tables, p_records, p_ops, p_fields, p_registers, p_lows, p_highs, p_versions, p_actors, p_origins, p_partial));
    IF cardinality(p_waves) > 0 THEN
        v_folded := ARRAY(SELECT CASE WHEN p_records[e.i] IS NULL THEN e.seq ELSE 0 END FROM unnest(p.seqs) WITH ORDINALITY AS e (seq, i) ORDER BY e.i);
        v_large := v_large || ARRAY(SELECT a.i FROM syncd.sync_append_folded(NULL, NULL, f.apps, m.spaces, v_names, NULL, v_folded, NULL,
            (p_head ->> 'largest')::integer, p_waves, p.ends, p.ats) a WHERE a.too_large);
    END IF;
    IF v_large <> '{}' THEN
        RAISE EXCEPTION 'large' USING ERRCODE = 'SY001', DETAIL = array_to_json(v_large)::text;
    END IF;
    marks := array_to_string(v_marks, '');
    heads := p.heads;
END $$;

-- What there is of records, and of the changes of theirs that were imported, by place: the registers as JSON text (null: no such record), the
-- record's last seq, and the change's seq (null: not in the log). The other arrays are by place: names and spaces as places in the first two. One probe
-- each, whatever the planner believes of tables that were empty a moment ago: in the order of the ids, for which nothing else has an index.
CREATE OR REPLACE FUNCTION syncd.sync_import_found(p_names text[], p_ids text[], p_spaces integer[], p_apps integer[], p_tables integer[],
    p_records text[], p_authors integer[], p_devices integer[], p_changes text[])
RETURNS TABLE (place integer, registers text, seq bigint, change bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
#variable_conflict use_column
DECLARE
    v_names  integer[] := ARRAY(SELECT (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.name)
                                FROM unnest(p_names) WITH ORDINALITY AS e (name, i) ORDER BY e.i);
    v_spaces integer[] := ARRAY(SELECT (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = e.id)
                                FROM unnest(p_ids) WITH ORDINALITY AS e (id, i) ORDER BY e.i);
BEGIN
    RETURN QUERY
    SELECT f.i, r.registers::text, r.seq, c.seq
    FROM generate_subscripts(p_records, 1) AS f (i)
    LEFT JOIN LATERAL (SELECT first.registers, first.seq FROM (
            SELECT q.registers, q.seq, q.record_id FROM syncd.sync_records q
            WHERE q.space_no = v_spaces[p_spaces[f.i]] AND q.app_no = v_names[p_apps[f.i]] AND q.table_no = v_names[p_tables[f.i]]
              AND q.record_id >= p_records[f.i] ORDER BY q.record_id LIMIT 1) first
        WHERE first.record_id = p_records[f.i]) r ON true
    LEFT JOIN LATERAL (SELECT q.seq FROM syncd.sync_changes q
                       WHERE q.user_no = v_names[p_authors[f.i]] AND q.client_no = v_names[p_devices[f.i]] AND q.change_id = p_changes[f.i]
                       OFFSET 0) c ON true;
END $$;
