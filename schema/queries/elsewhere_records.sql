-- What the server has of records, and of the changes of theirs that were imported: by place, the registers as JSON text (null: no such
-- record), the record's last seq, and the change's seq (null: not in the log). An operator's.
SELECT f.i, r.registers::text, r.seq, c.seq
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
     WITH ORDINALITY AS f (space, app, tab, record, author, device, change, i)
JOIN syncd.sync_spaces s ON s.space_id = f.space
JOIN syncd.sync_names a ON a.name = f.app
JOIN syncd.sync_names t ON t.name = f.tab
JOIN syncd.sync_names u ON u.name = f.author
JOIN syncd.sync_names d ON d.name = f.device
LEFT JOIN LATERAL (SELECT * FROM syncd.sync_records q WHERE q.space_no = s.space_no AND q.app_no = a.name_no AND q.table_no = t.name_no
                   AND q.record_id = f.record OFFSET 0) r ON true
LEFT JOIN LATERAL (SELECT q.seq FROM syncd.sync_changes q WHERE q.user_no = u.name_no AND q.client_no = d.name_no
                   AND q.change_id = f.change OFFSET 0) c ON true
