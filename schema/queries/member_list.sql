-- The members of a space that the acting user is a member of.
SELECT * FROM syncd.sync_member_list($1)
