-- What open connections ask.

-- name: resolve_user
-- The start of a live connection: who the user is in numbers, and the spaces it is a member of.
-- returns: store.live_rows.ResolvedUser
SELECT user_no, spaces, ids, rosters AS versions FROM syncd.sync_greet($1, $2::jsonb, $3);

-- name: live
-- What came into feeds since a seq, read once for all their listeners; several feeds in one round trip.
-- returns: store.live_rows.News
SELECT head, upto, roster AS version, now_us, boot_us, seqs, ends, tables, body, legacy FROM syncd.sync_live($1::jsonb);

-- name: heads
-- How far feeds stand: the slow look that finds what no notification told.
-- returns: one value
SELECT syncd.sync_heads($1::integer[], $2::text[]);

-- name: feeds_in
-- Which apps have been written to in some of a user's spaces.
-- returns: store.live_rows.FeedHead
SELECT space_no, app, head FROM syncd.sync_feeds_in(syncd.sync_act_as_number($1), $2::integer[]);

-- name: feeds_of
-- Which apps have been written to in some spaces: the slow look for those of which no notification told.
-- returns: store.live_rows.FeedHead
SELECT space_no, app, head FROM syncd.sync_feeds_of($1::integer[]);

-- name: membership_news
-- Who came, went or changed role since the last look.
-- returns: store.live_rows.MembershipNews
SELECT horizon::text AS horizon, events, users, boot_us FROM syncd.sync_membership_news($1::text::xid8);

-- name: still_members
-- Which of the listening users are members of a space.
-- returns: store.live_rows.Members
SELECT roster AS version, members FROM syncd.sync_still_members($1, $2::integer[]);

-- name: presence_put
-- Says or takes back who is here, for several devices in one round trip.
-- returns: one value
SELECT syncd.sync_presence_put($1::jsonb);

-- name: presence_in
-- Who is in a space now.
-- returns: store.live_rows.Present
SELECT roster AS version, user_id, client_id, state FROM syncd.sync_presence_in(syncd.sync_act_as_number($1), $2, $3);
