-- Says or takes back who is here, for several devices in one round trip.
SELECT syncd.sync_presence_put($1::jsonb)
