-- Why: who owns a function or a table can make it into anything, and a trigger runs as whoever writes.
SELECT n.nspowner::pg_catalog.regrole::text AS owner,
       ARRAY(SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
             WHERE p.pronamespace = n.oid AND p.proowner <> n.nspowner
             UNION ALL
             SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
             WHERE c.relnamespace = n.oid AND c.relowner <> n.nspowner AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
             UNION ALL
             SELECT t.oid::pg_catalog.regtype::text FROM pg_catalog.pg_type t
             WHERE t.typnamespace = n.oid AND t.typowner <> n.nspowner AND t.typtype IN ('d', 'e', 'r')
             ORDER BY 1) AS foreign_owned,
       ARRAY(SELECT pg_catalog.concat(t.tgname, ' on ', c.oid::pg_catalog.regclass) FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid AND c.relnamespace = n.oid
             JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
             WHERE NOT t.tgisinternal AND (p.pronamespace <> n.oid OR p.proowner <> n.nspowner) ORDER BY 1) AS foreign_triggers
FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd'
