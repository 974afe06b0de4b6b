\set r random(100000000000, 100000299999)
INSERT INTO bench.floor (id, record) VALUES ('018f6d2c-7a3b-7000-9001-' || :r, :record) ON CONFLICT (id) DO UPDATE SET record = excluded.record
