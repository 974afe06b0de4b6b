-- Who wrote in which shared space of a first-generation log, and when first.
SELECT c.space_id::text, c.user_id::text,
       coalesce(to_char(min(c.created_at::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '1970-01-01T00:00:00Z')
FROM elsewhere.sync_changes c
WHERE c.space_id IS NOT NULL AND c.user_id IS NOT NULL AND NOT starts_with(c.space_id::text, '_personal:')
GROUP BY 1, 2 ORDER BY 1, 3, 2
