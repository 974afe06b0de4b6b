-- What was done to spaces and by whom, and how often something was refused. Nothing changes a row but for `count`, of a row that
-- counts (`hour`: which one); compaction removes what is older than its setting says. `detail` holds no tokens and no values.
-- `actor_no`: who did it, null where an operator or the server did; `user_no`: whom it was done to.
CREATE TABLE syncd.sync_audit (
    audit_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    what     text NOT NULL CHECK (what ~ '^[a-z_]{1,40}$'),
    space_no bigint,
    actor_no bigint,
    user_no  bigint,
    detail   jsonb NOT NULL DEFAULT '{}' CHECK (octet_length(detail::text) <= 2000),
    hour     timestamptz,
    count    bigint NOT NULL DEFAULT 1
);
CREATE INDEX sync_audit_space ON syncd.sync_audit (space_no, audit_no);
CREATE INDEX sync_audit_at ON syncd.sync_audit (at);
CREATE UNIQUE INDEX sync_audit_hour ON syncd.sync_audit (hour, what, coalesce(space_no, 0), detail) WHERE hour IS NOT NULL;

ALTER TABLE syncd.sync_audit ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON syncd.sync_audit TO syncd_runtime;
GRANT SELECT, DELETE ON syncd.sync_audit TO syncd_compactor;
