-- Reports (functions/reports.sql). All are an operator's, as the owner.

-- name: report_views
-- The views that there are.
-- returns: store.reports.ReportView
SELECT app, table_name, view_name, version, columns::text AS columns, projection_id FROM syncd.sync_report_views ORDER BY app, table_name;

-- name: report_view_text
-- The statement that makes a view.
-- returns: one value
SELECT syncd.sync_report_view_text($1, $2, $3, $4::jsonb);

-- name: report_view_note
-- Says which view a table has.
-- returns: nothing
SELECT syncd.sync_report_view_note($1, $2, $3, $4, $5::jsonb);

-- name: report_view_forget
-- Says that a table has no view.
-- returns: nothing
DELETE FROM syncd.sync_report_views WHERE app = $1 AND table_name = $2;

-- name: report_view_readers
-- The roles that may read a view beside syncd_reports and its owner; 0: everybody.
-- returns: one value
SELECT a.grantee::bigint FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
WHERE c.oid = pg_catalog.to_regclass($1) AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
  AND a.grantee IS DISTINCT FROM pg_catalog.to_regrole('syncd_reports')::oid;

-- name: report_views_astray
-- The views of tables, those with indexes too, that do not belong to syncd_views.
-- returns: one value
SELECT pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c
WHERE c.relnamespace = pg_catalog.to_regnamespace('syncd_app') AND c.relkind = 'v' AND c.relowner <> pg_catalog.to_regrole('syncd_views')::oid
  AND EXISTS (SELECT FROM syncd.sync_report_views v WHERE c.relname IN (v.view_name, v.view_name || '_indexed'));

-- name: report_memberships
-- Where memberships are kept: `table`, or `external`.
-- returns: one value
SELECT memberships FROM syncd.sync_server;

-- name: report_grant
-- Maps a login to a user or to spaces. Raises no_data_found.
-- returns: nothing
SELECT syncd.sync_report_grant($1, $2, $3::text[]);

-- name: report_revoke
-- Takes that back; a row where there was one.
-- returns: one value
DELETE FROM syncd.sync_report_roles WHERE role = $1 RETURNING true;

-- name: report_logins
-- The logins that read the views; `spaces`: ids, null where it reads as a user; `there`: it is a role that may read them.
-- returns: store.reports.ReportLogin
SELECT b.role, b.user_id, CASE WHEN b.spaces IS NOT NULL THEN
           ARRAY(SELECT s.space_id FROM syncd.sync_spaces s WHERE s.space_no = ANY (b.spaces) AND s.deleted_at IS NULL ORDER BY 1) END AS spaces,
       EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = b.role AND pg_catalog.pg_has_role(r.oid, 'syncd_reports', 'MEMBER')) AS there
FROM syncd.sync_report_roles b ORDER BY b.role;

-- name: report_role_faults
-- Why a role is none for reports: it is a superuser, or has BYPASSRLS (`whole`), or can become one of syncd's own roles (`members`).
-- returns: store.reports.RoleFaults
SELECT r.rolsuper OR r.rolbypassrls AS whole, r.rolcanlogin AS logs_in,
       ARRAY(SELECT o.rolname::text FROM pg_catalog.pg_roles o
             WHERE (o.rolname IN ('syncd_runtime', 'syncd_compactor', 'syncd_writer', 'syncd_consumer', 'syncd_owner', 'syncd_views', 'syncd_sql')
                    OR o.oid = (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd')
                    OR o.rolsuper OR o.rolbypassrls)
               AND o.oid <> r.oid AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER') ORDER BY 1) AS members
FROM pg_catalog.pg_roles r WHERE r.rolname = $1;

-- name: projection_list
-- The projections that there are, and which is read. `is_told`: the planner has statistics of its values.
-- returns: store.reports.Projection
SELECT j.projection_id, j.app, j.table_name, j.columns::text AS columns, j.indexes, v.projection_id IS NOT NULL AS is_read,
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.format('syncd.sync_projection_%s', j.projection_id))
                 AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'space_no' AND a.attstattarget IS DISTINCT FROM 0) AS is_told
FROM syncd.sync_projections j LEFT JOIN syncd.sync_report_views v ON v.projection_id = j.projection_id ORDER BY j.projection_id;

-- name: projection_make
-- Makes a projection, empty; its number.
-- returns: one value
SELECT syncd.sync_projection_make($1, $2, $3::jsonb, $4::text[]);

-- name: projection_drop
-- Removes a projection.
-- returns: nothing
SELECT syncd.sync_projection_drop($1);

-- name: projection_view_text
-- The statement that makes the view with indexes.
-- returns: one value
SELECT syncd.sync_projection_view_text($1, $2);

-- name: projection_read
-- Says which projection a table's view with indexes reads; null: it has none.
-- returns: nothing
UPDATE syncd.sync_report_views SET projection_id = $3 WHERE app = $1 AND table_name = $2;

-- name: projection_waits
-- How many changes are not in a projection yet, of all tables of its app.
-- returns: one value
SELECT coalesce(sum(h.head - coalesce(p.seq, 0)), 0)::bigint FROM syncd.sync_projections j
JOIN syncd.sync_names a ON a.name = j.app JOIN syncd.sync_feeds h ON h.app_no = a.name_no
LEFT JOIN syncd.sync_projection_feeds p ON p.projection_id = j.projection_id AND p.space_no = h.space_no AND p.app_no = h.app_no
WHERE j.projection_id = $1;

-- name: projections_step
-- Brings projections (null: all) some records further; `feeds`: how many were, null where there is no projection.
-- returns: store.reports.ProjectionStep
SELECT feeds, more, looked FROM syncd.sync_projections_step($1, $2);

-- name: projections_fill
-- Brings projections (null: all) some records further; how many feeds were, null where there is no projection.
-- returns: one value
SELECT syncd.sync_projections_fill($1, $2);

-- name: projection_lags
-- How far each table's projection is behind.
-- returns: store.reports.ProjectionLag
SELECT name, feeds, changes, seconds FROM syncd.sync_projection_lags();
