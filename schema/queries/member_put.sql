-- Adds a member or changes a role.
SELECT * FROM syncd.sync_member_put($1, $2, $3)
