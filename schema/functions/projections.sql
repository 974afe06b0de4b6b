-- Projections: the records of a table in typed columns with indexes, filled behind the pushes from the state, feed by feed. How far a feed
-- is stands in a row that is moved on in the transaction that writes: a filler that is killed has done all of a step, or nothing.
-- Called by the server (sync_projections_fill, sync_projection_lags), which are SECURITY DEFINER; by a trigger of the state; the others by an
-- operator (`syncd views`), as the owner. The owner reads the state as a consumer does (functions/consume.sql).

-- The column of a projection for a field; p_place: which of its columns.
CREATE OR REPLACE FUNCTION syncd.sync_projection_column(p_place bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat('c', p_place);

-- What a feed's place in a projection is made under, so that a step finds out that another one makes it, and waits for nobody.
CREATE OR REPLACE FUNCTION syncd.sync_projection_key(p_projection integer, p_space integer, p_app integer) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN hashtextextended(concat('syncd.sync_projections ', p_projection, ' ', p_space, ' ', p_app), 0);

-- A field's value in a record `r` for a projection. p_indexed: a text of more than 2,000 bytes has no room in an index, and is null.
CREATE OR REPLACE FUNCTION syncd.sync_projection_value(p_column jsonb, p_indexed boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v text := syncd.sync_report_column(p_column);
BEGIN
    RETURN CASE WHEN p_indexed AND p_column ->> 'type' = 'text' THEN format('CASE WHEN octet_length(%1$s) <= 2000 THEN %1$s END', v) ELSE v END;
END $$;

-- What a projection has of a record, as three lists of SQL by place: its columns, their types, and their values over a record `r`.
CREATE OR REPLACE FUNCTION syncd.sync_projection_parts(p syncd.sync_projections, OUT names text[], OUT types text[], OUT vals text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CASE WHEN e.value ? 'field' THEN syncd.sync_projection_column(e.ordinality) ELSE e.value ->> 'is' END ORDER BY e.ordinality),
           array_agg(e.value ->> 'type' ORDER BY e.ordinality),
           array_agg(syncd.sync_projection_value(e.value, coalesce(e.value ->> 'field' = ANY (p.indexes), false)) ORDER BY e.ordinality)
    FROM jsonb_array_elements(p.columns) WITH ORDINALITY AS e
    WHERE coalesce(e.value ->> 'is', '') NOT IN ('space_id', 'id', 'updated_by')
$$;

-- Makes a projection, empty; its number. It is read by the views alone, under the policy of the state.
CREATE OR REPLACE FUNCTION syncd.sync_projection_make(p_app text, p_table text, p_columns jsonb, p_indexes text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    j      syncd.sync_projections;
    k      record;
    v_name text;
BEGIN
    INSERT INTO syncd.sync_projections (app, table_name, columns, indexes) VALUES (p_app, p_table, p_columns, p_indexes) RETURNING * INTO j;
    k := syncd.sync_projection_parts(j);
    v_name := format('sync_projection_%s', j.projection_id);
    EXECUTE format('CREATE TABLE syncd.%I (space_no integer NOT NULL, record_id text COLLATE "C" NOT NULL, author integer, %s, '
                   'PRIMARY KEY (space_no, record_id))',
                   v_name, (SELECT string_agg(format('%I %s', u.name, u.type), ', ') FROM unnest(k.names, k.types) AS u (name, type)));
    EXECUTE format('ALTER TABLE syncd.%1$I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; '
                   'CREATE POLICY owner_keeps ON syncd.%1$I TO CURRENT_USER USING (true) WITH CHECK (true); '
                   'GRANT SELECT ON syncd.%1$I TO syncd_views', v_name);
    PERFORM syncd.sync_report_bind(v_name);
    -- No statistics of what a reader may compare: EXPLAIN would tell values of others by its estimates.
    EXECUTE (SELECT format('ALTER TABLE syncd.%I %s', v_name, string_agg(format('ALTER COLUMN %I SET STATISTICS 0', u.name), ', '))
             FROM unnest(k.names || ARRAY['record_id', 'author']) AS u (name));
    -- The space first: an index is gone through in the spaces of who reads, and tells nothing about others by the time that it takes.
    INSERT INTO syncd.sync_projection_feeds (projection_id, space_no, app_no)
    SELECT j.projection_id, h.space_no, h.app_no FROM syncd.sync_feeds h JOIN syncd.sync_names a ON a.name = p_app AND a.name_no = h.app_no;
    EXECUTE coalesce((SELECT string_agg(format('CREATE INDEX ON syncd.%I (space_no, %I)', v_name, syncd.sync_projection_column(e.ordinality)), '; ')
                      FROM jsonb_array_elements(p_columns) WITH ORDINALITY AS e WHERE e.value ->> 'field' = ANY (p_indexes)), '');
    RETURN j.projection_id;
END $$;

-- Removes a projection. This waits for a step that fills it.
CREATE OR REPLACE FUNCTION syncd.sync_projection_drop(p_projection integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM syncd.sync_projections j WHERE j.projection_id = p_projection;
    EXECUTE format('DROP TABLE IF EXISTS syncd.%I', format('sync_projection_%s', p_projection));
END $$;

-- The statement that makes the view with indexes, over a projection, of the same columns as that over the state.
CREATE OR REPLACE FUNCTION syncd.sync_projection_view_text(p_view text, p_projection integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT format('CREATE OR REPLACE VIEW syncd_app.%I WITH (security_barrier) AS SELECT %s FROM syncd.%I p',
                p_view, string_agg(format('%s AS %I', CASE e.value ->> 'is'
                        WHEN 'space_id' THEN '(SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = p.space_no)' WHEN 'id' THEN 'p.record_id'
                        WHEN 'updated_by' THEN '(SELECT u.name FROM syncd.sync_names u WHERE u.name_no = p.author)'
                        ELSE format('p.%I', coalesce(e.value ->> 'is', syncd.sync_projection_column(e.ordinality))) END, e.value ->> 'column'), ', ' ORDER BY e.ordinality),
                format('sync_projection_%s', p_projection))
            FROM syncd.sync_projections j CROSS JOIN LATERAL jsonb_array_elements(j.columns) WITH ORDINALITY AS e
            WHERE j.projection_id = p_projection);
END $$;

-- Feeds that projections are behind in: those first that have no place yet, then those that were served longest ago; p_projection: null for
-- all. One that was just made is filled when all that ran as it came to be has ended: that may change records and not know of it.
CREATE OR REPLACE FUNCTION syncd.sync_projections_behind(p_projection integer, p_limit integer)
RETURNS TABLE (projection_id integer, space_no integer, app_no integer, placed boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.projection_id, h.space_no, h.app_no, p.seq IS NOT NULL
    FROM syncd.sync_projections j
    JOIN syncd.sync_names a ON a.name = j.app
    JOIN syncd.sync_feeds h ON h.app_no = a.name_no
    LEFT JOIN syncd.sync_projection_feeds p ON p.projection_id = j.projection_id AND p.space_no = h.space_no AND p.app_no = h.app_no
    WHERE h.head > coalesce(p.seq, 0) AND (p_projection IS NULL OR j.projection_id = p_projection)
      AND pg_snapshot_xmin(pg_current_snapshot()) >= j.fills_from
    ORDER BY p.seq IS NOT NULL, p.moved_at NULLS FIRST LIMIT p_limit
$$;

-- Brings one feed of a projection p_rows records further at most; how many they were, null where another one is at it, or it is gone. A head
-- is moved under the feed's lock, so what is at or below it has committed, and so have the names in it.
CREATE OR REPLACE FUNCTION syncd.sync_projection_advance(p_projection integer, p_space integer, p_app integer, p_rows integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    j       syncd.sync_projections;
    k       record;
    v_from  bigint;
    v_head  bigint;
    v_table integer;
    v_count integer := 0;
    v_last  bigint;
BEGIN
    SELECT q.* INTO j FROM syncd.sync_projections q WHERE q.projection_id = p_projection FOR KEY SHARE;
    IF j.projection_id IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT p.seq INTO v_from FROM syncd.sync_projection_feeds p
    WHERE p.projection_id = p_projection AND p.space_no = p_space AND p.app_no = p_app FOR UPDATE SKIP LOCKED;
    IF v_from IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT h.head INTO v_head FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app;
    SELECT n.name_no INTO v_table FROM syncd.sync_names n WHERE n.name = j.table_name;
    IF v_table IS NOT NULL THEN
        k := syncd.sync_projection_parts(j);
        PERFORM syncd.sync_consume_act(ARRAY[p_app], ARRAY[v_table]);
        EXECUTE format($f$
            WITH picked AS MATERIALIZED (
                SELECT q.* FROM syncd.sync_records q WHERE q.space_no = $1 AND q.app_no = $2 AND q.table_no = $3 AND q.seq > $4 AND q.seq <= $5
                ORDER BY q.seq LIMIT $6),
            written AS (
                INSERT INTO syncd.%1$I AS p (space_no, record_id, author, %2$s)
                SELECT r.space_no, r.record_id, (SELECT c.user_no FROM syncd.sync_changes c WHERE c.space_no = r.space_no AND c.app_no = r.app_no AND c.seq = r.seq), %3$s
                FROM picked r ON CONFLICT (space_no, record_id) DO UPDATE SET (author, %2$s) = ROW (EXCLUDED.author, %4$s))
            SELECT count(*)::integer, max(seq) FROM picked$f$,
            format('sync_projection_%s', p_projection), array_to_string(k.names, ', '), array_to_string(k.vals, ', '),
            (SELECT string_agg(format('EXCLUDED.%I', u.name), ', ') FROM unnest(k.names) AS u (name)))
        INTO v_count, v_last USING p_space, p_app, v_table, v_from, v_head, p_rows;
        PERFORM syncd.sync_consume_act(NULL, NULL);
    END IF;
    UPDATE syncd.sync_projection_feeds p SET seq = CASE WHEN v_count < p_rows THEN v_head ELSE v_last END, moved_at = clock_timestamp()
    WHERE p.projection_id = p_projection AND p.space_no = p_space AND p.app_no = p_app;
    RETURN v_count;
END $$;

-- Brings projections p_rows records further at most, 5,000 in any case, and for about a second. p_projection: null for all. `feeds`: how many
-- were, null where there is no projection; `more`: there is more to do at once; `looked`: the seconds of the look at all feeds. Feeds get their
-- places by 500, as the database has room for so many keys, and in a transaction of their own. A value that the database refuses after all
-- holds up its own feed alone, and is told in the database's log.
CREATE OR REPLACE FUNCTION syncd.sync_projections_step(p_projection integer, p_rows integer, OUT feeds integer, OUT more boolean,
                                                       OUT looked double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_left   integer := least(greatest(p_rows, 1), 5000);
    v_begun  timestamptz := clock_timestamp();
    v_seen   integer := 0;
    v_placed integer := 0;
    v_count  integer;
    f        record;
BEGIN
    more := false;
    -- 0: they have ended. A number beyond the next one is from a database of before.
    UPDATE syncd.sync_projections j
    SET fills_from = CASE WHEN j.fills_from <= pg_snapshot_xmin(pg_current_snapshot()) THEN '0' ELSE pg_snapshot_xmax(pg_current_snapshot()) END
    WHERE j.projection_id = ANY (ARRAY(
        SELECT q.projection_id FROM syncd.sync_projections q
        WHERE q.fills_from IS NULL OR q.fills_from > pg_snapshot_xmax(pg_current_snapshot())
           OR q.fills_from <> '0' AND q.fills_from <= pg_snapshot_xmin(pg_current_snapshot())
        FOR NO KEY UPDATE SKIP LOCKED));
    IF NOT EXISTS (SELECT FROM syncd.sync_projections) THEN
        RETURN;
    END IF;
    feeds := 0;
    FOR f IN SELECT b.* FROM syncd.sync_projections_behind(p_projection, 5000) b LOOP
        looked := coalesce(looked, extract(epoch FROM clock_timestamp() - v_begun));
        v_seen := v_seen + 1;
        IF NOT f.placed THEN
            EXIT WHEN v_placed = 500;
            IF pg_try_advisory_xact_lock(syncd.sync_projection_key(f.projection_id, f.space_no, f.app_no)) THEN
                INSERT INTO syncd.sync_projection_feeds (projection_id, space_no, app_no) VALUES (f.projection_id, f.space_no, f.app_no) ON CONFLICT DO NOTHING;
                v_placed := v_placed + 1;
            END IF;
            CONTINUE;
        END IF;
        EXIT WHEN v_placed > 0;
        BEGIN
            v_count := syncd.sync_projection_advance(f.projection_id, f.space_no, f.app_no, v_left);
            feeds := feeds + CASE WHEN v_count IS NULL THEN 0 ELSE 1 END;
            v_left := v_left - coalesce(v_count, 0);
        EXCEPTION WHEN data_exception OR program_limit_exceeded OR integrity_constraint_violation THEN
            RAISE WARNING 'projection % of feed (%, %): %', f.projection_id, f.space_no, f.app_no, SQLSTATE;
            UPDATE syncd.sync_projection_feeds p SET moved_at = clock_timestamp()
            WHERE p.projection_id = f.projection_id AND p.space_no = f.space_no AND p.app_no = f.app_no;
        END;
        more := feeds > 0 AND (v_left <= 0 OR v_seen = 5000 OR extract(epoch FROM clock_timestamp() - v_begun) > looked + 1);
        EXIT WHEN more;
    END LOOP;
    IF v_placed > 0 THEN
        feeds := v_placed;
        more := true;
    END IF;
    looked := coalesce(looked, extract(epoch FROM clock_timestamp() - v_begun));
END $$;

-- The same; how many feeds were brought on.
CREATE OR REPLACE FUNCTION syncd.sync_projections_fill(p_projection integer, p_rows integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT s.feeds FROM syncd.sync_projections_step(p_projection, p_rows) s);
END $$;

-- Has a record that was changed where it stands, or went, be so in the projections of its table too. It waits for a step that
-- fills the feed, and no step fills it until this transaction ends.
CREATE OR REPLACE FUNCTION syncd.sync_projections_follow() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    j      syncd.sync_projections;
    k      record;
    v_name text;
    v_none boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_projections) THEN
        RETURN NULL;
    END IF;
    -- Nothing is left of a record that was emptied.
    v_none := TG_OP = 'UPDATE' AND NOT EXISTS (SELECT FROM jsonb_each(NEW.registers) e
                                               WHERE e.key <> 'deletedAt' AND jsonb_typeof(e.value -> 'value') IS DISTINCT FROM 'null');
    FOR j IN SELECT q.* FROM syncd.sync_projections q
             JOIN syncd.sync_names a ON a.name = q.app AND a.name_no = OLD.app_no
             JOIN syncd.sync_names t ON t.name = q.table_name AND t.name_no = OLD.table_no
             ORDER BY q.projection_id FOR KEY SHARE OF q LOOP
        PERFORM FROM syncd.sync_projection_feeds p
        WHERE p.projection_id = j.projection_id AND p.space_no = OLD.space_no AND p.app_no = OLD.app_no FOR SHARE;
        IF NOT FOUND THEN
            PERFORM pg_advisory_xact_lock(syncd.sync_projection_key(j.projection_id, OLD.space_no, OLD.app_no));
            INSERT INTO syncd.sync_projection_feeds (projection_id, space_no, app_no) VALUES (j.projection_id, OLD.space_no, OLD.app_no) ON CONFLICT DO NOTHING;
            PERFORM FROM syncd.sync_projection_feeds p
            WHERE p.projection_id = j.projection_id AND p.space_no = OLD.space_no AND p.app_no = OLD.app_no FOR SHARE;
        END IF;
        v_name := format('sync_projection_%s', j.projection_id);
        IF TG_OP = 'DELETE' THEN
            EXECUTE format('DELETE FROM syncd.%I p WHERE p.space_no = $1 AND p.record_id = $2', v_name) USING OLD.space_no, OLD.record_id;
        ELSE
            k := syncd.sync_projection_parts(j);
            EXECUTE format('UPDATE syncd.%I p SET (%s) = (SELECT %s FROM (SELECT ($1).*) r) WHERE p.space_no = $2 AND p.record_id = $3',
                           v_name, array_to_string(k.names, ', '),
                           (SELECT string_agg(CASE WHEN v_none AND u.name ~ '^c[0-9]+$' THEN 'NULL::' || u.type ELSE u.val END, ', ' ORDER BY u.place)
                            FROM unnest(k.names, k.types, k.vals) WITH ORDINALITY AS u (name, type, val, place))) USING NEW, NEW.space_no, NEW.record_id;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- How far each table's projection is behind: feeds, changes of all tables in them, and for how long the oldest waits, of the 100 feeds that were
-- served longest ago. The one that is read where there are two.
CREATE OR REPLACE FUNCTION syncd.sync_projection_lags() RETURNS TABLE (name text, feeds bigint, changes bigint, seconds double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM syncd.sync_consume_act('{0}', '{0}');
    RETURN QUERY
    WITH read AS (
        SELECT DISTINCT ON (v.view_name) j.projection_id, v.view_name AS named, a.name_no AS app_no
        FROM syncd.sync_projections j
        JOIN syncd.sync_report_views v ON v.app = j.app AND v.table_name = j.table_name
        LEFT JOIN syncd.sync_names a ON a.name = j.app
        ORDER BY v.view_name, v.projection_id IS DISTINCT FROM j.projection_id, j.projection_id),
    behind AS MATERIALIZED (
        SELECT d.projection_id, h.space_no, h.app_no, coalesce(p.seq, 0) AS seq, h.head - coalesce(p.seq, 0) AS lacks,
               row_number() OVER (PARTITION BY d.projection_id ORDER BY p.moved_at NULLS FIRST) AS place
        FROM read d JOIN syncd.sync_feeds h ON h.app_no = d.app_no
        LEFT JOIN syncd.sync_projection_feeds p ON p.projection_id = d.projection_id AND p.space_no = h.space_no AND p.app_no = h.app_no
        WHERE h.head > coalesce(p.seq, 0))
    SELECT d.named, (SELECT count(*) FROM behind b WHERE b.projection_id = d.projection_id),
           (SELECT coalesce(sum(b.lacks), 0)::bigint FROM behind b WHERE b.projection_id = d.projection_id),
           coalesce((SELECT max(extract(epoch FROM clock_timestamp() - (
               SELECT c.created_at FROM syncd.sync_changes c
               WHERE c.space_no = b.space_no AND c.app_no = b.app_no AND c.seq > b.seq ORDER BY c.seq LIMIT 1)))
               FROM behind b WHERE b.projection_id = d.projection_id AND b.place <= 100), 0)::double precision
    FROM read d;
    PERFORM syncd.sync_consume_act(NULL, NULL);
END $$;
