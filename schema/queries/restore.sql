-- Takes a record or a space back to what it was, as one push.
SELECT seqs, events, tables, ids, repeated FROM syncd.sync_restore($1::jsonb)
