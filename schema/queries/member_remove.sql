-- Removes a member, or lets the acting user leave.
SELECT syncd.sync_member_remove($1, $2)
