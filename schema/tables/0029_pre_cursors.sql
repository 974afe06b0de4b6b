-- Positions in many feeds, which a cursor names instead of listing them: it says only what has moved since (functions/cursors.sql).
-- A row is never changed but for when it was used last, so a cursor means the same however often it comes back. `line`: the rows
-- of one device, each made from the one before. bases: null where every feed is being read from its log.
CREATE TABLE syncd.sync_cursors (
    user_no bigint NOT NULL,
    name    bigint NOT NULL,
    line    bigint NOT NULL,
    used_at timestamptz NOT NULL,
    spaces  bigint[] NOT NULL,
    seqs    bigint[] NOT NULL,
    bases   bigint[],
    PRIMARY KEY (user_no, name)
);
CREATE INDEX sync_cursors_unused ON syncd.sync_cursors (used_at);

ALTER TABLE syncd.sync_cursors ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE (used_at) ON syncd.sync_cursors TO syncd_runtime;
GRANT SELECT (user_no, name, used_at), DELETE ON syncd.sync_cursors TO syncd_compactor;
