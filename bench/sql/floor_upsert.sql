INSERT INTO bench.floor (id, record) SELECT * FROM unnest($1::text[], $2::json[])
ON CONFLICT (id) DO UPDATE SET record = excluded.record
