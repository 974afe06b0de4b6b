-- Forgets the next tombstones of a feed: how far, tombstones, changes dropped, and lines for the archive.
SELECT searched, forgotten, dropped, lines FROM syncd.sync_forget($1::integer, $2::integer, $3::bigint, $4::integer, $5::boolean)
