-- The acting user, and the key that signs cursors.

-- name: act_as
-- Sets the acting user for this transaction; adds the user when new and $2 says so.
-- returns: one value
SELECT syncd.sync_act_as($1, $2);

-- name: adopt
-- Takes over the membership list that came with a token or from the membership service.
-- returns: nothing
SELECT syncd.sync_adopt($1::jsonb, to_timestamp($2::bigint / 1000000.0));

-- name: numbers_make
-- Puts numbers there, of the kind that a call found too few of: as many as it needs, at least.
-- returns: nothing
SELECT syncd.sync_numbers_make($1::text, $2::bigint);

-- name: numbers_used
-- How many numbers of names and of spaces are used up, of 2^31 - 1 each.
-- returns: store.numbers.NumbersUsed
SELECT names, spaces FROM syncd.sync_numbers_used();

-- name: server
-- The key that signs this server's cursors; read once, at start.
-- returns: one value
SELECT cursor_key FROM syncd.sync_server;
