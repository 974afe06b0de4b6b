-- Names and their numbers: users, apps, tables and devices have one of a common table, which everything else stores.
-- Called by the role that serves. Those that are SECURITY DEFINER are the only way to a new name, and count whose it is.

-- Numbers of a kind ('name', 'space') that nothing has. What a transaction takes and is refused lies ready again, so that no
-- refusal uses one up. Where too few lie ready: raises SY013 (kind and count) for a worker, which has more put there and comes
-- again; anybody else gets the sequence's next.
CREATE OR REPLACE FUNCTION syncd.sync_numbers_take(p_kind text, p_count bigint) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v integer[];
BEGIN
    WITH taken AS (
        DELETE FROM syncd.sync_numbers t WHERE t.kind = p_kind AND t.no = ANY (ARRAY(
            SELECT o.no FROM syncd.sync_numbers o WHERE o.kind = p_kind ORDER BY o.no LIMIT p_count FOR UPDATE SKIP LOCKED))
        RETURNING t.no)
    SELECT coalesce(array_agg(t.no ORDER BY t.no), '{}') INTO v FROM taken t;
    IF cardinality(v) < p_count THEN
        IF coalesce(current_setting('syncd.max_names', true), '') <> '' THEN
            RAISE EXCEPTION 'numbers' USING ERRCODE = 'SY013', DETAIL = jsonb_build_array(p_kind, p_count)::text;
        END IF;
        PERFORM pg_advisory_xact_lock_shared(hashtext('syncd.sync_numbers'), 1);  -- the sequence goes back for nobody meanwhile
        v := v || ARRAY(SELECT syncd.sync_number_next(p_kind) FROM generate_series(1, p_count - cardinality(v)));
    END IF;
    RETURN v;
END $$;

-- The next number that never was anybody's. Raises 2200H when there is none.
CREATE OR REPLACE FUNCTION syncd.sync_number_next(p_kind text) RETURNS integer
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT nextval(CASE p_kind WHEN 'name' THEN pg_get_serial_sequence('syncd.sync_names', 'name_no')
                               ELSE pg_get_serial_sequence('syncd.sync_spaces', 'space_no') END)::integer
$$;

-- Puts numbers there: in a transaction of its own, which is not refused. As many lie ready in the end as a large batch takes,
-- beside those that others are just taking, and no more, so that little is lost with a database that is thrown away. One call adds
-- 5,000 at most; who needs more calls again. Numbers of calls that were rolled back come again: the sequence goes back to the greatest
-- one that is used or ready where it is far beyond it. Not by an old snapshot, and not while others have its next ones.
CREATE OR REPLACE FUNCTION syncd.sync_numbers_make(p_kind text, p_count bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_sequence regclass := CASE p_kind WHEN 'name' THEN pg_get_serial_sequence('syncd.sync_names', 'name_no')
                                       ELSE pg_get_serial_sequence('syncd.sync_spaces', 'space_no') END;
    v_wanted   bigint := greatest(2000, least(p_count, 500000));
    v_ready    bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('syncd.sync_numbers'), 0);
    SELECT count(*) INTO v_ready FROM (
        SELECT FROM syncd.sync_numbers o WHERE o.kind = p_kind LIMIT v_wanted FOR UPDATE SKIP LOCKED) r;
    IF v_ready < v_wanted AND pg_sequence_last_value(v_sequence) > syncd.sync_numbers_reached(p_kind) + 20000
            AND current_setting('transaction_isolation') = 'read committed'
            AND pg_try_advisory_xact_lock(hashtext('syncd.sync_numbers'), 1) THEN
        PERFORM setval(v_sequence, greatest(syncd.sync_numbers_reached(p_kind), 1));
    END IF;
    INSERT INTO syncd.sync_numbers (kind, no)
    SELECT p_kind, syncd.sync_number_next(p_kind) FROM generate_series(1, least(v_wanted - v_ready, 5000));
END $$;

-- The greatest number of a kind that is used or lies ready. sync_names_remove leaves it there, so that no greater one was anybody's.
CREATE OR REPLACE FUNCTION syncd.sync_numbers_reached(p_kind text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- By one snapshot: a number that is taken meanwhile is in one of them.
    RETURN (SELECT greatest((SELECT max(o.no) FROM syncd.sync_numbers o WHERE o.kind = p_kind),
                            CASE p_kind WHEN 'name' THEN (SELECT max(n.name_no) FROM syncd.sync_names n)
                                        ELSE (SELECT max(s.space_no) FROM syncd.sync_spaces s) END, 0));
END $$;

-- How many numbers of names and of spaces are used up, of 2^31 - 1 each.
CREATE OR REPLACE FUNCTION syncd.sync_numbers_used(OUT names bigint, OUT spaces bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('syncd.sync_names', 'name_no')::regclass), 0)
               - count(*) FILTER (WHERE n.kind = 'name'),
           coalesce(pg_sequence_last_value(pg_get_serial_sequence('syncd.sync_spaces', 'space_no')::regclass), 0)
               - count(*) FILTER (WHERE n.kind = 'space')
    FROM syncd.sync_numbers n
$$;

-- How many more names the acting user may make; null: any number. Until the transaction ends no other one of the user's counts.
CREATE OR REPLACE FUNCTION syncd.sync_names_left() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_most bigint := nullif(current_setting('syncd.max_names', true), '')::bigint;
BEGIN
    IF v_user IS NULL OR v_most IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('syncd.sync_names'), v_user);
    RETURN greatest(v_most - (SELECT count(*) FROM syncd.sync_names n WHERE n.made_by = v_user), 0);
END $$;

-- Makes the names that there are not, as p_by's; one that was about to be removed stays. In one order, so that two who make
-- the same do not wait for each other in a ring.
CREATE OR REPLACE FUNCTION syncd.sync_names_put(p_names text[], p_by integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_new text[];
BEGIN
    UPDATE syncd.sync_names n SET leaving = false WHERE n.name = ANY (p_names) AND n.leaving;
    v_new := ARRAY(SELECT DISTINCT e.name COLLATE "C" FROM unnest(p_names) AS e (name)
                   WHERE NOT EXISTS (SELECT FROM syncd.sync_names n WHERE n.name = e.name) ORDER BY 1);
    IF v_new <> '{}' THEN
        INSERT INTO syncd.sync_names (name_no, name, quoted, made_by) OVERRIDING SYSTEM VALUE
        SELECT t.no, t.name, to_json(t.name)::text, p_by
        FROM unnest(syncd.sync_numbers_take('name', cardinality(v_new)), v_new) AS t (no, name) ORDER BY t.name
        ON CONFLICT (name) DO NOTHING;
    END IF;
END $$;

-- The same as the acting user's. Raises SY010 (too_many_names) where that would be more than a user may make.
CREATE OR REPLACE FUNCTION syncd.sync_names_add(p_names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := nullif(syncd.sync_user(), 0);
BEGIN
    IF v_user IS NULL THEN
        RAISE EXCEPTION 'nobody acts' USING ERRCODE = 'insufficient_privilege';
    ELSIF (SELECT count(DISTINCT e) FROM unnest(p_names) e WHERE NOT EXISTS (SELECT FROM syncd.sync_names n WHERE n.name = e))
            > syncd.sync_names_left() THEN
        RAISE EXCEPTION 'too_many_names' USING ERRCODE = 'SY010';
    END IF;
    PERFORM syncd.sync_names_put(p_names, v_user);
END $$;

-- Makes the names that changes need, as the acting user's: p_names, each with the place of a change. Raises SY011 (the places of the
-- changes that need more than the user may make, of which the first ones get theirs).
CREATE OR REPLACE FUNCTION syncd.sync_names_needed(p_places integer[], p_names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_new    text[] := ARRAY(
        SELECT n.name FROM (SELECT u.name, min(u.o) AS o FROM unnest(p_names) WITH ORDINALITY AS u (name, o) GROUP BY u.name) n
        WHERE NOT EXISTS (SELECT FROM syncd.sync_names k WHERE k.name = n.name) ORDER BY n.o);
    v_left   bigint := CASE WHEN v_new <> '{}' THEN syncd.sync_names_left() END;
    v_beyond text[];
BEGIN
    IF cardinality(v_new) > v_left THEN
        v_beyond := v_new[v_left + 1:];
        RAISE EXCEPTION 'names' USING ERRCODE = 'SY011', DETAIL = array_to_json(ARRAY(
            SELECT DISTINCT u.place FROM unnest(p_places, p_names) AS u (place, name) WHERE u.name = ANY (v_beyond) ORDER BY 1))::text;
    END IF;
    PERFORM syncd.sync_names_add(p_names);
END $$;

-- The numbers of names, in their order; null for one that there is not, or that is about to be removed.
CREATE OR REPLACE FUNCTION syncd.sync_names_known(p_names text[]) RETURNS integer[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN ARRAY(SELECT (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.name AND NOT n.leaving)
                 FROM unnest(p_names) WITH ORDINALITY AS e (name, place) ORDER BY e.place);
END $$;

-- Makes those names that are missing, as the acting user's, for what is about to be written: before its feeds are locked, as others
-- have their names when they come to a feed. Raises SY010.
CREATE OR REPLACE FUNCTION syncd.sync_names_first(p_names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF array_position(syncd.sync_names_known(p_names), NULL) IS NOT NULL THEN
        PERFORM syncd.sync_names_add(p_names);
    END IF;
END $$;

-- The number of a name, which is added if it is new, for what is being written. Raises SY010.
CREATE OR REPLACE FUNCTION syncd.sync_name(p_name text) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_no integer;
BEGIN
    SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = p_name AND NOT n.leaving;
    IF v_no IS NULL THEN
        PERFORM syncd.sync_names_add(ARRAY[p_name]);
        SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = p_name;
    END IF;
    RETURN v_no;
END $$;
