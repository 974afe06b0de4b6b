-- The acting user. The context is one number, set for one transaction by sync_act_as; the policies read the memberships
-- themselves, so no list of spaces ever travels in a setting. The number is in a parameter that the owner may set and the role
-- that serves may not. Where the database has a key (sync_context_key), who wants to act shows a context that was signed with it.
-- Called by the role that serves, at the start of a transaction. Those that are SECURITY DEFINER are the only way to a
-- new name, a list of memberships or a personal space.
-- Here and in every area, a function that runs as somebody else has a search_path of its own, and so has each that Python
-- calls: by the caller's, another `text`, `to_json` or `=` may be found, and would run as the owner.

-- The parameter that says who acts: one of PostgreSQL's that has no effect here and takes letters, digits, `_` and `,`. Superusers
-- set it, and those to whom they granted it: the owner, whose functions below do.
CREATE OR REPLACE FUNCTION syncd.sync_acting_in() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 'backtrace_functions';

-- The acting user, or null: then no policy lets a row through. The parameter has the user's number, while one acts, and after a comma
-- what is known of the session: its name, how many of its contexts were used before this transaction, and how many now.
-- `12,9f…,41,44`; while nobody acts `,9f…,44`, or nothing.
CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.split_part(pg_catalog.current_setting('backtrace_functions'), ',', 1), '')::integer;

-- Where nobody granted that parameter, one that everybody may set. `syncd migrate` comes back here when that changes.
DO $$
BEGIN
    IF NOT pg_catalog.has_parameter_privilege(current_user, 'backtrace_functions', 'SET') THEN
        EXECUTE $f$CREATE OR REPLACE FUNCTION syncd.sync_acting_in() RETURNS text
                   LANGUAGE sql STABLE PARALLEL SAFE RETURN 'syncd.user_no'$f$;
        EXECUTE $f$CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
                   RETURN nullif(pg_catalog.split_part(pg_catalog.current_setting('syncd.user_no', true), ',', 1), '')::integer$f$;
    END IF;
END $$;

-- The start of a connection that signs: a name of its own, for which contexts are, and the time, by which they expire.
CREATE OR REPLACE FUNCTION syncd.sync_session(OUT session text, OUT now double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    session := replace(gen_random_uuid()::text, '-', '');
    now := extract(epoch FROM clock_timestamp());
    PERFORM set_config(syncd.sync_acting_in(), concat(',', session, ',0'), false);
END $$;

-- How far the database believes who acts: `signed`, it asks for a proof; `unsigned`, whoever calls says so; `open`, anybody may set the
-- parameter, and no proof is of use.
CREATE OR REPLACE FUNCTION syncd.sync_context_kind() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN NOT has_parameter_privilege(current_user, syncd.sync_acting_in(), 'SET') OR syncd.sync_acting_in() LIKE '%.%' THEN 'open'
                WHEN EXISTS (SELECT FROM syncd.sync_context_key) THEN 'signed' ELSE 'unsigned' END;
END $$;

-- Checks a signed context, and returns what the parameter says after the user's number. Raises SY030 for one that was not signed with the
-- key, is for another purpose (`u`: a user by name, `n`: by number) or session, has expired, or was used before this
-- transaction. A context is a byte 1 and then, in places of fixed width, so that no two read the same: the proof (64 hexadecimal
-- digits), the purpose (1), the session (32), the second in which it expires (10), which of the session's it is (12), and who acts, to
-- the end. The proof is HMAC-SHA256 of what follows it; p_pads: the key as sync_context_key has it.
CREATE OR REPLACE FUNCTION syncd.sync_proven(p_purpose text, p_context text, p_pads bytea) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     text;
    v_said    text;
    v_session text;
    v_before  text;
    v_count   bigint;
BEGIN
    v_now := current_setting(syncd.sync_acting_in(), true);
    v_said := substr(p_context, 66);
    v_session := split_part(v_now, ',', 2);
    v_before := split_part(v_now, ',', 3);
    IF encode(sha256(substr(p_pads, 79) || sha256(substr(p_pads, 1, 78) || convert_to(v_said, 'UTF8'))), 'hex')
            IS DISTINCT FROM substr(p_context, 2, 64)
        OR v_session = '' OR left(v_said, 33) IS DISTINCT FROM p_purpose || v_session
        OR to_timestamp(substr(v_said, 34, 10)::double precision) < statement_timestamp()
        OR substr(v_said, 44, 12)::bigint <= v_before::bigint THEN
        RAISE EXCEPTION 'context' USING ERRCODE = 'SY030';
    END IF;
    v_count := greatest(substr(v_said, 44, 12)::bigint, nullif(split_part(v_now, ',', 4), '')::bigint);
    -- Stays after this transaction, while the user, set next, does not. (An assignment costs a third of a PERFORM.)
    v_now := set_config(syncd.sync_acting_in(), concat(',', v_session, ',', v_count), false);
    RETURN concat(',', v_session, ',', v_before, ',', v_count);
END $$;

-- The same for who shows no context: only who acts as this user already, an operator, and the owner's own functions (`,owner`) go on.
CREATE OR REPLACE FUNCTION syncd.sync_unproven(p_user integer) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now text := current_setting(syncd.sync_acting_in(), true);
BEGIN
    IF p_user = syncd.sync_user() OR split_part(v_now, ',', 2) = 'owner' THEN
        RETURN ltrim(coalesce(v_now, ''), '0123456789');
    ELSIF NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'context' USING ERRCODE = 'SY030';
    END IF;
    RETURN '';
END $$;

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

-- Sets the acting user for this transaction and returns the user's number. p_user: a signed context, or a user where those are not
-- needed. An unknown user is added when p_add says so, because something is written that is the user's, else acts as nobody (0),
-- who is a member of nothing. Raises SY030.
CREATE OR REPLACE FUNCTION syncd.sync_act_as(p_user text, p_add boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_user   text := CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END;
    v_no     integer;
    v_pads   bytea;
    v_rest   text;
BEGIN
    -- Not by sync_name: a function's plans belong to one role, and would be made again at every change of it.
    SELECT (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = v_user AND NOT (n.leaving AND p_add)),
           (SELECT k.pads FROM syncd.sync_context_key k) INTO v_no, v_pads;
    v_rest := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('u', p_user, v_pads)
                   ELSE syncd.sync_unproven(v_no) END;
    IF v_no IS NULL AND p_add THEN
        PERFORM syncd.sync_names_put(ARRAY[v_user], NULL);
        SELECT n.name_no INTO v_no FROM syncd.sync_names n WHERE n.name = v_user;
    END IF;
    v_no := coalesce(v_no, 0);
    v_rest := set_config(syncd.sync_acting_in(), v_no || v_rest, true);
    RETURN v_no;
END $$;

-- The same for a user whose number is known, in a context or as digits.
CREATE OR REPLACE FUNCTION syncd.sync_act_as_number(p_user text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_no     integer := (CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END)::integer;
    v_pads   bytea := (SELECT k.pads FROM syncd.sync_context_key k);
    v_rest   text := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('n', p_user, v_pads)
                          ELSE syncd.sync_unproven(v_no) END;
BEGIN
    v_rest := set_config(syncd.sync_acting_in(), v_no || v_rest, true);
    RETURN v_no;
END $$;

-- Makes the spaces that there are not, called p_name (null: as their id). Returns the numbers of those that it made. Only what is
-- missing is inserted: a row that is not takes a number all the same.
CREATE OR REPLACE FUNCTION syncd.sync_spaces_put(p_ids text[], p_name text) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_new  text[] := ARRAY(SELECT DISTINCT e.id COLLATE "C" FROM unnest(p_ids) AS e (id)
                           WHERE NOT EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_id = e.id) ORDER BY 1);
    v_made integer[] := '{}';
BEGIN
    IF v_new <> '{}' THEN
        WITH made AS (
            INSERT INTO syncd.sync_spaces (space_no, space_id, quoted, name) OVERRIDING SYSTEM VALUE
            SELECT t.no, t.id, to_json(t.id)::text, coalesce(p_name, t.id)
            FROM unnest(syncd.sync_numbers_take('space', cardinality(v_new)), v_new) AS t (no, id) ORDER BY t.id
            ON CONFLICT (space_id) DO NOTHING RETURNING space_no)
        SELECT coalesce(array_agg(m.space_no), '{}') INTO v_made FROM made m;
    END IF;
    RETURN v_made;
END $$;

-- Takes over a membership list that came from outside (token claim, membership service), in the
-- transaction that uses it. p_list: [{"id", "role"}]; a list older than the newest seen is ignored. Refused where the owner
-- says that the table decides.
CREATE OR REPLACE FUNCTION syncd.sync_adopt(p_list jsonb, p_as_of timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_seen syncd.sync_adoptions;
BEGIN
    IF (SELECT s.memberships FROM syncd.sync_server s) <> 'external' THEN
        RAISE EXCEPTION 'memberships are kept in the table' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO v_seen FROM syncd.sync_adoptions a WHERE a.user_no = v_user;
    -- A newer list that says the same moves `as_of` on too, or one from in between could bring a space back; at most
    -- once a second (tokens are made in whole seconds), as a membership service is asked for every request.
    IF v_seen.as_of > p_as_of OR v_seen.list = p_list AND p_as_of < v_seen.as_of + interval '1 second' THEN
        RETURN;
    END IF;
    INSERT INTO syncd.sync_adoptions AS a (user_no, as_of, list) VALUES (v_user, p_as_of, p_list)
    ON CONFLICT (user_no) DO UPDATE SET as_of = EXCLUDED.as_of, list = EXCLUDED.list
        WHERE a.as_of <= EXCLUDED.as_of;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM syncd.sync_spaces_put(ARRAY(
        SELECT l.id FROM jsonb_to_recordset(p_list) AS l (id text) WHERE NOT starts_with(l.id, '_personal:')), NULL);
    DELETE FROM syncd.sync_memberships m
    WHERE m.user_no = v_user AND m.source = 'external' AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(p_list) AS l (id text)
        JOIN syncd.sync_spaces s ON s.space_id = l.id WHERE s.space_no = m.space_no);
    INSERT INTO syncd.sync_memberships AS m (user_no, space_no, role, source)
    SELECT v_user, s.space_no, l.role, 'external'
    FROM jsonb_to_recordset(p_list) AS l (id text, role text)
    JOIN syncd.sync_spaces s ON s.space_id = l.id
    WHERE s.deleted_at IS NULL AND NOT starts_with(l.id, '_personal:') ORDER BY s.space_no
    ON CONFLICT (user_no, space_no) DO UPDATE SET role = EXCLUDED.role WHERE m.role <> EXCLUDED.role;
END $$;

-- Takes over what a call says of the acting user's memberships: "list" with "asOf" (us), "personal".
CREATE OR REPLACE FUNCTION syncd.sync_adopt_said(p_call jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_call ? 'list' THEN
        PERFORM syncd.sync_adopt(p_call -> 'list', to_timestamp((p_call ->> 'asOf')::bigint / 1000000.0));
    END IF;
    IF p_call ? 'personal' THEN
        PERFORM syncd.sync_personal_space();
    END IF;
END $$;

-- The acting user's personal space, made on first use.
CREATE OR REPLACE FUNCTION syncd.sync_personal_space() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_user();
    v_id   text;
    v_no   integer;
BEGIN
    SELECT '_personal:' || n.name INTO STRICT v_id FROM syncd.sync_names n WHERE n.name_no = v_user;
    SELECT s.space_no INTO v_no FROM syncd.sync_spaces s
    JOIN syncd.sync_memberships m ON m.space_no = s.space_no AND m.user_no = v_user
    WHERE s.space_id = v_id;
    IF v_no IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM syncd.sync_spaces_put(ARRAY[v_id], 'Personal');
    INSERT INTO syncd.sync_memberships (user_no, space_no, role)
    SELECT v_user, s.space_no, 'owner' FROM syncd.sync_spaces s WHERE s.space_id = v_id
    ON CONFLICT DO NOTHING;
END $$;

-- Whether a device is the one that pushed last under its client id: `same`, or `other`. p_incarnations: those that it may have
-- pushed as, oldest first; as the last of them it pushes from now on. One that the server knows and the device does not is
-- another copy's, unless it is older than all that the device names: then the database was restored from before it. `new`: of a
-- user or a client id that has no number yet nothing is kept before its first change is; the push that makes the name asks again.
CREATE OR REPLACE FUNCTION syncd.sync_device(p_user text, p_client text, p_incarnations text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   integer := syncd.sync_act_as(p_user);
    v_client integer := (syncd.sync_names_known(ARRAY[p_client]))[1];
    v_now    text := p_incarnations[cardinality(p_incarnations)];
    v_used   timestamptz;
BEGIN
    IF v_user = 0 OR v_client IS NULL THEN
        RETURN 'new';
    END IF;
    SELECT d.used_at INTO v_used FROM syncd.sync_devices d
    WHERE d.user_no = v_user AND d.client_no = v_client AND d.incarnation = v_now;
    IF v_used > clock_timestamp() - interval '1 day' THEN
        RETURN 'same';
    END IF;
    v_user := syncd.sync_act_as(p_user, true);  -- a row refers to it from now on
    INSERT INTO syncd.sync_devices AS d (user_no, client_no, incarnation) VALUES (v_user, v_client, v_now)
    ON CONFLICT (user_no, client_no) DO UPDATE SET incarnation = EXCLUDED.incarnation, used_at = clock_timestamp()
        WHERE d.incarnation = ANY (p_incarnations)
           OR split_part(d.incarnation, '.', 1)::bigint < split_part(p_incarnations[1], '.', 1)::bigint;
    RETURN CASE WHEN FOUND THEN 'same' ELSE 'other' END;
END $$;

-- Forgets devices that did not push since an instant, some at a time: how many they were. One that comes back is new.
CREATE OR REPLACE FUNCTION syncd.sync_devices_collect(p_before timestamptz, p_most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM syncd.sync_devices d WHERE (d.user_no, d.client_no) IN (
            SELECT o.user_no, o.client_no FROM syncd.sync_devices o WHERE o.used_at < p_before LIMIT p_most)
          AND d.used_at < p_before  -- one that has just come back stays
        RETURNING 1)
    SELECT count(*) FROM gone
$$;

-- What an older worker calls.
CREATE OR REPLACE FUNCTION syncd.sync_same_device(p_user text, p_client text, p_incarnations text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN syncd.sync_device(p_user, p_client, p_incarnations) <> 'other';
END $$;
