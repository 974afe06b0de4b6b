-- Erasures, an operator's, but for erase_ask.

-- name: erase_record
-- Begins to erase a record, or goes on: its number.
-- returns: one value
SELECT syncd.sync_erase_record($1, $2, $3, $4);

-- name: erase_user
-- Begins to erase a user, or goes on: its number. $2: what it wrote where others are stays.
-- returns: one value
SELECT syncd.sync_erase_user($1, $2);

-- name: erase_begin
-- Begins the erasure of a user by its number, or goes on: whether it is begun and not done. $2: as in erase_user.
-- returns: one value
SELECT syncd.sync_erase_begin($1::bigint, $2);

-- name: erase_letters
-- Takes the user of an erasure out of what webhooks never took.
-- returns: nothing
SELECT syncd.sync_erase_letters($1::bigint);

-- name: erase_known
-- Whether somebody has a user's id.
-- returns: one value
SELECT syncd.sync_user_known($1) IS NOT NULL;

-- name: erase_again
-- Takes over a list of erasures ($1, JSON), in a database that was restored: the numbers of those that are to be done again.
-- returns: one value
SELECT syncd.sync_erase_again($1::jsonb);

-- name: erase_ask
-- Notes that the acting user asks to be erased; since when. The role that serves calls it.
-- returns: one value
SELECT syncd.sync_erase_ask($1);

-- name: erase_asked
-- The numbers of the erasures of users that were asked for or begun, and are not done.
-- returns: one value
SELECT e.ordinal FROM syncd.sync_erasures e WHERE e.what = 'user' AND e.done_at IS NULL ORDER BY e.ordinal;

-- name: erase_bury
-- Empties a record and tells devices: its feed, and how far that has to be gone through; nulls where there is no such feed.
-- returns: store.erasures.ErasedFeed
SELECT space_no AS space, app_no AS app, true AS whole, upto FROM syncd.sync_erase_bury($1::bigint);

-- name: erase_moved
-- The numbers of the erasures of the same record where it was before, which are begun here.
-- returns: one value
SELECT syncd.sync_erase_moved($1::bigint);

-- name: erase_log
-- Takes a record's values out of the next part of its feed's log; how far that was.
-- returns: one value
SELECT syncd.sync_erase_log($1::bigint, $2::integer, $3::integer, $4::bigint, $5::integer, $6::bigint);

-- name: erase_beside
-- Takes a record out of what is held and of what webhooks never took.
-- returns: nothing
SELECT syncd.sync_erase_beside($1::bigint);

-- name: erase_feeds
-- The feeds that an erasure of a user goes through. $2: its devices, as erase_clients has them.
-- returns: store.erasures.ErasedFeed
SELECT space_no AS space, app_no AS app, whole, upto FROM syncd.sync_erase_places($1::bigint, $2::text[]);

-- name: erase_head
-- How far a feed is by now.
-- returns: one value
SELECT h.head FROM syncd.sync_feeds h WHERE h.space_no = $1 AND h.app_no = $2;

-- name: erase_clients
-- That user's devices.
-- returns: one value
SELECT syncd.sync_erase_clients($1::bigint);

-- name: erase_user_log
-- Takes a user's values out of the next part of a feed; how far that was.
-- returns: one value
SELECT syncd.sync_erase_user_log($1::bigint, $2::integer, $3::integer, $4::boolean, $5::text[], $6::bigint, $7::integer, $8::bigint);

-- name: receipt_key
-- The key that signs receipts, which no role of a server reads.
-- returns: one value
SELECT receipt_key FROM syncd.sync_erasure_key;

-- name: erase_end
-- Ends an erasure: what is known of it.
-- returns: store.erasures.Erasure
SELECT ordinal, what, extract(epoch FROM asked_at)::double precision AS asked, extract(epoch FROM done_at)::double precision AS done, space_id, app,
       table_name, record_id, encode(salt, 'hex') AS salt, encode(digest, 'hex') AS digest, anonymise, counts::text AS counts
FROM syncd.sync_erase_end($1::bigint);

-- name: erase_list
-- The erasures that were asked for, the oldest first.
-- returns: store.erasures.Erasure
SELECT ordinal, what, extract(epoch FROM asked_at)::double precision AS asked, extract(epoch FROM done_at)::double precision AS done, space_id, app,
       table_name, record_id, encode(salt, 'hex') AS salt, encode(digest, 'hex') AS digest, anonymise, counts::text AS counts
FROM syncd.sync_erasures ORDER BY ordinal;
