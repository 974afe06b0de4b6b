-- What a device's replica is compared with: digests of feeds, or the records of one bucket that differ.
SELECT * FROM syncd.sync_digest($1::jsonb)
