-- When a lease's work was last done, and when its holder was last heard of; nothing where it never was.
SELECT done_at, beat_at FROM syncd.sync_leases WHERE name = $1::text
