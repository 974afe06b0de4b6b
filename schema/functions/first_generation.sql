-- What clients of the first generation are sent. They date the whole record of an insert at once and read a register's own
-- stamp only of an update, so they are sent updates; and they take a register with a dot (cfg.theme) for a member of an
-- object. Called by pull's functions only, for readers of that kind.

-- Those registers with a dot that are newer than every register they are a member of: the older ones went with it.
-- p_written: only those that a change which wrote these registers has to do with, as one of them or as a member of one.
CREATE OR REPLACE FUNCTION syncd.sync_members(p_registers jsonb, p_written jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_registers jsonb := p_registers || '{}';  -- unpacked once, and not for each field
BEGIN
    IF NOT EXISTS (SELECT FROM jsonb_object_keys(v_registers) k WHERE strpos(k, '.') > 0) THEN
        RETURN NULL;  -- mostly: what follows costs ten times as much
    END IF;
    RETURN (
        SELECT jsonb_object_agg(m.key, m.value)
        FROM jsonb_each(v_registers) m
        CROSS JOIN LATERAL (
            SELECT bool_or(p_written ? o.key) AS touched,
                   bool_or(concat(v_registers -> o.key ->> 'at', v_registers -> o.key ->> 'clientId') COLLATE "C"
                           > concat(m.value ->> 'at', m.value ->> 'clientId') COLLATE "C") FILTER (WHERE v_registers ? o.key) AS older
            FROM string_to_array(m.key, '.') AS s (parts)
            CROSS JOIN LATERAL generate_series(1, cardinality(s.parts) - 1) n
            CROSS JOIN LATERAL (SELECT array_to_string(s.parts[1:n], '.') AS key) o
        ) a
        WHERE strpos(m.key, '.') > 0 AND a.older IS NOT TRUE
          AND (p_written IS NULL OR p_written ? m.key OR a.touched));
END $$;

-- An instant as JavaScript writes it, in milliseconds: one engine compares instants as text. Of two writes within one none is
-- before the other to a device then, and it takes the one that it is sent last, which is the one that stands.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_instant(p_at text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat(left(p_at, 23), 'Z');

-- Registers with their instants spelt so, under both names that engines read, and in what a deletion has for a value.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_fields(p_registers jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT jsonb_object_agg(e.key, e.value - '{base,erased}'::text[] || CASE
            WHEN e.key = 'deletedAt' AND e.value ->> 'value' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$'
            THEN jsonb_build_object('at', a.at, 'updatedAt', a.at, 'value', syncd.sync_legacy_instant(e.value ->> 'value'))
            ELSE jsonb_build_object('at', a.at, 'updatedAt', a.at) END)
        FROM jsonb_each(p_registers) e CROSS JOIN LATERAL (SELECT syncd.sync_legacy_instant(e.value ->> 'at') AS at) a);

-- A deletion's text after its change's beginning.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_deletion(p_head text, p_registers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat(p_head, ',"op":"delete","deletedAt":"', syncd.sync_legacy_instant(p_registers -> 'deletedAt' ->> 'at'),
              '","fields":', syncd.sync_legacy_fields(p_registers), '}');

-- A change as one update, or two where there are members to be written after the objects that they are in. p_head: the
-- change's beginning as JSON text. p_whole: the device may not have the record, and gets it as plain values too.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_update(p_head text, p_record text, p_registers jsonb, p_members jsonb, p_whole boolean)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_fields jsonb;
    v_data   jsonb;
    v_texts  text[] := '{}';
BEGIN
    SELECT syncd.sync_legacy_fields(jsonb_object_agg(e.key, e.value)), jsonb_object_agg(e.key, e.value -> 'value')
    INTO v_fields, v_data FROM jsonb_each(p_registers) e WHERE strpos(e.key, '.') = 0;
    IF p_whole OR v_fields IS NOT NULL OR p_members IS NULL THEN
        v_texts := v_texts || concat(p_head,
            CASE WHEN p_whole THEN concat(',"data":', coalesce(v_data, '{}') || jsonb_build_object('id', p_record)) END,
            ',"fields":', coalesce(v_fields, '{}'), '}');
    END IF;
    IF p_members IS NOT NULL THEN
        v_texts := v_texts || concat(p_head, ',"fields":', syncd.sync_legacy_fields(p_members), '}');
    END IF;
    RETURN array_to_string(v_texts, ',');
END $$;

-- A change of the log. A record that somebody made, or brought back, comes whole, for the device may not have it; of what is
-- deleted only that is told. p_held: the record as it is now, which has the members that are newer than what the change wrote.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_change(p_head text, p_record text, p_op smallint, p_made boolean, p_fields json, p_held jsonb)
RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_written jsonb := p_fields::jsonb;
BEGIN
    IF v_written #>> '{deletedAt,value}' IS NOT NULL THEN
        RETURN syncd.sync_legacy_deletion(p_head, v_written);
    END IF;
    RETURN syncd.sync_legacy_update(concat(p_head, ',"op":"update"'), p_record, v_written,
        syncd.sync_members(coalesce(p_held, v_written), v_written), p_op = 1 OR p_made OR v_written ? 'deletedAt');
END $$;

-- Whether a change that wrote these registers has to do with members of a record's objects: it wrote one, or such an object.
CREATE OR REPLACE FUNCTION syncd.sync_nests(p_registers jsonb, p_written jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM jsonb_object_keys(p_registers) k WHERE strpos(k, '.') > 0 AND (p_written ? k OR EXISTS (
    SELECT FROM jsonb_object_keys(p_written) w WHERE starts_with(k, concat(w, '.')))));

-- What a change wrote, and of each member among that and what lost the newer registers that it is a member of: its writer,
-- whose clock was behind, shows the member, and nobody else does. p_held: the record as it is now.
CREATE OR REPLACE FUNCTION syncd.sync_with_objects(p_fields json, p_lost json, p_held jsonb) RETURNS json
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    v_held    jsonb := p_held || '{}';  -- unpacked once, and not for each field
    v_written jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM jsonb_object_keys(v_held) k WHERE strpos(k, '.') > 0) THEN
        RETURN p_fields;  -- mostly
    END IF;
    v_written := coalesce(p_fields::jsonb, '{}') || coalesce(p_lost::jsonb, '{}');
    RETURN coalesce(p_fields::jsonb, '{}') || coalesce((
        SELECT jsonb_object_agg(o.key, v_held -> o.key)
        FROM jsonb_object_keys(v_written) AS m (key)
        CROSS JOIN LATERAL string_to_array(m.key, '.') AS s (parts)
        CROSS JOIN LATERAL generate_series(1, cardinality(s.parts) - 1) n
        CROSS JOIN LATERAL (SELECT array_to_string(s.parts[1:n], '.') AS key) o
        WHERE concat(v_held -> o.key ->> 'at', v_held -> o.key ->> 'clientId') COLLATE "C"
              > concat(v_held -> m.key ->> 'at', v_held -> m.key ->> 'clientId') COLLATE "C"), '{}');
END $$;

-- Whether these are the registers of a record that moved from this space to another. A device that knows a record by its id alone is
-- sent it from there, and must not take it for deleted: also not while it may not read there, for it may again.
CREATE OR REPLACE FUNCTION syncd.sync_moved(p_space_quoted text, p_registers jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN starts_with(p_space_quoted, '"_personal:') AND p_registers -> 'deletedAt' ->> 'movedTo' IS NOT NULL;

-- What sync_log_text gives to others; of a record that moved away nothing, or between separators of pieces an empty one: all
-- of it is in the space that it went to, where its objects have their newest members with them. A statement
-- takes it in as a part of itself.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_log(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[],
                                      p_space_quoted text, p_separator text) RETURNS TABLE (piece text)
LANGUAGE sql STABLE AS $$
    SELECT string_agg(CASE WHEN syncd.sync_moved(p_space_quoted, c.fields::jsonb) OR syncd.sync_moved(p_space_quoted, r.registers) THEN CASE WHEN p_separator <> ',' THEN '' END
        ELSE syncd.sync_legacy_change(concat(
        '{"eventId":"', c.event_id, '","seq":', c.seq, ',"table":', t.quoted, ',"id":', to_json(c.record_id),
        ',"spaceId":', p_space_quoted, ',"clientId":', d.quoted,
        CASE WHEN c.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(c.change_id)) END,
        CASE WHEN c.schema_version IS NOT NULL THEN concat(',"schemaVersion":', c.schema_version) END,
        CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
        CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END),
        c.record_id, CASE WHEN c.fields IS NULL THEN 2 ELSE c.op END::smallint, c.prev_seq IS NULL,
        syncd.sync_with_objects(c.fields, c.lost, r.registers), r.registers) END, p_separator ORDER BY c.seq)
    FROM syncd.sync_changes c
    JOIN syncd.sync_names t ON t.name_no = c.table_no
    JOIN syncd.sync_names d ON d.name_no = c.client_no
    LEFT JOIN LATERAL (
        -- one probe of the primary key, as in sync_apply: the other index would do for a table without statistics
        SELECT * FROM (
            SELECT q.registers, q.record_id FROM syncd.sync_records q
            WHERE q.space_no = p_space AND q.app_no = p_app AND q.table_no = c.table_no AND q.record_id >= c.record_id
            ORDER BY q.record_id LIMIT 1) first
        WHERE first.record_id = c.record_id
    ) r ON true
    WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto
      AND (c.fields IS NOT NULL OR p_separator = ',' AND syncd.sync_nests(r.registers, c.lost::jsonb)) AND (p_tables IS NULL OR c.table_no = ANY (p_tables))
$$;

CREATE OR REPLACE FUNCTION syncd.sync_legacy_log_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[],
                                           p_space_quoted text, p_separator text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT l.piece FROM syncd.sync_legacy_log(p_space, p_app, p_after, p_upto, p_tables, p_space_quoted, p_separator) l);
END $$;

-- Whether a change that wrote these registers met one of the same millisecond, found from the change before it of its record on. The last that
-- wrote there last before says what was held; it is looked for in so many changes.
CREATE OR REPLACE FUNCTION syncd.sync_ties(p_space integer, p_app integer, p_before bigint, p_written jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_left   jsonb := p_written;
    v_before bigint := p_before;
    v_fields jsonb;
BEGIN
    FOR n IN 1 .. 16 LOOP
        EXIT WHEN v_before IS NULL OR v_left = '{}';
        SELECT c.fields::jsonb, c.prev_seq INTO v_fields, v_before FROM syncd.sync_changes c
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq = v_before;
        IF EXISTS (SELECT FROM jsonb_each(v_left) w WHERE left(w.value ->> 'at', 23) = left(v_fields -> w.key ->> 'at', 23)) THEN
            RETURN true;
        END IF;
        v_left := v_left - ARRAY(SELECT jsonb_object_keys(v_fields));
    END LOOP;
    RETURN false;
END $$;

-- The seqs of changes, of a feed after p_after up to p_upto, after which their device may show something else than all others: they
-- have to do with members of objects, for it takes an object that comes again for news of its members too; or they lost, and it
-- shows what it wrote; or they won over one of the same millisecond, and it takes what it is sent with that for news. It is told how the record is.
CREATE OR REPLACE FUNCTION syncd.sync_nesting(p_space integer, p_app integer, p_after bigint, p_upto bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN ARRAY(
        SELECT c.seq FROM syncd.sync_changes c CROSS JOIN LATERAL (  -- one probe, as above
            SELECT q.registers, q.record_id FROM syncd.sync_records q
            WHERE q.space_no = p_space AND q.app_no = p_app AND q.table_no = c.table_no AND q.record_id >= c.record_id
            ORDER BY q.record_id LIMIT 1) r
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto AND r.record_id = c.record_id
          AND (c.lost IS NOT NULL OR syncd.sync_nests(r.registers, c.fields::jsonb)
               OR syncd.sync_ties(p_space, p_app, c.prev_seq, c.fields::jsonb)));
END $$;

-- What sync_state_text gives to others, and with p_newest sync_sweep_text (p_firsts, p_named are as there). p_written: only the records
-- that the changes with these seqs are of. A statement takes it in as a part of itself.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_state(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_base bigint,
                                        p_tables integer[], p_space_quoted text, p_written bigint[], p_newest boolean,
                                        p_firsts integer[], p_named boolean) RETURNS TABLE (piece text)
LANGUAGE sql STABLE AS $$
    SELECT string_agg(
        CASE WHEN s.deleted THEN syncd.sync_legacy_deletion(s.head, s.registers)
             ELSE syncd.sync_legacy_update(concat(s.head, ',"op":"update"'), s.record_id, s.registers,
                                           syncd.sync_members(s.registers), true) END,
        ',' ORDER BY CASE WHEN p_newest THEN -s.seq ELSE s.seq END)
    FROM (
        SELECT r.seq, r.deleted, r.record_id, r.registers, concat(
            '{"eventId":"', r.event_id, '","seq":', r.seq, ',"table":', t.quoted, ',"id":', to_json(r.record_id),
            ',"spaceId":', p_space_quoted, ',"clientId":', d.quoted,
            CASE WHEN r.schema_version IS NOT NULL THEN concat(',"schemaVersion":', r.schema_version) END,
            CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
            CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END) AS head
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        LEFT JOIN LATERAL (
            SELECT * FROM (
                SELECT q.actor, q.origin, q.seq FROM syncd.sync_changes q
                WHERE q.space_no = p_space AND q.app_no = p_app AND q.seq >= r.seq ORDER BY q.seq LIMIT 1) first
            WHERE first.seq = r.seq
        ) c ON true
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto
          AND (NOT r.deleted OR r.seq > p_base AND NOT syncd.sync_moved(p_space_quoted, r.registers)) AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
          AND (p_firsts IS NULL OR (r.table_no = ANY (p_firsts)) = p_named)
          AND (p_written IS NULL OR EXISTS (
              SELECT FROM syncd.sync_changes w WHERE w.space_no = p_space AND w.app_no = p_app AND w.seq = ANY (p_written)
                AND w.table_no = r.table_no AND w.record_id = r.record_id))) s
$$;

-- The same by itself. p_written is as in sync_state_text, and what sync_nesting finds is added.
CREATE OR REPLACE FUNCTION syncd.sync_legacy_state_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_base bigint,
                                             p_tables integer[], p_space_quoted text, p_written bigint[], p_newest boolean,
                                             p_firsts integer[], p_named boolean) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_written bigint[] := CASE WHEN p_written IS NOT NULL THEN p_written || syncd.sync_nesting(p_space, p_app, p_after, p_upto) END;
BEGIN
    IF v_written = '{}' THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT l.piece FROM syncd.sync_legacy_state(
        p_space, p_app, p_after, p_upto, p_base, p_tables, p_space_quoted, v_written, p_newest, p_firsts, p_named) l);
END $$;
