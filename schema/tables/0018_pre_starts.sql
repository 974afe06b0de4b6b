-- The starts of this database's history, of which the newest is the current one: one where it was made, restored, cloned or
-- promoted, or where PostgreSQL was started. A row counts as the current one only where it was written: under the
-- postmaster that runs, in the folder of this database, and by the transaction that it names as its maker. No restore, clone
-- or promotion leaves all three as they were (functions/starts.sql).
CREATE TABLE syncd.sync_starts (
    started_at timestamptz PRIMARY KEY,
    postmaster timestamptz NOT NULL,
    folder     text NOT NULL,
    made_by    xid NOT NULL
);
GRANT SELECT ON syncd.sync_starts TO syncd_runtime;
