-- Looks into the past, and the way back.

-- name: past
-- A record, its changes, or a page of a space as it was.
-- returns: store.history.PastPage
SELECT body, seq, more, complete, last_table, last_id, syncd.sync_micros(syncd.sync_start()) AS start FROM syncd.sync_past($1::jsonb);

-- name: restore
-- Takes a record or a space back to what it was, as one push.
-- returns: store.history.Restored
SELECT seqs, events, tables, ids, repeated FROM syncd.sync_restore($1::jsonb);
