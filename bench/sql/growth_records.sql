-- The records that these log rows leave behind. As the superuser.
INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id, registers)
SELECT c.seq, $6::bigint, c.event_id, c.space_no, c.app_no, c.table_no, c.client_no, false, c.record_id, $5::jsonb
FROM syncd.sync_changes c
WHERE c.space_no = $1::integer AND c.app_no = $2::integer AND c.seq > $3::bigint AND c.seq <= $4::bigint
  AND (c.seq % 10 = 0 OR c.seq = $4::bigint)
ON CONFLICT (space_no, app_no, table_no, record_id) DO UPDATE SET seq = EXCLUDED.seq, event_id = EXCLUDED.event_id
