-- Why: row security is only as good as the role it binds; a superuser, an owner or BYPASSRLS would see everything.
SELECT r.rolname::text AS name,
       r.rolsuper AS superuser,
       r.rolbypassrls AS bypasses,
       ARRAY(SELECT m.rolname::text FROM pg_catalog.pg_roles m
             WHERE (m.rolsuper OR m.rolbypassrls) AND m.oid <> r.oid
               AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')) AS can_become,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             WHERE c.relnamespace = pg_catalog.to_regnamespace('syncd') AND c.relkind IN ('r', 'p')
               AND pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER')) AS owns,
       pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('syncd'), 'USAGE') AS may_enter,
       pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('syncd'), 'CREATE') AS may_create,
       CASE WHEN pg_catalog.to_regclass('syncd.sync_changes') IS NOT NULL THEN
           pg_catalog.has_table_privilege('syncd.sync_changes', 'SELECT')
           AND pg_catalog.has_table_privilege('syncd.sync_changes', 'INSERT') END AS may_append,
       CASE WHEN pg_catalog.to_regclass('syncd.sync_changes') IS NOT NULL THEN
           pg_catalog.has_table_privilege('syncd.sync_changes', 'UPDATE, DELETE, TRUNCATE')
           OR pg_catalog.has_any_column_privilege('syncd.sync_changes', 'UPDATE') END AS may_rewrite
FROM pg_catalog.pg_roles r
WHERE r.rolname = current_user
