-- The start of a live connection: who the user is in numbers, and the spaces it is a member of.
SELECT user_no, spaces, ids, rosters FROM syncd.sync_greet($1, $2::jsonb, $3)
