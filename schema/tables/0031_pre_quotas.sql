-- What feeds, spaces and users have, counted behind the pushes (functions/quotas.sql). `counted`: every change whose seq is not
-- greater is in `records` (those that are not deleted) and `bytes` (those of the changes that the log keeps).
CREATE TABLE syncd.sync_feed_usage (
    space_no bigint NOT NULL,
    app_no   bigint NOT NULL,
    counted  bigint NOT NULL DEFAULT 0,
    records  bigint NOT NULL DEFAULT 0,
    bytes    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (space_no, app_no)
) WITH (fillfactor = 50);

-- The records that were deleted when they were counted.
CREATE TABLE syncd.sync_counted_deleted (
    space_no  bigint NOT NULL,
    app_no    bigint NOT NULL,
    table_no  bigint NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (space_no, app_no, table_no, record_id)
);

-- A space's feeds together. `maker_no`: its first owner by somebody's hand, whose it counts to; null where a list from outside
-- made it.
CREATE TABLE syncd.sync_space_usage (
    space_no bigint PRIMARY KEY,
    maker_no bigint,
    records  bigint NOT NULL DEFAULT 0,
    bytes    bigint NOT NULL DEFAULT 0
);
CREATE INDEX sync_space_usage_made ON syncd.sync_space_usage (maker_no);
CREATE INDEX sync_space_usage_records ON syncd.sync_space_usage (records);
CREATE INDEX sync_space_usage_bytes ON syncd.sync_space_usage (bytes);

-- The spaces together that a user made and is still a member of, as they were when one of them was last counted.
CREATE TABLE syncd.sync_user_usage (
    user_no bigint PRIMARY KEY,
    records bigint NOT NULL,
    bytes   bigint NOT NULL
);
CREATE INDEX sync_user_usage_records ON syncd.sync_user_usage (records);
CREATE INDEX sync_user_usage_bytes ON syncd.sync_user_usage (bytes);

-- Quotas that one user or space has in place of the server's settings; 0: none.
CREATE TABLE syncd.sync_quotas (
    user_no  bigint REFERENCES syncd.sync_names,
    space_no bigint REFERENCES syncd.sync_spaces,
    quota    text NOT NULL CHECK (quota IN ('requests', 'bytes_in', 'bytes_out', 'devices', 'user_records', 'user_bytes',
                                            'space_records', 'space_bytes')),
    most     bigint NOT NULL CHECK (most >= 0),
    CHECK (CASE WHEN starts_with(quota, 'space_') THEN user_no IS NULL AND space_no IS NOT NULL
                ELSE user_no IS NOT NULL AND space_no IS NULL END)
);
CREATE UNIQUE INDEX sync_quotas_user ON syncd.sync_quotas (user_no, quota) WHERE user_no IS NOT NULL;
CREATE UNIQUE INDEX sync_quotas_space ON syncd.sync_quotas (space_no, quota) WHERE space_no IS NOT NULL;

ALTER TABLE syncd.sync_feed_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_counted_deleted ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_space_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_user_usage ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_quotas ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- What is held until a space is full no longer.
CREATE INDEX sync_held_full ON syncd.sync_held (space_id) WHERE reason = 'quota_exceeded';
