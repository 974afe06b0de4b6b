-- Reading, and whether there is anything to read.

-- name: pull
-- One or several pulls, each under its own user, in one round trip.
-- returns: store.log.Page
SELECT body, spaces, seqs, bases, joined, gone, more, news, now_us, boot_us, trouble FROM syncd.sync_pull($1::jsonb);

-- name: peek
-- Like pull, for pulls that say "peek": whether there is news, without the positions that its asker has.
-- returns: store.log.PeekResult
SELECT news, now_us, boot_us, trouble FROM syncd.sync_pull($1::jsonb);

-- name: unreadable
-- For which spaces a pull fails, when it has failed.
-- returns: store.log.UnreadableSpace
SELECT space_no, space_id FROM syncd.sync_unreadable($1::jsonb);
