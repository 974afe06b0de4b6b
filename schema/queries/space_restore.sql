-- Puts back a space that the acting user owned.
SELECT syncd.sync_space_restore($1::jsonb)
