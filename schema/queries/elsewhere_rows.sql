-- The rows of a first-generation log in the order in which they came, each as JSON text with whatever columns it has.
SELECT c.id::text, c.table_name::text, row_to_json(c)::text
FROM elsewhere.sync_changes c WHERE $1::text IS NULL OR c.created_at IS NULL OR c.created_at >= $1::text::timestamptz
ORDER BY c.created_at NULLS LAST, c.id
