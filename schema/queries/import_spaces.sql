-- The start of an operator's import.
SELECT made, numbered FROM syncd.sync_import_spaces($1::jsonb, $2::bytea, $3::text::timestamptz)
