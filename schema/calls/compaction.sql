-- Compaction, an operator's.

-- name: lease_take
-- Takes the lease of a work that one process does at a time; false where another has it.
-- returns: one value
SELECT syncd.sync_lease_take($1::text, $2::uuid, $3::interval);

-- name: lease_beat
-- Says that the holder of a lease is there, and keeps it for this transaction. Raises SY020 when it was lost.
-- returns: nothing
SELECT syncd.sync_lease_beat($1::text, $2::uuid);

-- name: lease_done
-- Gives a lease back and notes when its work was done.
-- returns: nothing
UPDATE syncd.sync_leases SET beat_at = '-infinity', done_at = clock_timestamp() WHERE name = $1::text AND holder = $2::uuid;

-- name: lease_state
-- When a lease's work was last done, and when its holder was last heard of; nothing where it never was.
-- returns: store.compaction.Lease
SELECT done_at, beat_at FROM syncd.sync_leases WHERE name = $1::text;

-- name: foldable
-- The feeds with changes that are old enough to be folded, with how far they were and may be.
-- returns: store.compaction.Stretch
SELECT space_no AS space, app_no AS app, folded AS done, upto FROM syncd.sync_foldable($1::text, $2::timestamptz);

-- name: raise_horizon
-- Raises a feed's horizon before it is folded that far: who is behind gets the state.
-- returns: nothing
SELECT syncd.sync_raise_horizon($1::integer, $2::integer, $3::bigint);

-- name: fold
-- Folds the next part of a feed: how far, changes looked at and dropped, tombstones emptied, and lines for the archive.
-- returns: store.compaction.Part
SELECT upto, looked, dropped AS changes, emptied AS tombstones, lines
FROM syncd.sync_fold($1::integer, $2::integer, $3::bigint, $4::integer, $5::boolean);

-- name: forgettable
-- The feeds that may have tombstones old enough to be forgotten, with how far they were looked at and may be.
-- returns: store.compaction.Stretch
SELECT space_no AS space, app_no AS app, searched AS done, upto FROM syncd.sync_forgettable($1::text, $2::timestamptz);

-- name: forget
-- Forgets the next tombstones of a feed: how far, tombstones, changes dropped, and lines for the archive.
-- returns: store.compaction.Part
SELECT searched AS upto, 0 AS looked, dropped AS changes, forgotten AS tombstones, lines
FROM syncd.sync_forget($1::integer, $2::integer, $3::bigint, $4::integer, $5::boolean);

-- name: names_idle
-- Names to which nothing refers but perhaps the log and the state.
-- returns: one value
SELECT syncd.sync_names_idle($1::integer);

-- name: names_used
-- The names in the next part of the log or ($1) the state, and where it ends.
-- returns: store.compaction.UsedNames
SELECT upto, used FROM syncd.sync_names_used($1::boolean, $2::bigint[], $3::integer);

-- name: names_leave
-- Marks names as about to be removed, or ($2 false) takes that back.
-- returns: nothing
SELECT syncd.sync_names_leave($1::integer[], $2::boolean);

-- name: names_readers
-- The transactions that may have found a name before it was marked; of $1 those that are still there.
-- returns: one value
SELECT syncd.sync_names_readers($1::text[]);

-- name: names_remove
-- Removes marked names; how many.
-- returns: one value
SELECT syncd.sync_names_remove($1::integer[]);

-- name: log_size
-- How large log and state are, in bytes: with their indexes, as files.
-- returns: store.compaction.Sizes
SELECT pg_total_relation_size('syncd.sync_changes') AS log, pg_total_relation_size('syncd.sync_records') AS state;
