-- Why: a view of reports shows what row security lets the role syncd_views see, and that is bound by the login that reads.
SELECT v.rolcanlogin OR v.rolsuper OR v.rolbypassrls AS unbound_role,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_roles r
             WHERE r.oid <> v.oid AND NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, v.oid, 'USAGE') ORDER BY 1) AS members,
       -- Tables with rows of spaces that the role may read and is not bound in.
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = 'space_no' AND NOT a.attisdropped
             WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd') AND c.relkind IN ('r', 'p')
               AND c.relname NOT IN ('sync_spaces', 'sync_memberships')
               AND pg_catalog.has_any_column_privilege(v.oid, c.oid, 'SELECT')
               AND NOT (c.relrowsecurity AND EXISTS (
                   SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'reports_bound' AND NOT p.polpermissive
                     AND p.polroles = ARRAY[v.oid] AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) ~ 'CURRENT_USER'))
             ORDER BY 1) AS unbound_tables,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             WHERE c.relowner = v.oid AND c.relkind = 'v' AND NOT coalesce('security_barrier=true' = ANY (c.reloptions), false) ORDER BY 1) AS open_views,
       ARRAY(SELECT r.rolname::text FROM pg_catalog.pg_auth_members g JOIN pg_catalog.pg_roles r ON r.oid = g.member
             WHERE g.roleid = pg_catalog.to_regrole('syncd_reports') AND NOT g.admin_option
               AND (r.rolsuper OR r.rolbypassrls OR EXISTS (
                   SELECT FROM pg_catalog.pg_roles o
                   WHERE o.rolname IN ('syncd_runtime', 'syncd_compactor', 'syncd_writer', 'syncd_consumer', 'syncd_owner', 'syncd_views')
                     AND pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER'))) ORDER BY 1) AS unsafe_logins
FROM pg_catalog.pg_roles v
WHERE v.rolname = 'syncd_views' AND EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd_app')
