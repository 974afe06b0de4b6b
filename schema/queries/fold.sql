-- Folds the next part of a feed: how far, changes looked at and dropped, tombstones emptied, and lines for the archive.
SELECT upto, looked, dropped, emptied, lines FROM syncd.sync_fold($1::integer, $2::integer, $3::bigint, $4::integer, $5::boolean)
