-- Why: a standby is read only where it is one, asked as the role that serves, and not far behind. The same is asked of the primary.
SELECT pg_catalog.pg_is_in_recovery() AS recovering,
       concat('by ', session_user, ' as ', current_user) AS role,
       (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
             ELSE pg_catalog.pg_current_wal_flush_lsn() END - '0/0'::pg_lsn)::bigint AS at,
       pg_catalog.current_setting('hot_standby_feedback')::boolean
           OR pg_catalog.current_setting('max_standby_streaming_delay') = '-1' AS patient
