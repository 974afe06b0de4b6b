-- Why: what the promises ask of a server: its version, its text, its durability, its clock, and whether it is alone.
SELECT pg_catalog.current_setting('server_version_num')::integer AS version,
       pg_catalog.current_setting('server_version') AS version_text,
       pg_catalog.current_setting('server_encoding') AS encoding,
       pg_catalog.current_setting('fsync') AS fsync,
       pg_catalog.current_setting('full_page_writes') AS full_page_writes,
       pg_catalog.current_setting('synchronous_commit') AS synchronous_commit,
       pg_catalog.current_setting('max_connections')::integer AS max_connections,
       pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.pg_backend_pid() AS backend,
       extract(epoch FROM pg_catalog.clock_timestamp())::double precision AS clock
