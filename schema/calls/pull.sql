-- Reading, and whether there is anything to read.

-- name: pull
-- One or several pulls, each under its own user, in one round trip.
-- returns: store.log.Page
SELECT body, spaces, seqs, bases, joined, gone, more, news, now_us, boot_us, trouble FROM syncd.sync_pull($1::jsonb);

-- name: peek
-- Like pull, for pulls that say "peek": whether there is news, without the positions that its asker has; more: whether there is of its user's spaces.
-- returns: store.log.PeekResult
SELECT news, more AS roles, now_us, boot_us, trouble FROM syncd.sync_pull($1::jsonb);

-- name: unreadable
-- For which spaces a pull fails, when it has failed.
-- returns: store.log.UnreadableSpace
SELECT space_no, space_id FROM syncd.sync_unreadable($1::jsonb);

-- name: roles
-- What a device is to be told of its user's spaces: their names, and the user's roles in them.
-- returns: store.log.ToldSpaces
SELECT spaces, head, boot_us, after, more FROM syncd.sync_roles($1::jsonb);
