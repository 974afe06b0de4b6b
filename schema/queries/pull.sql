-- One or several pulls, each under its own user, in one round trip.
SELECT * FROM syncd.sync_pull($1::jsonb)
