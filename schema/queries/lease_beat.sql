-- Says that the holder of a lease is there, and keeps it for this transaction. Raises SY020 when it was lost.
SELECT syncd.sync_lease_beat($1::text, $2::uuid)
