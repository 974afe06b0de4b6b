-- The first generation's table as a view over the log, made by `syncd migrate --legacy-view`, as the schema's owner. Each
-- statement may run again. It is a view of its owner, whom row security binds: so the policy below, and the role syncd_sql,
-- which may call the function that the log's other policies call. A user of SQL is granted that role.

-- name: role
DO $$ BEGIN
    IF to_regrole('syncd_sql') IS NULL THEN
        CREATE ROLE syncd_sql NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
END $$;

-- name: policy
DROP POLICY IF EXISTS view_reads ON syncd.sync_changes;
-- Its name sorts last, so that it is asked last.
CREATE POLICY view_reads ON syncd.sync_changes FOR SELECT TO CURRENT_USER
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m JOIN syncd.sync_names n ON n.name_no = m.user_no
                        WHERE n.name = current_setting('app.current_user_id', true)));

-- name: view
CREATE OR REPLACE VIEW public.sync_changes WITH (security_barrier) AS
SELECT c.event_id AS id, a.name AS app_id, t.name AS table_name, c.record_id, u.name AS user_id, s.space_id,
       CASE c.op WHEN 1 THEN 'insert' WHEN 2 THEN 'update' ELSE 'delete' END AS op,
       -- in milliseconds, as devices are sent them (sync_legacy_fields), for who compares instants as text
       (SELECT jsonb_object_agg(e.key, CASE
            WHEN e.key = 'deletedAt' AND e.value ->> 'value' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$'
            THEN to_jsonb(concat(left(e.value ->> 'value', 23), 'Z')) ELSE e.value -> 'value' END)
        FROM jsonb_each(coalesce(c.lost::jsonb, '{}') || coalesce(c.fields::jsonb, '{}')) e) AS data,
       (SELECT jsonb_object_agg(e.key, concat(left(e.value ->> 'at', 23), 'Z'))
        FROM jsonb_each(coalesce(c.lost::jsonb, '{}') || coalesce(c.fields::jsonb, '{}')) e) AS field_meta,
       d.name AS client_id, c.created_at, c.schema_version, c.actor::jsonb AS actor, c.origin
FROM syncd.sync_changes c
JOIN syncd.sync_names a ON a.name_no = c.app_no
JOIN syncd.sync_names t ON t.name_no = c.table_no
JOIN syncd.sync_names u ON u.name_no = c.user_no
JOIN syncd.sync_names d ON d.name_no = c.client_no
JOIN syncd.sync_spaces s ON s.space_no = c.space_no
-- IS TRUE keeps it a filter: as a join it would be read by space, whatever a query asks for.
WHERE (c.space_no IN (SELECT m.space_no FROM syncd.sync_memberships m JOIN syncd.sync_names n ON n.name_no = m.user_no
                      WHERE n.name = current_setting('app.current_user_id', true))) IS TRUE;
CREATE OR REPLACE TRIGGER pushes INSTEAD OF INSERT ON public.sync_changes FOR EACH ROW EXECUTE FUNCTION syncd.sync_view_insert();
CREATE OR REPLACE TRIGGER refuses INSTEAD OF UPDATE OR DELETE ON public.sync_changes FOR EACH ROW EXECUTE FUNCTION syncd.sync_view_refuse();
GRANT SELECT, INSERT, UPDATE, DELETE ON public.sync_changes TO syncd_sql;
-- What the policies of the tables below ask.
GRANT EXECUTE ON FUNCTION syncd.sync_user, syncd.sync_group, syncd.sync_acting_in TO syncd_sql;

-- name: by_author
CREATE INDEX CONCURRENTLY IF NOT EXISTS sync_changes_by_author ON syncd.sync_changes (user_no, app_no, created_at);

-- name: by_record
CREATE INDEX CONCURRENTLY IF NOT EXISTS sync_changes_by_record ON syncd.sync_changes (table_no, record_id);
