-- Reads that a standby may answer instead of the primary.

-- name: read_point
-- How far a standby has to be for a read that is asked for now, and who may read; on the primary.
-- returns: store.standbys.ReadPoint
SELECT lsn, start_us, now_us, role, members FROM syncd.sync_read_point($1::jsonb);

-- name: look_there
-- Whether a standby could answer, and how far it has replayed.
-- returns: store.standbys.StandbyLook
SELECT why, replayed FROM syncd.sync_read_there('nothing', $1, $2, $3, $4::jsonb);

-- name: pull_there
-- A pull, on a standby.
-- returns: store.log.PulledThere
SELECT why, replayed, members, page FROM syncd.sync_read_there('pull', $1, $2, $3, $4::jsonb);

-- name: past_there
-- A look into the past, on a standby.
-- returns: store.history.PastThere
SELECT why, replayed, members, past FROM syncd.sync_read_there('past', $1, $2, $3, $4::jsonb);

-- name: digest_there
-- A question about digests, on a standby.
-- returns: store.digest.DigestThere
SELECT why, replayed, members, digest FROM syncd.sync_read_there('digest', $1, $2, $3, $4::jsonb);

-- name: members_now
-- The spaces of whoever acts in this transaction, as one value to compare.
-- returns: one value
SELECT syncd.sync_members_now();

-- name: patient_there
-- Whether replaying waits for what is read on a standby for long, or the primary keeps what that reads.
-- returns: one value
SELECT pg_catalog.current_setting('hot_standby_feedback')::boolean OR pg_catalog.current_setting('max_standby_streaming_delay') = '-1';

-- name: system
-- Which cluster of databases this is, a standby's being its primary's.
-- returns: one value
SELECT s.system_identifier FROM pg_catalog.pg_control_system() s;
