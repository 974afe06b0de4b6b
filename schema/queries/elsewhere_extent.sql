-- How many rows of a first-generation log are to be read, and the last of them. `elsewhere.sync_changes` stands for its name.
SELECT count(*), to_char(max(c.created_at::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM elsewhere.sync_changes c WHERE $1::text IS NULL OR c.created_at IS NULL OR c.created_at >= $1::text::timestamptz
