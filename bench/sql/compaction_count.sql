-- How many changes the log has. As the superuser.
SELECT count(*) FROM syncd.sync_changes
