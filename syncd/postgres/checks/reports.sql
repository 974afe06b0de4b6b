-- Why: a view of reports shows what row security lets the role syncd_views see, and that is bound by the login that reads.
-- The path is pg_catalog alone here, so that conditions are printed with the schemas of their tables.
WITH own AS (
    SELECT o.oid FROM pg_catalog.pg_roles o
    WHERE o.rolname IN ('syncd_runtime', 'syncd_compactor', 'syncd_writer', 'syncd_consumer', 'syncd_owner', 'syncd_views', 'syncd_sql')
       OR o.oid = (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd') OR o.rolsuper OR o.rolbypassrls),
-- Whether a role can act as another, or has its rights. Since PostgreSQL 16 who made a role may be a member that can do neither.
acts AS (SELECT CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000 THEN 'USAGE, SET' ELSE 'MEMBER' END AS how),
-- As sync_report_bind has it (schema/functions/reports.sql), without the brackets and types that the database prints.
bound AS (SELECT pg_catalog.regexp_replace($c$space_no = ANY (ARRAY(
        SELECT m.space_no FROM syncd.sync_report_roles b
        JOIN syncd.sync_names n ON n.name = b.user_id
        JOIN syncd.sync_memberships m ON m.user_no = n.name_no
        WHERE b.role = CURRENT_USER AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER')
        UNION ALL
        SELECT s.space_no FROM syncd.sync_report_roles b
        JOIN syncd.sync_spaces s ON s.space_no = ANY (b.spaces)
        WHERE b.role = CURRENT_USER AND s.deleted_at IS NULL AND NOT pg_has_role(CURRENT_USER, 'syncd_runtime', 'MEMBER')))$c$,
        '[[:space:]()]|::(name|text)\M', '', 'g') AS condition)
SELECT v.rolcanlogin OR v.rolsuper OR v.rolbypassrls AS unbound_role,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
             WHERE r.oid <> v.oid AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, v.oid, acts.how) ORDER BY 1) AS members,
       -- Tables with rows of spaces that the role may read and is not bound in.
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'space_no' AND NOT a.attisdropped
             WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd') AND c.relkind IN ('r', 'p')
               AND c.relname NOT IN ('sync_spaces', 'sync_memberships')
               AND pg_catalog.has_any_column_privilege(v.oid, c.oid, 'SELECT')
               AND NOT (c.relrowsecurity AND EXISTS (
                   SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'reports_bound' AND NOT p.polpermissive
                     AND p.polcmd = 'r' AND p.polroles = ARRAY[v.oid] AND bound.condition
                         = pg_catalog.regexp_replace(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '[[:space:]()]|::(name|text)\M', '', 'g')))
             ORDER BY 1) AS unbound_tables,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             WHERE c.relowner = v.oid AND c.relkind = 'v' AND NOT coalesce('security_barrier=true' = ANY (c.reloptions), false) ORDER BY 1) AS open_views,
       -- Views that are read as another role, by somebody who is not that one.
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             WHERE c.relnamespace = pg_catalog.to_regnamespace('syncd_app') AND c.relkind = 'v' AND c.relowner <> v.oid
               AND EXISTS (SELECT FROM pg_catalog.pg_roles r
                           WHERE (r.rolname = 'syncd_reports' OR r.rolcanlogin AND NOT r.rolsuper AND NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER'))
                             AND pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT')) ORDER BY 1) AS astray_views,
       -- Copies with statistics of what a reader may compare.
       ARRAY(SELECT DISTINCT c.relname::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'space_no'
             WHERE c.relnamespace = pg_catalog.to_regnamespace('syncd') AND c.relkind = 'r' AND c.relname ~ '^sync_projection_[0-9]+$'
               AND a.attstattarget IS DISTINCT FROM 0 ORDER BY 1) AS told_copies,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
             WHERE r.rolname <> 'syncd_reports'
               -- An operator, who acts as the tables' owner, may be a member of logins.
               AND (pg_catalog.pg_has_role(r.oid, pg_catalog.to_regrole('syncd_reports'), acts.how) AND NOT r.rolsuper AND NOT pg_catalog.pg_has_role(
                        r.oid, (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd'), 'MEMBER')
                    OR EXISTS (SELECT FROM pg_catalog.pg_auth_members g
                               WHERE g.roleid = pg_catalog.to_regrole('syncd_reports') AND g.member = r.oid AND NOT g.admin_option))
               AND (r.rolsuper OR r.rolbypassrls
                    OR EXISTS (SELECT FROM own o WHERE pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER'))) ORDER BY 1) AS unsafe_logins
FROM pg_catalog.pg_roles v, acts, bound
WHERE v.rolname = 'syncd_views' AND EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd_app')
