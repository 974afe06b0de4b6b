-- A feed as JSON text: its changes and its records, as they travel. The bytes that go to a device are made here, once.
-- Called by functions alone.

-- A whole record as plain values, the form that clients of the first generation read.
CREATE OR REPLACE FUNCTION syncd.sync_plain(p_registers jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(jsonb_object_agg(e.key, e.value -> 'value'), '{}')::text FROM jsonb_each(p_registers) e);

-- Where deletions were forgotten, a record may be made that devices hold deleted: they have to drop what they keep of it,
-- and are told so by `whole`, with a change that has all there is of its record.
CREATE OR REPLACE FUNCTION syncd.sync_whole_mark(p_space integer, p_app integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT ',"whole":true' FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app AND h.forgotten > 0);

-- One change of the log as JSON text. A statement takes this in as a part of itself, so it costs nothing more, and so it does the next
-- one. p_whole: sync_whole_mark of its feed; p_plain: an insert as a plain record too.
CREATE OR REPLACE FUNCTION syncd.sync_change_text(c syncd.sync_changes, p_table text, p_client text, p_space text, p_whole text, p_plain boolean)
RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    '{"eventId":"', c.event_id, '","seq":', c.seq, ',"table":', p_table, ',"id":', to_json(c.record_id),
    -- a delete whose tombstone lost, or says null, was an edit of its other fields
    CASE WHEN c.op = 1 THEN ',"op":"insert"'
         WHEN c.op = 2 OR c.fields #>> '{deletedAt,value}' IS NULL THEN ',"op":"update"'
         ELSE concat(',"op":"delete","deletedAt":"', c.fields -> 'deletedAt' ->> 'at', '"') END,
    ',"spaceId":', p_space, ',"clientId":', p_client,
    CASE WHEN c.change_id >= U&'\0020' THEN concat(',"changeId":', to_json(c.change_id)) END,
    CASE WHEN c.schema_version IS NOT NULL THEN concat(',"schemaVersion":', c.schema_version) END,
    CASE WHEN c.actor IS NOT NULL THEN concat(',"actor":', c.actor) END,
    CASE WHEN c.origin IS NOT NULL THEN concat(',"origin":', to_json(c.origin)) END,
    CASE WHEN p_plain AND c.op = 1 THEN concat(',"data":', syncd.sync_plain(c.fields::jsonb)) END,
    CASE WHEN c.prev_seq IS NULL THEN p_whole END, ',"fields":', c.fields, '}');

-- One record of the state as JSON text. p_space: what it says of its space, p_fields: what comes before the registers.
CREATE OR REPLACE FUNCTION syncd.sync_record_text(r syncd.sync_records, p_table text, p_client text, p_space text, p_fields text) RETURNS text
LANGUAGE sql STABLE
RETURN concat(
    '{"eventId":"', r.event_id, '","seq":', r.seq, ',"table":', p_table, ',"id":', to_json(r.record_id),
    CASE WHEN r.deleted THEN concat(',"op":"delete","deletedAt":"', r.registers -> 'deletedAt' ->> 'at', '"') ELSE ',"op":"insert"' END,
    p_space, p_client,
    CASE WHEN r.schema_version IS NOT NULL THEN concat(',"schemaVersion":', r.schema_version) END,
    p_fields, r.registers, '}');

-- The log of one feed after p_after, up to p_upto, as JSON text. p_legacy: for a client of the first generation; null: the
-- log itself for one, with inserts as plain records too. p_separator: a control character, which JSON text cannot
-- contain, lets a reader take the changes apart without parsing them.
CREATE OR REPLACE FUNCTION syncd.sync_log_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[],
                                    p_legacy boolean, p_space_quoted text, p_separator text DEFAULT ',') RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_whole text;
BEGIN
    IF p_legacy THEN
        RETURN syncd.sync_legacy_log_text(p_space, p_app, p_after, p_upto, p_tables, p_space_quoted, p_separator);
    END IF;
    v_whole := syncd.sync_whole_mark(p_space, p_app);
    RETURN (
        SELECT string_agg(syncd.sync_change_text(c, t.quoted, d.quoted, p_space_quoted, v_whole, p_legacy IS NULL), p_separator ORDER BY c.seq)
        FROM syncd.sync_changes c
        JOIN syncd.sync_names t ON t.name_no = c.table_no
        JOIN syncd.sync_names d ON d.name_no = c.client_no
        WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq > p_after AND c.seq <= p_upto
          AND c.fields IS NOT NULL AND (p_tables IS NULL OR c.table_no = ANY (p_tables)));
END $$;

-- The current records of one feed last touched after p_after, up to p_upto, as JSON text. Tombstones
-- matter only where the record may have been sent before it was deleted: touched after p_base. p_written: only the
-- records that the changes with these seqs are of.
CREATE OR REPLACE FUNCTION syncd.sync_state_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_base bigint,
                                      p_tables integer[], p_legacy boolean, p_space_quoted text,
                                      p_written bigint[] DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_space  text := concat(',"spaceId":', p_space_quoted, ',"clientId":');
    v_fields text := concat(syncd.sync_whole_mark(p_space, p_app), ',"fields":');
BEGIN
    IF p_legacy IS DISTINCT FROM false THEN
        RETURN syncd.sync_legacy_state_text(p_space, p_app, p_after, p_upto, p_base, p_tables, p_space_quoted, p_written, false, NULL, NULL);
    END IF;
    RETURN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, v_space, v_fields), ',' ORDER BY r.seq)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto
          AND (NOT r.deleted OR r.seq > p_base) AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
          AND (p_written IS NULL OR EXISTS (
              SELECT FROM syncd.sync_changes c WHERE c.space_no = p_space AND c.app_no = p_app AND c.seq = ANY (p_written)
                AND c.table_no = r.table_no AND c.record_id = r.record_id)));
END $$;

-- The living records of one feed last touched after p_after, up to p_upto, newest first, as JSON text. p_firsts: of these
-- tables, with p_named, or of all others, without; null: of all.
CREATE OR REPLACE FUNCTION syncd.sync_sweep_text(p_space integer, p_app integer, p_after bigint, p_upto bigint, p_tables integer[], p_firsts integer[],
                                      p_named boolean, p_legacy boolean, p_space_quoted text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_space text := concat(',"spaceId":', p_space_quoted, ',"clientId":');
BEGIN
    IF p_legacy IS DISTINCT FROM false THEN
        RETURN syncd.sync_legacy_state_text(p_space, p_app, p_after, p_upto, p_upto, p_tables, p_space_quoted, NULL, true, p_firsts, p_named);
    END IF;
    RETURN (
        SELECT string_agg(syncd.sync_record_text(r, t.quoted, d.quoted, v_space, ',"fields":'), ',' ORDER BY r.seq DESC)
        FROM syncd.sync_records r
        JOIN syncd.sync_names t ON t.name_no = r.table_no
        JOIN syncd.sync_names d ON d.name_no = r.client_no
        WHERE r.space_no = p_space AND r.app_no = p_app AND r.seq > p_after AND r.seq <= p_upto AND NOT r.deleted
          AND (p_tables IS NULL OR r.table_no = ANY (p_tables))
          AND (p_firsts IS NULL OR (r.table_no = ANY (p_firsts)) = p_named));
END $$;
