-- An import from another store, an operator's, and the first-generation log that it reads.

-- name: import_memberships
-- Where this server's memberships come from, as they say it themselves: `table` or `external`.
-- returns: one value
SELECT memberships FROM syncd.sync_server;

-- name: legacy_log_columns
-- The columns of a foreign table, by its quoted name.
-- returns: one value
SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped;

-- name: legacy_log_extent
-- How many rows of a first-generation log are to be read, and the last of them. `elsewhere.sync_changes` stands for its name.
-- returns: transfer.sources.legacy_log.LogTotals
SELECT count(*) AS rows, to_char(max(c.created_at::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS newest
FROM elsewhere.sync_changes c WHERE $1::text IS NULL OR c.created_at IS NULL OR c.created_at >= $1::text::timestamptz;

-- name: legacy_log_authors
-- Who wrote in which shared space of a first-generation log, and when first.
-- returns: transfer.sources.legacy_log.Author
SELECT c.space_id::text AS space, c.user_id::text AS "user",
       coalesce(to_char(min(c.created_at::timestamptz) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '1970-01-01T00:00:00Z') AS since
FROM elsewhere.sync_changes c
WHERE c.space_id IS NOT NULL AND c.user_id IS NOT NULL AND NOT starts_with(c.space_id::text, '_personal:')
GROUP BY 1, 2 ORDER BY 1, 3, 2;

-- name: legacy_log_rows
-- The rows of a first-generation log in the order in which they came, each as JSON text with whatever columns it has. A row in
-- its user's personal space goes to where a push would have moved its record: to the first space in which its user wrote the
-- record after writing it in the personal one. What its user wrote in a space first stays there, and does not move.
-- returns: transfer.sources.legacy_log.LogLine
SELECT c.id::text AS id, c.table_name::text AS "table",
       concat(left(row_to_json(c)::text, -1), ',"went_to":' || to_json(s.space)::text, '}') AS content
FROM elsewhere.sync_changes c
LEFT JOIN (
    SELECT DISTINCT ON (m.user_id, m.app_id, m.table_name, m.record_id)
           m.user_id, m.app_id, m.table_name, m.record_id, m.space_id::text AS space
    FROM elsewhere.sync_changes m
    WHERE length(m.space_id::text) BETWEEN 1 AND 255 AND m.space_id::text !~ '[[:cntrl:]]' AND m.space_id::text NOT IN ('.', '..')
      AND NOT starts_with(m.space_id::text, '_personal:')
      AND EXISTS (SELECT FROM elsewhere.sync_changes p
                  WHERE p.user_id = m.user_id AND p.app_id = m.app_id AND p.table_name = m.table_name AND p.record_id = m.record_id
                    AND coalesce(p.space_id::text, '') IN ('', concat('_personal:', p.user_id))
                    AND (coalesce(p.created_at::timestamptz, 'infinity'), p.id) < (coalesce(m.created_at::timestamptz, 'infinity'), m.id))
    ORDER BY m.user_id, m.app_id, m.table_name, m.record_id, m.created_at, m.id
) s ON s.user_id = c.user_id AND s.app_id = c.app_id AND s.table_name = c.table_name AND s.record_id = c.record_id
   AND coalesce(c.space_id::text, '') IN ('', concat('_personal:', c.user_id))
WHERE $1::text IS NULL OR c.created_at IS NULL OR c.created_at >= $1::text::timestamptz
ORDER BY c.created_at NULLS LAST, c.id;

-- name: import_personal
-- Which of these records are in their authors' personal spaces, by place: the space that one moved to (null: it did not). An operator's.
-- returns: store.imports.PersonalRecord
SELECT f.i AS place, CASE WHEN r.deleted THEN r.registers -> 'deletedAt' ->> 'movedTo' END AS moved_to
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS f (author, app, tab, record, i)
JOIN syncd.sync_spaces s ON s.space_id = concat('_personal:', f.author)
JOIN syncd.sync_names a ON a.name = f.app
JOIN syncd.sync_names t ON t.name = f.tab
CROSS JOIN LATERAL (SELECT q.deleted, q.registers FROM syncd.sync_records q WHERE q.space_no = s.space_no AND q.app_no = a.name_no
                    AND q.table_no = t.name_no AND q.record_id = f.record OFFSET 0) r;

-- name: import_move
-- Moves records of personal spaces to where their authors wrote them later. An operator's.
-- returns: nothing
SELECT syncd.sync_import_move($1::jsonb, $2);

-- name: import_hold
-- Holds a change of an author's device that cannot be written. An operator's.
-- returns: nothing
SELECT syncd.sync_import_hold($1, $2, $3, $4::jsonb);

-- name: import_kept
-- Which changes are held, by author, device, app and content: their places. An operator's.
-- returns: one value
SELECT f.i
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS f (author, device, app, content, i)
JOIN syncd.sync_names u ON u.name = f.author
JOIN syncd.sync_held h ON h.user_no = u.name_no AND h.app = f.app AND h.client_id = f.device AND h.content = f.content;

-- name: import_heads
-- How far feeds have come: those of the spaces $1 and apps $2, side by side. An operator's.
-- returns: store.imports.KnownFeed
SELECT s.space_id AS space, a.name AS app, h.head
FROM unnest($1::text[], $2::text[]) AS f (space, app)
JOIN syncd.sync_spaces s ON s.space_id = f.space
JOIN syncd.sync_names a ON a.name = f.app
JOIN syncd.sync_feeds h ON h.space_no = s.space_no AND h.app_no = a.name_no;

-- name: import_known
-- Which changes are in the log already, by author and device (places in the names $1) and change id: their places. An operator's.
-- returns: one value
SELECT f.i
FROM (SELECT ARRAY(SELECT coalesce((SELECT n.name_no FROM syncd.sync_names n WHERE n.name = e.name), 0)
                   FROM unnest($1::text[]) WITH ORDINALITY AS e (name, i) ORDER BY e.i) AS numbers) k
CROSS JOIN unnest($2::integer[], $3::integer[], $4::text[]) WITH ORDINALITY AS f (author, device, change, i)
CROSS JOIN LATERAL (SELECT FROM syncd.sync_changes q WHERE q.user_no = k.numbers[f.author] AND q.client_no = k.numbers[f.device]
                    AND q.change_id = f.change OFFSET 0) c;

-- name: import_records
-- What the server has of records, and of the changes of theirs that were imported: by place, the registers as JSON text (null: no such
-- record), the record's last seq, and the change's seq (null: not in the log). Names and spaces are places in $1 and $2. An operator's.
-- returns: store.imports.StoredRecord
SELECT f.place, f.registers, f.seq, f.change
FROM syncd.sync_import_found($1::text[], $2::text[], $3::integer[], $4::integer[], $5::integer[], $6::text[], $7::integer[], $8::integer[],
                             $9::text[]) f;
