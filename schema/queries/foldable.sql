-- The feeds with changes that are old enough to be folded, with how far they were and may be.
SELECT space_no, app_no, folded, upto FROM syncd.sync_foldable($1::text, $2::timestamptz)
