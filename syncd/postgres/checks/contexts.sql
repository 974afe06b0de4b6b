-- Why: whoever may set the parameter that says who acts can act as any user; a default of it would be taken for one.
SELECT syncd.sync_context_kind() AS kind,
       n.nspowner::pg_catalog.regrole::text AS owner,
       ARRAY(SELECT coalesce(r.rolname::text, 'PUBLIC')
             FROM pg_catalog.pg_parameter_acl p CROSS JOIN LATERAL pg_catalog.aclexplode(p.paracl) a
             LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
             WHERE p.parname = 'backtrace_functions' AND a.privilege_type = 'SET' AND a.grantee <> n.nspowner
               AND r.rolsuper IS NOT TRUE
             ORDER BY 1) AS setters,
       EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) AS c (entry)
               WHERE starts_with(c.entry, 'backtrace_functions=')
                 AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())))
           OR (SELECT s.reset_val <> '' FROM pg_catalog.pg_settings s WHERE s.name = 'backtrace_functions') AS preset
FROM pg_catalog.pg_namespace n WHERE n.nspname = 'syncd'
