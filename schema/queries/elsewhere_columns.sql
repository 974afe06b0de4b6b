-- The columns of a foreign table, by its quoted name.
SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
