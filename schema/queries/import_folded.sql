-- What was folded where an operator's import comes from is folded here.
SELECT syncd.sync_import_folded($1::text::jsonb, $2)
