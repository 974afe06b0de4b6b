-- What was erased stays so: a record whose deletion says `erased` is not written to any more, whoever does it (functions/erase.sql).
-- And an import leaves out what is known to be erased. Called by functions alone, but for sync_last_erasure, which consumers and operators call. sync_erased_stays is a
-- trigger of sync_records; sync_was_erased and sync_last_erasure are SECURITY DEFINER, as who asks may not read there.

-- Which erasure ended last: another value after each, by which a consumer knows that what it read before may not be handed out. It says nothing of the erasure.
CREATE OR REPLACE FUNCTION syncd.sync_last_erasure() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.last_erasure FROM syncd.sync_erasure_key k
$$;

-- Whether these are the registers of a record that was erased.
CREATE OR REPLACE FUNCTION syncd.sync_is_erased(p_registers jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(p_registers -> 'deletedAt' ? 'erased', false);

-- Refuses what is written to an erased record as what is written to a forgotten one: that change alone, and its device keeps it.
CREATE OR REPLACE FUNCTION syncd.sync_erased_stays() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'erased' USING ERRCODE = 'SY004';
END $$;

-- Whether a record was erased, by its names of now: for what is held, which has no numbers, and whose author may not read there. What was erased
-- in another space that had the id is another record.
CREATE OR REPLACE FUNCTION syncd.sync_was_erased(p_space text, p_app text, p_table text, p_record text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM syncd.sync_erasures e JOIN syncd.sync_spaces s ON s.space_no = e.space_no
                   WHERE e.what = 'record' AND e.record_id = p_record AND e.table_name = p_table AND e.app = p_app AND s.space_id = p_space)
$$;

-- Until when what was written under these names may be of a record that was erased, in whichever space had the id; null: it is not.
CREATE OR REPLACE FUNCTION syncd.sync_erased_until(p_space text, p_app text, p_table text, p_record text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT max(CASE WHEN s.space_id IS NOT NULL OR e.done_at IS NULL THEN 'infinity' ELSE e.done_at END)
    FROM syncd.sync_erasures e LEFT JOIN syncd.sync_spaces s ON s.space_no = e.space_no AND s.space_id = e.space_id
    WHERE e.what = 'record' AND e.record_id = p_record AND e.table_name = p_table AND e.app = p_app AND e.space_id = p_space
$$;

-- Which changes of a push or an import that raised SY004 are of erased records, by their places. p_head, p_bodies: as in
-- sync_unremembered_in, which has said who acts.
CREATE OR REPLACE FUNCTION syncd.sync_erased_in(p_head jsonb, p_bodies json[]) RETURNS integer[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tables jsonb := coalesce(p_head -> 'tables', p_head -> 'names');
BEGIN
    RETURN ARRAY(
        SELECT x.i FROM unnest(p_bodies) AS b (body)
        CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, s integer, k integer, t integer, r text)
        JOIN syncd.sync_spaces p ON p.space_id = coalesce(p_head -> 'spaces' ->> (x.s - 1), p_head -> 'feeds' -> (x.k - 1) ->> 's')
        JOIN syncd.sync_names a ON a.name = coalesce(p_head ->> 'app', v_tables ->> ((p_head -> 'feeds' -> (x.k - 1) ->> 'a')::integer - 1))
        JOIN syncd.sync_names t ON t.name = v_tables ->> (x.t - 1)
        JOIN syncd.sync_records q ON q.space_no = p.space_no AND q.app_no = a.name_no AND q.table_no = t.name_no AND q.record_id = x.r
        WHERE q.deleted AND (syncd.sync_is_erased(q.registers) OR EXISTS (  -- or it moved, and was erased there
            SELECT FROM syncd.sync_spaces m JOIN syncd.sync_records h ON h.space_no = m.space_no
            WHERE m.space_id = q.registers -> 'deletedAt' ->> 'movedTo' AND h.app_no = q.app_no AND h.table_no = q.table_no
              AND h.record_id = q.record_id AND h.deleted AND syncd.sync_is_erased(h.registers)))
        ORDER BY x.i);
END $$;

-- Whether a register `deletedAt` has nothing but an instant, or null.
CREATE OR REPLACE FUNCTION syncd.sync_is_instant(p_value jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN p_value = 'null' OR jsonb_typeof(p_value) = 'string'
       AND p_value #>> '{}' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$';

-- Which of these users were erased, by their ids, and since when who has the id is somebody else.
CREATE OR REPLACE FUNCTION syncd.sync_erased_users(p_names text[]) RETURNS TABLE (name text, gone_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT u.name, max(coalesce(e.begun_at, e.done_at))
    FROM (SELECT DISTINCT n.name FROM unnest(p_names) AS n (name) WHERE n.name IS NOT NULL) u
    JOIN syncd.sync_erasures e ON e.what = 'user' AND coalesce(e.begun_at, e.done_at) IS NOT NULL AND e.digest = sha256(e.salt || convert_to(u.name, 'UTF8'))
    GROUP BY u.name
$$;

-- Which of these spaces were erased with their user, by the ids that they had, and when.
CREATE OR REPLACE FUNCTION syncd.sync_erased_spaces(p_ids text[]) RETURNS TABLE (space_id text, gone_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.id, max(g.at) FROM (
        SELECT u.id, s.erased_at AS at FROM unnest(p_ids) AS u (id) CROSS JOIN syncd.sync_erasures e
        JOIN syncd.sync_spaces s ON s.erased_as = sha256(e.salt || convert_to(u.id, 'UTF8')) WHERE e.what = 'user'
        UNION ALL
        SELECT concat('_personal:', e.name), e.gone_at FROM syncd.sync_erased_users(ARRAY(
            SELECT substr(u.id, 11) FROM unnest(p_ids) AS u (id) WHERE starts_with(u.id, '_personal:'))) e) g
    GROUP BY g.id
$$;

-- The places of those changes of an operator's import that are of what was erased: of a record, where they have a value; or by a user or in a
-- space, before that was erased. The parameters are those of sync_import.
CREATE OR REPLACE FUNCTION syncd.sync_import_erased(p_head jsonb, p_feeds integer[], p_ats timestamptz[], p_authors integer[], p_waves json[])
RETURNS integer[] LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_erasures) THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        WITH users AS MATERIALIZED (
            SELECT g.* FROM syncd.sync_erased_users(ARRAY(SELECT p_head -> 'names' ->> (a - 1) FROM unnest(p_authors) a)) g
        ), feeds AS MATERIALIZED (
            SELECT e.k, e.f ->> 's' AS space, p_head -> 'names' ->> ((e.f ->> 'a')::integer - 1) AS app, g.gone_at
            FROM jsonb_array_elements(p_head -> 'feeds') WITH ORDINALITY AS e (f, k)
            LEFT JOIN syncd.sync_erased_spaces(ARRAY(SELECT DISTINCT o ->> 's' FROM jsonb_array_elements(p_head -> 'feeds') o)) g
                ON g.space_id = e.f ->> 's'
        ), records AS (
            SELECT x.i, p_head -> 'names' ->> (x.t - 1) AS table_name, x.r, x.f
            FROM unnest(p_waves) AS b (body) CROSS JOIN LATERAL json_to_recordset(b.body) AS x (i integer, t integer, r text, f json)
        )
        SELECT r.i FROM records r JOIN feeds f ON f.k = p_feeds[r.i]
        LEFT JOIN users u ON u.name = p_head -> 'names' ->> (p_authors[r.i] - 1)
        WHERE p_ats[r.i] <= greatest(u.gone_at, f.gone_at) OR p_ats[r.i] <= syncd.sync_erased_until(f.space, f.app, r.table_name, r.r) AND EXISTS (
            SELECT FROM json_each(r.f) w WHERE w.key <> 'deletedAt' AND w.value ->> 'erased' IS DISTINCT FROM 'true')
        ORDER BY r.i);
END $$;

-- What an operator's import of p_made says of spaces, without those that were erased since and without users who were; nor those in which there
-- was nobody else.
CREATE OR REPLACE FUNCTION syncd.sync_import_unerased(p_spaces jsonb, p_made timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users  text[];
    v_spaces text[];
BEGIN
    IF NOT EXISTS (SELECT FROM syncd.sync_erasures) THEN
        RETURN p_spaces;
    END IF;
    v_users := ARRAY(SELECT g.name FROM syncd.sync_erased_users(ARRAY(
        SELECT unnest(ARRAY[m ->> 'userId', m ->> 'invitedBy']) FROM jsonb_array_elements(p_spaces) s,
               jsonb_array_elements(coalesce(s -> 'members', '[]') || coalesce(s -> 'invitations', '[]') || coalesce(s -> 'removed', '[]')) m
        UNION SELECT o FROM jsonb_array_elements(p_spaces) s, jsonb_array_elements_text(coalesce(s -> 'owners', '[]')) o)) g
        WHERE p_made <= g.gone_at);
    v_spaces := ARRAY(SELECT g.space_id FROM syncd.sync_erased_spaces(ARRAY(SELECT s ->> 'id' FROM jsonb_array_elements(p_spaces) s)) g
                      WHERE p_made <= g.gone_at);
    RETURN coalesce((
        SELECT jsonb_agg(s || (SELECT coalesce(jsonb_object_agg(l.key, (
                   SELECT coalesce(jsonb_agg(m ORDER BY n), '[]') FROM jsonb_array_elements(l.value) WITH ORDINALITY AS e (m, n)
                   WHERE coalesce(m ->> 'userId', m #>> '{}') <> ALL (v_users) AND coalesce(m ->> 'invitedBy', '') <> ALL (v_users))), '{}')
               FROM jsonb_each(s) l WHERE l.key IN ('members', 'invitations', 'removed', 'owners') AND jsonb_typeof(l.value) = 'array') ORDER BY i)
        FROM jsonb_array_elements(p_spaces) WITH ORDINALITY AS x (s, i)
        WHERE s ->> 'id' <> ALL (v_spaces) AND (coalesce(s -> 'members', '[]') = '[]' OR EXISTS (
            SELECT FROM jsonb_array_elements(s -> 'members') m WHERE m ->> 'userId' <> ALL (v_users)))), '[]');
END $$;
