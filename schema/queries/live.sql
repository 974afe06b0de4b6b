-- What came into feeds since a seq, read once for all their listeners; several feeds in one round trip.
SELECT * FROM syncd.sync_live($1::jsonb)
