-- The text that a fresh device's pull is made of, as it is stored. As the superuser: no row security.
SELECT r.record_id, r.registers
FROM syncd.sync_records r
JOIN syncd.sync_spaces s ON s.space_no = r.space_no JOIN syncd.sync_names a ON a.name_no = r.app_no
WHERE s.space_id = $1 AND a.name = $2 ORDER BY r.seq
