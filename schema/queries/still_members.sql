-- Which of the listening users are members of a space.
SELECT roster, members FROM syncd.sync_still_members($1, $2::integer[])
