-- Gives a lease back and notes when its work was done.
UPDATE syncd.sync_leases SET beat_at = '-infinity', done_at = clock_timestamp() WHERE name = $1::text AND holder = $2::uuid
