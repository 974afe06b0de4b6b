-- Who an operator is connected as: the time, the cursor key, and whether row security lets this role see everything.
SELECT clock_timestamp(), cursor_key, (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user)
FROM syncd.sync_server
