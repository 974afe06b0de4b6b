-- A push of one change, by a shorter way through the same steps as functions/push.sql has.
-- Called by functions alone. sync_enter is SECURITY DEFINER: it says who acts, and takes a seq for a writer.

-- The start of a push of one plain change, in one call: acts as the user, finds the numbers of names, holds the
-- membership and, where the user may write the table with all its fields and the feed was written since the current start, takes a seq.
-- A part that is not there is null; base is null when no seq was taken.
CREATE OR REPLACE FUNCTION syncd.sync_enter(p_user text, p_client text, p_app text, p_table text, p_space text,
                                 OUT user_no integer, OUT client_no integer, OUT app_no integer, OUT table_no integer,
                                 OUT space_no integer, OUT base bigint, OUT written_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_signed boolean := starts_with(p_user, U&'\0001');
    v_user   text := CASE WHEN v_signed THEN substr(p_user, 121) ELSE p_user END;
    v_pads   bytea;
    v_rest   text;
    v_role   text;
BEGIN
    SELECT max(n.name_no) FILTER (WHERE n.name = v_user),
           max(n.name_no) FILTER (WHERE n.name = p_client),
           max(n.name_no) FILTER (WHERE n.name = p_app),
           max(n.name_no) FILTER (WHERE n.name = p_table),
           (SELECT k.pads FROM syncd.sync_context_key k)
    INTO user_no, client_no, app_no, table_no, v_pads
    FROM syncd.sync_names n WHERE n.name = ANY (ARRAY[v_user, p_client, p_app, p_table]) AND NOT n.leaving;
    v_rest := CASE WHEN v_pads IS NULL THEN '' WHEN v_signed THEN syncd.sync_proven('u', p_user, v_pads)
                   ELSE syncd.sync_unproven(user_no) END;
    v_rest := set_config(syncd.sync_acting_in(), coalesce(user_no, 0) || v_rest, true);
    SELECT m.space_no, m.role INTO space_no, v_role
    FROM syncd.sync_memberships m
    WHERE m.user_no = sync_enter.user_no AND m.space_no = (
        SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = p_space)
    FOR SHARE OF m;
    IF v_role <> 'reader' AND client_no IS NOT NULL AND table_no IS NOT NULL THEN
        IF v_role <> 'owner' AND EXISTS (  -- what it may write of that is asked elsewhere
                SELECT FROM syncd.sync_writable_by w WHERE w.app_no = sync_enter.app_no AND w.table_no = sync_enter.table_no) THEN
            RETURN;
        END IF;
        UPDATE syncd.sync_feeds h
        SET head = h.head + 1, written_at = greatest(clock_timestamp(), h.written_at)
        WHERE h.space_no = sync_enter.space_no AND h.app_no = sync_enter.app_no
          AND h.boots[cardinality(h.boots)] = (
              -- sync_start, which would register one
              SELECT CASE WHEN s.postmaster = pg_postmaster_start_time() AND s.made_by = s.xmin
                               AND s.folder = rtrim(pg_relation_filepath(s.tableoid), '0123456789')
                          THEN s.started_at END
              FROM syncd.sync_starts s ORDER BY s.started_at DESC LIMIT 1)
        RETURNING h.head - 1, h.written_at INTO base, written_at;
    END IF;
END $$;

-- What becomes of a record that was there, where a change to it is not plainly the later one: its stamps are not all newer (p_newer), it was
-- a tombstone, or its writer had not seen all that it writes over. `fields`, `lost`: as the log keeps them, `woken`: what sync_woken says of a
-- tombstone. Raises SY007 and SY009.
CREATE OR REPLACE FUNCTION syncd.sync_merge_single(p_head jsonb, p_change syncd.sync_told_change, p_held jsonb, p_deleted boolean, p_newer boolean, p_seq bigint,
                                        OUT registers jsonb, OUT fields json, OUT lost json, OUT conflicts jsonb, OUT woken bigint[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_unseen jsonb;
BEGIN
    IF p_newer THEN
        registers := p_held || p_change.g; fields := p_change.f;
    ELSE
        SELECT m.merged, m.won, m.lost, m.conflicts INTO registers, fields, lost, conflicts FROM syncd.sync_merge(p_held, p_change.g) m;
        IF fields IS NOT NULL THEN
            PERFORM syncd.sync_apart(p_head, jsonb_build_array(jsonb_build_array(1, syncd.sync_twice(p_held, p_change.g))));
        END IF;
    END IF;
    IF NOT p_held @> p_change.b OR p_change.b IS NOT NULL AND p_deleted THEN
        v_unseen := syncd.sync_unseen(p_held, p_change.g, p_change.b);
        fields := syncd.sync_marked(fields, v_unseen, p_change.b); conflicts := syncd.sync_told(conflicts, v_unseen);
    END IF;
    IF p_deleted THEN
        woken := ARRAY[syncd.sync_woken(p_head, p_held -> 'deletedAt' ? 'movedTo', p_seq)];
        fields := syncd.sync_whole(registers, fields);
    END IF;
END $$;

-- What a push of one change says that is not written here: nothing, once the seq that was taken for it is given back.
CREATE OR REPLACE FUNCTION syncd.sync_not_single(p_space integer, p_app integer, p_base bigint) RETURNS syncd.sync_receipt
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_base IS NOT NULL THEN
        PERFORM syncd.sync_advance(p_space, p_app, -1);
    END IF;
    RETURN NULL;
END $$;

-- A push of one change where all is plain: names, feed and membership known, a clock that is right, nothing
-- repeated. It does what sync_push_one does with scalars instead of sets, at a third of the cost. For anything
-- else it answers null, with nothing written, and sync_push_one decides.
CREATE OR REPLACE FUNCTION syncd.sync_push_single(p_head jsonb, p_body json) RETURNS syncd.sync_receipt
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v           syncd.sync_receipt;
    k           record := syncd.sync_enter(coalesce(p_head ->> 'context', p_head ->> 'user'), p_head ->> 'client', p_head ->> 'app',
                                           p_head -> 'tables' ->> 0, p_head -> 'spaces' ->> 0);
    x           syncd.sync_told_change := json_populate_record(NULL::syncd.sync_told_change, p_body -> 0);
    h           record;
    v_same      boolean;
    v_registers jsonb := x.g;
    v_fields    json := x.f;
    v_lost      json;
    v_conflicts jsonb;
    v_woken     bigint[];
BEGIN
    IF k.base IS NULL OR x.hi > syncd.sync_micros(clock_timestamp()) + (p_head ->> 'skew')::bigint THEN
        RETURN syncd.sync_not_single(k.space_no, k.app_no, k.base);
    END IF;
    SELECT q.registers, q.seq, q.latest, q.deleted, q.record_id INTO h FROM syncd.sync_records q
    WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id >= x.r
    ORDER BY q.record_id LIMIT 1;  -- one probe of the primary key, as in sync_apply
    v_same := h.record_id = x.r;
    IF v_same AND x.lo > h.latest AND NOT h.deleted AND (h.registers @> x.b) IS NOT FALSE THEN
        v_registers := h.registers || x.g;
    ELSIF v_same THEN
        SELECT m.registers, m.fields, m.lost, m.conflicts, m.woken INTO v_registers, v_fields, v_lost, v_conflicts, v_woken
        FROM syncd.sync_merge_single(p_head, x, h.registers, h.deleted, x.lo > h.latest, k.base + 1) m;
    END IF;
    IF pg_column_size(v_registers) > least((p_head ->> 'largest')::integer, (p_head ->> 'touched')::bigint / 32) THEN
        PERFORM syncd.sync_check_size(v_registers, p_head);
    END IF;
    INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                    client_no, schema_version, op, record_id, change_id, origin, actor, fields, lost)
    SELECT k.base + 1, k.base + 1, CASE WHEN v_same THEN h.seq END, k.written_at, x.e, k.space_no, k.app_no, k.table_no, k.user_no,
           k.client_no, x.v, x.o, x.r, x.c, x.n, x.a::json, v_fields, v_lost
    WHERE NOT EXISTS (SELECT FROM syncd.sync_restores d WHERE d.user_no = k.user_no AND d.client_no = k.client_no AND d.change_id = x.c)
    ON CONFLICT (user_no, client_no, change_id) WHERE change_id IS NOT NULL DO NOTHING;
    IF NOT FOUND THEN  -- pushed before
        RETURN syncd.sync_not_single(k.space_no, k.app_no, k.base);
    END IF;
    IF v_same THEN
        UPDATE syncd.sync_records q
        SET seq = k.base + 1, latest = greatest(h.latest, x.hi), event_id = x.e, client_no = k.client_no,
            schema_version = x.v, deleted = syncd.sync_is_deleted(v_registers), registers = v_registers
        WHERE q.space_no = k.space_no AND q.app_no = k.app_no AND q.table_no = k.table_no AND q.record_id = x.r
          AND q.seq = h.seq;  -- so that the other index finds one row as well
    ELSE  -- under the feed's lock nobody else can have made it: an insert of its own is checked by one policy, not three
        INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, schema_version, deleted, record_id, registers)
        VALUES (k.base + 1, x.hi, x.e, k.space_no, k.app_no, k.table_no, k.client_no, x.v, syncd.sync_is_deleted(v_registers), x.r, v_registers);
    END IF;
    v.seqs := ARRAY[k.base + 1]; v.marks := CASE WHEN v_fields IS NULL THEN 's' ELSE 'a' END;
    IF v_conflicts IS NOT NULL THEN
        v.detail := jsonb_build_object('conflicts', jsonb_build_array(jsonb_build_array(1, v_conflicts)));
    END IF;
    IF p_head ? 'since' THEN
        v.page := syncd.sync_pull_acting(k.user_no, p_head ->> 'app', p_head -> 'since', p_head -> 'how', ARRAY[k.space_no], ARRAY[k.base], coalesce(v_woken, '{}'));
    END IF;
    RETURN v;
END $$;
