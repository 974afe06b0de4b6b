-- The feeds that may have tombstones old enough to be forgotten, with how far they were looked at and may be.
SELECT space_no, app_no, searched, upto FROM syncd.sync_forgettable($1::text, $2::timestamptz)
