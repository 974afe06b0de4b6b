-- Why: an object in `public` or in a session's own schema can be found in place of PostgreSQL's, and is then called.
SELECT pg_catalog.quote_ident(current_user) AS name,
       pg_catalog.quote_ident(pg_catalog.current_database()) AS database,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY') AS temporary,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS in_database,
       ARRAY(SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace n
             WHERE pg_catalog.has_schema_privilege(n.oid, 'CREATE') AND n.nspname !~ '^pg_(toast_)?temp_' ORDER BY 1) AS schemas
