-- What an application's backend calls on its own connection (syncd/backend). Each argument stands once, in order: drivers count them.

-- name: write
-- Changes as a user, in the transaction that is open: app, user, the changes as JSON text, which part of the backend, and what is done
-- about what is refused.
-- returns: one value
SELECT syncd.write($1::text, $2::text, $3::text::jsonb, $4::text, $5::text)::text;

-- name: read
-- A record, or a page of a space, as a user: app, user, and which.
-- returns: one value
SELECT syncd.read($1::text, $2::text, $3::text::jsonb)::text;
