-- The rows that an export has, with all their columns, as they are. As the superuser.
SELECT c.* FROM syncd.sync_changes c
JOIN syncd.sync_spaces s ON s.space_no = c.space_no JOIN syncd.sync_names a ON a.name_no = c.app_no
WHERE s.space_id = $1 AND a.name = $2 ORDER BY c.seq
