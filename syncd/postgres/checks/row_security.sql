-- Why: a table whose row security is not forced shows everything to its owner, and one without policies nothing.
SELECT c.relname::text AS name,
       c.relrowsecurity AS enabled,
       c.relforcerowsecurity AS forced,
       ARRAY(SELECT p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) AS policies
FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd') AND c.relkind IN ('r', 'p')
ORDER BY c.relname
