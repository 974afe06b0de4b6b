-- Why: row security is only as good as the role it binds; a superuser, an owner or BYPASSRLS would see everything.
SELECT r.rolname::text AS name,
       r.rolsuper AS superuser,
       r.rolbypassrls AS bypasses,
       ARRAY(SELECT m.rolname::text FROM pg_catalog.pg_roles m
             WHERE (m.rolsuper OR m.rolbypassrls OR m.rolname IN ('syncd_compactor', 'syncd_consumer')) AND m.oid <> r.oid
               AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER')) AS can_become,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
             WHERE c.relnamespace = schema.oid AND c.relkind IN ('r', 'p')
               AND pg_catalog.pg_has_role(r.oid, c.relowner, 'MEMBER') ORDER BY 1) AS owns,
       pg_catalog.has_schema_privilege(schema.oid, 'USAGE') AS may_enter,
       pg_catalog.has_schema_privilege(schema.oid, 'CREATE') AS may_create,
       pg_catalog.has_table_privilege(log.oid, 'SELECT')
           AND pg_catalog.has_table_privilege(log.oid, 'INSERT') AS may_append,
       pg_catalog.has_table_privilege(log.oid, 'UPDATE, DELETE, TRUNCATE')
           OR pg_catalog.has_any_column_privilege(log.oid, 'UPDATE') AS may_rewrite,
       EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = schema.oid AND p.proname = 'write'
               AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) AS is_backend
FROM pg_catalog.pg_roles r
-- By the catalogs: a name is resolved only for who may enter the schema.
LEFT JOIN pg_catalog.pg_namespace schema ON schema.nspname = 'syncd'
LEFT JOIN pg_catalog.pg_class log ON log.relnamespace = schema.oid AND log.relname = 'sync_changes'
WHERE r.rolname = current_user
