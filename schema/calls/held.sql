-- Changes that are held until they may be written.

-- name: held_due
-- Whose held changes have become writable; $1: only of these users, by number.
-- returns: store.held.Due
SELECT user_id, client_id, app FROM syncd.sync_held_due($1::integer[]);

-- name: held_take
-- What a device has held and may be written now, or the changes of $4.
-- returns: store.held.HeldChange
SELECT held_no, content, received_us, change FROM syncd.sync_held_take($1, $2, $3, $4::bigint[], $5);

-- name: held_mark
-- Why some could not be released.
-- returns: nothing
SELECT syncd.sync_held_mark($1, $2::jsonb);

-- name: held_list
-- A user's held changes in an app.
-- returns: store.held.HeldRow
SELECT held_no, client_id, space_id, table_name, record_id, reason, received_us, change
FROM syncd.sync_held_list($1, $2, $3::bigint, $4);

-- name: held_drop
-- Drops one of a user's held changes.
-- returns: one value
SELECT syncd.sync_held_drop($1, $2, $3::bigint);

-- name: held_count
-- How many are held.
-- returns: store.held.HeldCount
SELECT changes, users, bytes, oldest FROM syncd.sync_held_count();
