-- Changes that are held until they may be written.

-- name: held_due
-- Whose held changes have become writable; $1: only of these users, by number.
-- returns: store.held.Due
SELECT user_id, client_id, app FROM syncd.sync_held_due($1::integer[]);

-- name: held_waiting
-- Users who wait for a space, after $1, at most $2.
-- returns: store.held.Waiting
SELECT user_no, user_id FROM syncd.sync_held_waiting($1, $2);

-- name: held_with_room
-- What is held because a space was full that is not any more; $1: those that are.
-- returns: store.held.Roomy
SELECT user_id, client_id, app, nos FROM syncd.sync_held_with_room($1::text[]);

-- name: held_take
-- What a device has held and may be written now, or the changes of $4.
-- returns: store.held.HeldChange
SELECT held_no, content, received_us, change, service FROM syncd.sync_held_of_device($1, $2, $3, $4::bigint[], $5);

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

-- name: held_number
-- About how many are held.
-- returns: one value
SELECT syncd.sync_held_number();

-- name: held_groups
-- An operator's overview of what $1 to $4 (user, app, space, reason; null: any) say.
-- returns: store.held.HeldGroup
SELECT user_id, app, space_id, reason, count(*) AS changes, sum(size) AS bytes, min(received_at) AS oldest
FROM syncd.sync_held_found($1, $2, $3, $4)
GROUP BY user_id, app, space_id, reason ORDER BY user_id, app, space_id, reason;

-- name: held_found
-- The next of them, after number $5.
-- returns: store.held.FoundChange
SELECT held_no, user_id, client_id, app, space_id, table_name, record_id, reason, received_at, change
FROM syncd.sync_held_found($1, $2, $3, $4) WHERE held_no > $5 ORDER BY held_no LIMIT 100;

-- name: held_devices
-- Whose they are, with their numbers.
-- returns: store.held.HeldDevice
SELECT user_id, client_id, app, array_agg(held_no ORDER BY held_no) AS nos
FROM syncd.sync_held_found($1, $2, $3, $4) GROUP BY user_id, client_id, app ORDER BY min(held_no);

-- name: held_delete
-- Drops them; how many they were.
-- returns: one value
WITH gone AS (
    DELETE FROM syncd.sync_held h
    WHERE h.held_no IN (SELECT f.held_no FROM syncd.sync_held_found($1, $2, $3, $4) f) RETURNING 1)
SELECT count(*) FROM gone;
