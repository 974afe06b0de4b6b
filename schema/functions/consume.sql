-- Consumers: programs on the server's side that read what happens in all feeds, or in those of some apps and tables, and keep their place
-- in the database. A consumer's feeds are in 64 slots, which its processes share by lease.
-- Called by operators and members of syncd_consumer, who may do this and nothing else. All that those call are SECURITY DEFINER: a
-- consumer is found by its name for who is a member of its role, or of the owner, and while it reads, a policy shows the owner what it is registered for.
-- sync_consumer_add, sync_consumer_reset and sync_consumer_remove are an operator's; sync_consumer_lags is the serving role's, too.

-- A consumer that the role which has logged in may be. Raises SY022.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_named(p_name text) RETURNS syncd.sync_consumers
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v syncd.sync_consumers;
BEGIN
    SELECT c.* INTO v FROM syncd.sync_consumers c
    WHERE c.name = p_name AND (pg_has_role(session_user, current_user, 'MEMBER')
                               OR coalesce(pg_has_role(session_user, to_regrole(quote_ident(c.role))::oid, 'MEMBER'), false));
    IF v.consumer_id IS NULL THEN
        RAISE EXCEPTION 'no such consumer' USING ERRCODE = 'SY022';
    END IF;
    RETURN v;
END $$;

-- The slot of a feed.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_slot(p_space integer, p_app integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ((p_space::bigint * 31 + p_app) % 64)::integer;

-- The numbers of a consumer's apps or tables, of those that there are; null: all.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_numbers(p_names text[]) RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN p_names IS NOT NULL THEN ARRAY(SELECT n.name_no FROM syncd.sync_names n WHERE n.name = ANY (p_names)) END
$$;

-- Puts a consumer where it begins: at the heads as they are ('now'), at the state ('state'), or at the log's beginning. A process that
-- reads for it loses the lease first; this waits for acknowledgements under way. Feeds that are made later are read from their beginning.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_place(p_consumer integer, p_begins text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_apps integer[];
BEGIN
    PERFORM FROM syncd.sync_consumer_slots s WHERE s.consumer_id = p_consumer ORDER BY s.slot FOR UPDATE;  -- in the order in which an acknowledgement locks them
    UPDATE syncd.sync_consumer_slots s SET lease = s.lease + 1, holder = NULL WHERE s.consumer_id = p_consumer;
    DELETE FROM syncd.sync_consumer_feeds p WHERE p.consumer_id = p_consumer;
    SELECT syncd.sync_consumer_numbers(c.apps) INTO v_apps FROM syncd.sync_consumers c WHERE c.consumer_id = p_consumer;
    INSERT INTO syncd.sync_consumer_feeds (consumer_id, space_no, app_no, seq, base)
    SELECT p_consumer, h.space_no, h.app_no, CASE p_begins WHEN 'now' THEN h.head ELSE 0 END, CASE p_begins WHEN 'now' THEN -1 ELSE h.head END
    FROM syncd.sync_feeds h
    WHERE p_begins <> 'beginning' AND h.head > 0 AND (v_apps IS NULL OR h.app_no = ANY (v_apps));
END $$;

-- Registers a consumer; false where there is one of the name.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_add(p_name text, p_role text, p_apps text[], p_tables text[], p_begins text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer;
BEGIN
    INSERT INTO syncd.sync_consumers (name, role, apps, tables, begins) VALUES (p_name, p_role, p_apps, p_tables, p_begins)
    ON CONFLICT (name) DO NOTHING RETURNING consumer_id INTO v_id;
    IF v_id IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO syncd.sync_consumer_slots (consumer_id, slot) SELECT v_id, g FROM generate_series(0, 63) AS g;
    PERFORM syncd.sync_consumer_place(v_id, p_begins);
    RETURN true;
END $$;

-- Has a consumer begin again; false where there is none of the name.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_reset(p_name text, p_begins text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer;
BEGIN
    UPDATE syncd.sync_consumers c SET begins = p_begins WHERE c.name = p_name RETURNING c.consumer_id INTO v_id;
    IF v_id IS NULL THEN
        RETURN false;
    END IF;
    PERFORM syncd.sync_consumer_place(v_id, p_begins);
    RETURN true;
END $$;

-- Removes a consumer and its places; whether there was one. What is just being acknowledged is waited for.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_remove(p_name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM syncd.sync_consumer_slots s JOIN syncd.sync_consumers c ON c.consumer_id = s.consumer_id WHERE c.name = p_name
    ORDER BY s.slot FOR UPDATE OF s;
    DELETE FROM syncd.sync_consumers c WHERE c.name = p_name;
    RETURN FOUND;
END $$;

-- The leases of a process, by slot from 0 on; null for one that it has not.
CREATE OR REPLACE FUNCTION syncd.sync_consume_leases(p_consumer integer, p_holder uuid) RETURNS bigint[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CASE WHEN s.holder = p_holder THEN s.lease END ORDER BY s.slot) FROM syncd.sync_consumer_slots s WHERE s.consumer_id = p_consumer
$$;

-- The feeds in a process's slots that have more than was acknowledged, those first that were served longest ago: in one pass over all
-- heads and places, however many there are. Where `base` is not -1, the state is being read.
CREATE OR REPLACE FUNCTION syncd.sync_consume_look(p_name text, p_holder uuid, p_most integer)
RETURNS TABLE (space_no integer, app_no integer, slot integer, lease bigint, seq bigint, base bigint, acks bigint, head bigint, space_id text, app text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off AS $$
#variable_conflict use_column
DECLARE
    v        syncd.sync_consumers := syncd.sync_consumer_named(p_name);
    v_apps   integer[] := syncd.sync_consumer_numbers(v.apps);
    v_leases bigint[] := syncd.sync_consume_leases(v.consumer_id, p_holder);
BEGIN
    RETURN QUERY
    SELECT n.space_no, n.app_no, n.slot, v_leases[n.slot + 1], n.seq, n.base, n.acks, n.head,
           (SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = n.space_no),
           (SELECT a.name FROM syncd.sync_names a WHERE a.name_no = n.app_no)
    FROM (SELECT h.space_no, h.app_no, syncd.sync_consumer_slot(h.space_no, h.app_no) AS slot, coalesce(p.seq, 0) AS seq,
                 coalesce(p.base, -1) AS base, coalesce(p.acks, 0) AS acks, h.head, p.moved_at
          FROM syncd.sync_feeds h
          LEFT JOIN syncd.sync_consumer_feeds p ON p.consumer_id = v.consumer_id AND p.space_no = h.space_no AND p.app_no = h.app_no
          WHERE h.head > coalesce(p.seq, 0) AND (v_apps IS NULL OR h.app_no = ANY (v_apps)) OFFSET 0) n  -- of few the slot is asked, not of all
    WHERE v_leases[n.slot + 1] IS NOT NULL
    ORDER BY n.moved_at NULLS FIRST LIMIT p_most;
END $$;

-- The same of some feeds, which a process has heard of: a probe for each.
CREATE OR REPLACE FUNCTION syncd.sync_consume_look_at(p_name text, p_holder uuid, p_spaces integer[], p_apps integer[])
RETURNS TABLE (space_no integer, app_no integer, slot integer, lease bigint, seq bigint, base bigint, acks bigint, head bigint, space_id text, app text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v        syncd.sync_consumers := syncd.sync_consumer_named(p_name);
    v_apps   integer[] := syncd.sync_consumer_numbers(v.apps);
    v_leases bigint[] := syncd.sync_consume_leases(v.consumer_id, p_holder);
BEGIN
    RETURN QUERY
    SELECT h.space_no, h.app_no, w.slot, v_leases[w.slot + 1], coalesce(p.seq, 0), coalesce(p.base, -1), coalesce(p.acks, 0), h.head, s.space_id, a.name
    FROM (SELECT u.space_no, u.app_no, syncd.sync_consumer_slot(u.space_no, u.app_no) AS slot FROM unnest(p_spaces, p_apps) AS u (space_no, app_no)) w
    JOIN syncd.sync_feeds h ON h.space_no = w.space_no AND h.app_no = w.app_no
    JOIN syncd.sync_spaces s ON s.space_no = w.space_no
    JOIN syncd.sync_names a ON a.name_no = w.app_no
    LEFT JOIN syncd.sync_consumer_feeds p ON p.consumer_id = v.consumer_id AND p.space_no = w.space_no AND p.app_no = w.app_no
    WHERE v_leases[w.slot + 1] IS NOT NULL AND h.head > coalesce(p.seq, 0) AND (v_apps IS NULL OR w.app_no = ANY (v_apps));
END $$;

-- Begins or (null) ends a consumer's reading, in the parameter of sync_user; nobody acts meanwhile. What it has of a session stays.
CREATE OR REPLACE FUNCTION syncd.sync_consume_act(p_apps integer[], p_tables integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_now text := coalesce(current_setting(syncd.sync_acting_in(), true), '');
BEGIN
    PERFORM set_config(syncd.sync_acting_in(), concat_ws(',', '', split_part(v_now, ',', 2), split_part(v_now, ',', 3), split_part(v_now, ',', 4),
                       '', '', '', array_to_string(p_apps, '_'), array_to_string(p_tables, '_')), true);
END $$;

-- Where each of these feeds is read from, by its place in the lists. `reset`: 'folded', the log was folded beyond where the consumer
-- is, so it is read the state of what was touched since; 'all', deletions were forgotten that it may not know of, so it starts again with
-- all of the state. `upto`: with those before it there are no more than p_rows changes up to its head; null: there are.
CREATE OR REPLACE FUNCTION syncd.sync_consume_feeds(p_spaces integer[], p_apps integer[], p_seqs bigint[], p_bases bigint[], p_rows integer)
RETURNS TABLE (k integer, space_no integer, app_no integer, seq bigint, base bigint, head bigint, reset text, upto bigint, space text, app text)
LANGUAGE sql STABLE AS $$
    SELECT w.k::integer, w.space_no, w.app_no, CASE WHEN w.reset = 'all' THEN 0 ELSE w.seq END,
           CASE WHEN w.reset = 'all' OR w.reset = 'folded' AND w.seq = 0 THEN w.head WHEN w.reset = 'folded' THEN w.seq ELSE w.base END,
           w.head, w.reset, CASE WHEN sum(w.head - w.seq) OVER (ORDER BY w.k) <= p_rows THEN w.head END, w.space, w.app
    FROM (SELECT u.k, h.space_no, h.app_no, u.seq, u.base, h.head, s.quoted AS space, a.quoted AS app,
                 CASE WHEN u.seq > 0 AND h.forgotten > CASE WHEN u.base >= 0 THEN u.base ELSE u.seq END THEN 'all'
                      WHEN u.base = -1 AND u.seq < h.horizon THEN 'folded' END AS reset
          FROM unnest(p_spaces, p_apps, p_seqs, p_bases) WITH ORDINALITY AS u (space_no, app_no, seq, base, k)
          JOIN syncd.sync_feeds h ON h.space_no = u.space_no AND h.app_no = u.app_no
          JOIN syncd.sync_spaces s ON s.space_no = u.space_no
          JOIN syncd.sync_names a ON a.name_no = u.app_no) w
    ORDER BY w.k
$$;

-- What a feed has after p_seq, as far as p_upto, of the log or of the state. fits: whether that is 256 KiB at most; what is packed is unpacked to be measured,
-- where it is stored in less. numbers, words: of some names in that part of the log, and how they are quoted. A statement takes this in as a part of itself:
-- to begin a statement for each feed costs as much as the text of 20 changes.
CREATE OR REPLACE FUNCTION syncd.sync_consume_extent(p_space integer, p_app integer, p_seq bigint, p_upto bigint, p_base bigint)
RETURNS TABLE (fits boolean, numbers integer[], words text[])
LANGUAGE sql STABLE AS $$
    SELECT p_upto IS NOT NULL AND coalesce(CASE
               WHEN p_base <> -1 THEN (
                   SELECT CASE WHEN bool_or(pg_column_compression(r.registers) IS NOT NULL) AND sum(pg_column_size(r.registers)) <= 262144
                               THEN sum(syncd.sync_record_size(r.registers)) ELSE sum(pg_column_size(r.registers)) END
                   FROM syncd.sync_records r WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_seq AND r.seq <= p_upto)
               WHEN l.packed AND l.size <= 262144 THEN (
                   SELECT sum(syncd.sync_change_size(c.fields))
                   FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_seq AND c.seq <= p_upto)
               ELSE l.size END, 0) <= 262144, n.numbers, n.words
    FROM (SELECT sum(pg_column_size(c.fields)) AS size, bool_or(pg_column_compression(c.fields) IS NOT NULL) AS packed,
                 ARRAY[min(c.table_no), max(c.table_no), min(c.client_no), max(c.client_no), min(c.user_no), max(c.user_no)] AS some
          FROM syncd.sync_changes c
          WHERE p_base = -1 AND c.space_no = p_space AND c.app_no = p_app AND c.seq > p_seq AND c.seq <= p_upto) l
    CROSS JOIN LATERAL (SELECT array_agg(n.name_no) AS numbers, array_agg(n.quoted) AS words FROM syncd.sync_names n WHERE n.name_no = ANY (l.some)) n
$$;

-- The text of each of these feeds as far as `upto`, separated by U+001E: of the log, each change as it travels, with its app, who wrote it and
-- when; of the state, each record whole. Without p_upto, what has more than 256 KiB is not fetched: `upto` is null. What is stored in less is unpacked to be measured. Deletions in that matter only where the record may have been handed out before: after `base`.
CREATE OR REPLACE FUNCTION syncd.sync_consume_pieces(p_spaces integer[], p_apps integer[], p_seqs bigint[], p_bases bigint[], p_rows integer, p_upto bigint)
RETURNS TABLE (k integer, space_no integer, app_no integer, seq bigint, base bigint, head bigint, reset text, upto bigint, piece text)
LANGUAGE sql STABLE AS $$
    SELECT o.k, o.space_no, o.app_no, o.seq, o.base, o.head, o.reset, o.upto, CASE WHEN o.upto IS NULL THEN NULL WHEN o.base = -1 THEN (
        -- a name is looked up where it is none of those that are known of the feed
        SELECT string_agg(syncd.sync_change_text(c,
                   coalesce(o.words[array_position(o.numbers, c.table_no)], (SELECT t.quoted FROM syncd.sync_names t WHERE t.name_no = c.table_no)),
                   coalesce(o.words[array_position(o.numbers, c.client_no)], (SELECT d.quoted FROM syncd.sync_names d WHERE d.name_no = c.client_no)),
                   concat(o.space, ',"appId":', o.app, ',"userId":',
                          coalesce(o.words[array_position(o.numbers, c.user_no)], (SELECT u.quoted FROM syncd.sync_names u WHERE u.name_no = c.user_no)),
                          ',"createdAt":"', syncd.sync_instant(c.created_at), '"'), NULL, false), U&'\001E' ORDER BY c.seq)
        FROM syncd.sync_changes c
        WHERE c.space_no = o.space_no AND c.app_no = o.app_no AND c.seq > o.seq AND c.seq <= o.upto AND c.fields IS NOT NULL)
    ELSE (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, concat(',"spaceId":', o.space, ',"appId":', o.app, ',"state":true',
                   CASE WHEN c.seq IS NOT NULL THEN concat(',"userId":', u.quoted, ',"createdAt":"', syncd.sync_instant(c.created_at), '"') END,
                   ',"clientId":'), ',"fields":'), U&'\001E' ORDER BY r.seq)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        LEFT JOIN syncd.sync_changes c ON c.space_no = r.space_no AND c.app_no = r.app_no AND c.seq = r.seq
        LEFT JOIN syncd.sync_names u ON u.name_no = c.user_no
        WHERE r.space_no = o.space_no AND r.app_no = o.app_no AND r.seq > o.seq AND r.seq <= o.upto AND (NOT r.deleted OR r.seq > o.base)) END
    FROM (SELECT f.k, f.space_no, f.app_no, f.seq, f.base, f.head, f.reset, f.space, f.app,
                 coalesce(p_upto, CASE WHEN w.fits THEN f.upto END) AS upto, w.numbers, w.words
          FROM syncd.sync_consume_feeds(p_spaces, p_apps, p_seqs, p_bases, p_rows) f
          CROSS JOIN LATERAL syncd.sync_consume_extent(f.space_no, f.app_no, f.seq, coalesce(p_upto, f.upto), f.base) w OFFSET 0) o
$$;

-- What a reading brings, by one snapshot: feeds in their order until there are p_rows changes or p_bytes bytes. Where the first has more,
-- a part of it alone, which ends between two pushes.
CREATE OR REPLACE FUNCTION syncd.sync_consume_parts(p_spaces integer[], p_apps integer[], p_seqs bigint[], p_bases bigint[], p_rows integer, p_bytes bigint)
RETURNS TABLE (k integer, upto bigint, base bigint, reset text, body bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_read refcursor;
    v_left bigint := p_bytes;
    v_cut  bigint;
    f      record;
BEGIN
    OPEN v_read FOR SELECT s.* FROM syncd.sync_consume_pieces(p_spaces, p_apps, p_seqs, p_bases, p_rows, NULL) s;  -- not FOR, which reads ahead
    WHILE v_left > 0 LOOP
        FETCH v_read INTO f;
        EXIT WHEN NOT FOUND OR f.upto IS NULL AND v_left < p_bytes;
        IF f.upto IS NULL THEN
            v_cut := CASE WHEN f.base = -1 THEN syncd.sync_log_cut(f.space_no, f.app_no, f.seq, f.head, p_rows, p_bytes)
                          ELSE syncd.sync_state_cut(f.space_no, f.app_no, f.seq, f.head, p_rows, p_bytes) END;
            SELECT s.* INTO f FROM syncd.sync_consume_pieces(p_spaces[f.k:f.k], p_apps[f.k:f.k], p_seqs[f.k:f.k], p_bases[f.k:f.k], p_rows, v_cut) s;
            f.k := 1;
            v_left := 0;
        END IF;
        k := f.k; upto := f.upto; reset := f.reset; body := convert_to(f.piece, 'UTF8');
        base := CASE WHEN f.upto = f.head THEN -1 ELSE f.base END;
        v_left := v_left - 1 - coalesce(octet_length(body), 0);
        RETURN NEXT;
    END LOOP;
    CLOSE v_read;
END $$;

-- A reading of feeds, from where each of them is: k is its place in the lists, upto and base where it is then. Of another app than the consumer's
-- it says nothing, not even how far that has come.
CREATE OR REPLACE FUNCTION syncd.sync_consume_read(p_name text, p_spaces integer[], p_apps integer[], p_seqs bigint[], p_bases bigint[],
                                                p_rows integer, p_bytes bigint)
RETURNS TABLE (k integer, upto bigint, base bigint, reset text, body bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v      syncd.sync_consumers := syncd.sync_consumer_named(p_name);
    v_apps integer[] := syncd.sync_consumer_numbers(v.apps);
BEGIN
    PERFORM syncd.sync_consume_act(coalesce(v_apps, '{0}'), coalesce(syncd.sync_consumer_numbers(v.tables), '{0}'));
    RETURN QUERY SELECT q.* FROM syncd.sync_consume_parts(p_spaces, p_apps, p_seqs, p_bases, p_rows, p_bytes) q
    WHERE v.apps IS NULL OR p_apps[q.k] = ANY (v_apps);
    PERFORM syncd.sync_consume_act(NULL, NULL);
END $$;

-- Acknowledges what was read of feeds: they are at p_seqs and p_bases from now on. p_leases: of the feeds' slots when they were read; p_acks: how often
-- each was acknowledged before. Raises SY021 where one changed hands or places since. Until the transaction ends no slot of
-- these goes to another process.
CREATE OR REPLACE FUNCTION syncd.sync_consume_ack(p_name text, p_holder uuid, p_leases bigint[], p_spaces integer[], p_apps integer[], p_acks bigint[],
                                               p_seqs bigint[], p_bases bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id     integer := (syncd.sync_consumer_named(p_name)).consumer_id;
    v_leases bigint[];
    v_count  bigint;
BEGIN
    PERFORM FROM syncd.sync_consumer_slots s
    WHERE s.consumer_id = v_id AND s.holder = p_holder AND s.slot = ANY (ARRAY(
        SELECT DISTINCT syncd.sync_consumer_slot(u.space_no, u.app_no) FROM unnest(p_spaces, p_apps) AS u (space_no, app_no)))
    ORDER BY s.slot FOR SHARE;
    v_leases := syncd.sync_consume_leases(v_id, p_holder);  -- those that are held by now: others were waited for
    IF EXISTS (SELECT FROM unnest(p_spaces, p_apps, p_leases) AS u (space_no, app_no, lease)
               WHERE u.lease IS DISTINCT FROM v_leases[syncd.sync_consumer_slot(u.space_no, u.app_no) + 1]) THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'SY021';
    END IF;
    INSERT INTO syncd.sync_consumer_feeds AS p (consumer_id, space_no, app_no, seq, base, acks, moved_at)
    SELECT v_id, u.space_no, u.app_no, u.seq, u.base, u.acks + 1, clock_timestamp()
    FROM unnest(p_spaces, p_apps, p_seqs, p_bases, p_acks) AS u (space_no, app_no, seq, base, acks) ORDER BY 2, 3
    ON CONFLICT (consumer_id, space_no, app_no)
    DO UPDATE SET seq = EXCLUDED.seq, base = EXCLUDED.base, acks = EXCLUDED.acks, moved_at = EXCLUDED.moved_at WHERE p.acks = EXCLUDED.acks - 1;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count <> cardinality(p_spaces) THEN
        RAISE EXCEPTION 'lease lost' USING ERRCODE = 'SY021';
    END IF;
END $$;

-- How far one consumer is behind: feeds, changes (of all tables), and since when its oldest one waits, of the 100 feeds served longest ago.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_lag(p_consumer syncd.sync_consumers, OUT feeds bigint, OUT changes bigint, OUT seconds double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off AS $$
DECLARE
    v_apps integer[] := syncd.sync_consumer_numbers(p_consumer.apps);
BEGIN
    PERFORM syncd.sync_consume_act(coalesce(v_apps, '{0}'), coalesce(syncd.sync_consumer_numbers(p_consumer.tables), '{0}'));
    WITH behind AS MATERIALIZED (
        SELECT h.space_no, h.app_no, coalesce(p.seq, 0) AS seq, h.head, p.moved_at
        FROM syncd.sync_feeds h
        LEFT JOIN syncd.sync_consumer_feeds p ON p.consumer_id = p_consumer.consumer_id AND p.space_no = h.space_no AND p.app_no = h.app_no
        WHERE h.head > coalesce(p.seq, 0) AND (v_apps IS NULL OR h.app_no = ANY (v_apps)))
    SELECT count(*), coalesce(sum(b.head - b.seq), 0), coalesce((
        SELECT max(extract(epoch FROM clock_timestamp() - (
            SELECT c.created_at FROM syncd.sync_changes c
            WHERE c.space_no = o.space_no AND c.app_no = o.app_no AND c.seq > o.seq ORDER BY c.seq LIMIT 1)))
        FROM (SELECT * FROM behind ORDER BY moved_at NULLS FIRST LIMIT 100) o), 0)
    INTO feeds, changes, seconds FROM behind b;
    PERFORM syncd.sync_consume_act(NULL, NULL);
END $$;

-- The consumers, with their processes that are there, and how far each is behind.
CREATE OR REPLACE FUNCTION syncd.sync_consumer_lags()
RETURNS TABLE (name text, processes bigint, feeds bigint, changes bigint, seconds double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT c.name, (SELECT count(*) FROM syncd.sync_consumer_holders h
                                 WHERE h.consumer_id = c.consumer_id AND h.expires_at >= clock_timestamp()), l.feeds, l.changes, l.seconds
    FROM syncd.sync_consumers c CROSS JOIN LATERAL syncd.sync_consumer_lag(c) l ORDER BY c.name;
END $$;

-- Whether these feeds were acknowledged just so often: what became of an acknowledgement whose answer was lost.
CREATE OR REPLACE FUNCTION syncd.sync_consume_acked(p_name text, p_spaces integer[], p_apps integer[], p_acks bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id integer := (syncd.sync_consumer_named(p_name)).consumer_id;
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM unnest(p_spaces, p_apps, p_acks) AS u (space_no, app_no, acks)
        WHERE NOT EXISTS (SELECT FROM syncd.sync_consumer_feeds p
                          WHERE p.consumer_id = v_id AND p.space_no = u.space_no AND p.app_no = u.app_no AND p.acks = u.acks));
END $$;
