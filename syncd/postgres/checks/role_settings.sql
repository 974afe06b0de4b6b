-- Why: a role may change its own settings by ALTER ROLE, which then hold in each session that it begins.
SELECT pg_catalog.quote_ident(r.rolname) AS role, c AS setting,
       pg_catalog.quote_ident(pg_catalog.split_part(c, '=', 1)) AS name,
       coalesce(' IN DATABASE ' || pg_catalog.quote_ident(d.datname), '') AS place
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c
WHERE (r.rolname LIKE 'syncd\_%' OR r.rolname = session_user)
  AND (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
ORDER BY 1, 2, 4
