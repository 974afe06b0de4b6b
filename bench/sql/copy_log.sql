-- The rows and members of a fresh device's pull of the log, as JSON by the plain means. As the superuser.
SELECT json_build_object('eventId', c.event_id, 'seq', c.seq, 'table', t.name, 'id', c.record_id, 'op',
                         CASE c.op WHEN 1 THEN 'insert' WHEN 2 THEN 'update' ELSE 'delete' END, 'spaceId', s.space_id,
                         'clientId', d.name, 'changeId', c.change_id, 'fields', c.fields)
FROM syncd.sync_changes c
JOIN syncd.sync_spaces s ON s.space_no = c.space_no JOIN syncd.sync_names a ON a.name_no = c.app_no
JOIN syncd.sync_names t ON t.name_no = c.table_no JOIN syncd.sync_names d ON d.name_no = c.client_no
WHERE s.space_id = $1 AND a.name = $2 ORDER BY c.seq
