-- The rows and members of a fresh device's pull, as JSON by the plain means. As the superuser: no row security.
SELECT json_build_object('eventId', r.event_id, 'seq', r.seq, 'table', t.name, 'id', r.record_id, 'op', 'insert',
                         'spaceId', s.space_id, 'clientId', d.name, 'fields', r.registers)
FROM syncd.sync_records r
JOIN syncd.sync_spaces s ON s.space_no = r.space_no JOIN syncd.sync_names a ON a.name_no = r.app_no
JOIN syncd.sync_names t ON t.name_no = r.table_no JOIN syncd.sync_names d ON d.name_no = r.client_no
WHERE s.space_id = $1 AND a.name = $2 ORDER BY r.seq
