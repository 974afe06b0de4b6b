-- The records that such a log leaves behind.
INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id, registers)
SELECT c.seq, $5::bigint, c.event_id, c.space_no, c.app_no, c.table_no, c.client_no, false, c.record_id, $4::jsonb
FROM syncd.sync_changes c
WHERE c.space_no = $1::integer AND c.app_no = $2::integer AND c.seq > greatest(1, (SELECT max(seq) FROM syncd.sync_changes d WHERE d.space_no = $1::integer AND d.app_no = $2::integer) - $3::bigint)
