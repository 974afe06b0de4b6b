-- Cursors of users in many spaces, whose positions are kept in a row.

-- name: cursor_keep
-- Keeps positions under a new name; false where the row that they are changes of is not there any more.
-- returns: one value
SELECT syncd.sync_cursor_keep($1, $2, $3, $4::integer[], $5::bigint[], $6::bigint[]);

-- name: cursor_at
-- All positions of a kept cursor; nulls where its row is not there any more.
-- returns: store.kept_cursors.KeptPositions
SELECT spaces, seqs, bases FROM syncd.sync_cursor_at($1, $2::jsonb);

-- name: cursors_collect
-- Takes away the rows that nobody used for long, some at a time: how many they were.
-- returns: one value
SELECT syncd.sync_cursors_collect($1::timestamptz, $2::integer);

-- name: devices_collect
-- Forgets devices that did not push for long, some at a time: how many they were.
-- returns: one value
SELECT syncd.sync_devices_collect($1::timestamptz, $2::integer);
