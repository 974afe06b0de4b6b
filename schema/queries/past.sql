-- A record, its changes, or a page of a space as it was.
SELECT body, seq, more, complete, last_table, last_id FROM syncd.sync_past($1::jsonb)
