-- Export and import.

-- name: export_user
-- The number of the user of an export, under whom the transaction then acts; 0 for nobody known.
-- returns: store.backup.ExportScope
SELECT syncd.sync_act_as($1) AS number, clock_timestamp() AS now;

-- name: export_operator
-- Who an operator is connected as: the time, the cursor key, and whether row security lets this role see everything.
-- returns: store.backup.Standing
SELECT clock_timestamp() AS now, cursor_key AS key, (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user) AS whole
FROM syncd.sync_server;

-- name: export_feeds
-- The feeds that there are (for this user, or of one space) and how far each has come, in the order of an export.
-- returns: store.backup.ExportFeed
SELECT h.space_no AS space, h.app_no, h.head, a.quoted AS app, s.quoted AS space_id
FROM syncd.sync_feeds h
JOIN syncd.sync_spaces s ON s.space_no = h.space_no
JOIN syncd.sync_names a ON a.name_no = h.app_no
WHERE h.head > 0 AND ($1::text IS NULL OR s.space_id = $1)
ORDER BY s.space_id, a.name;

-- name: export_page
-- Some lines of a feed, for an export.
-- returns: store.backup.ExportPage
SELECT upto, events, body FROM syncd.sync_export_page($1, $2, $3, $4, $5, $6, $7);

-- name: export_folded
-- The feeds that were folded, and how far (of one space), as far as one may see them.
-- returns: one value
SELECT syncd.sync_export_folded($1);

-- name: export_spaces
-- The acting user's spaces with their members, without the personal one, which everybody has.
-- returns: one value
SELECT syncd.sync_export_space(s, (
    SELECT string_agg(syncd.sync_export_member(o.user_id, o.role, to_timestamp(o.joined_us / 1000000.0), 'table'), ',' ORDER BY o.user_id COLLATE "C")
    FROM syncd.sync_member_list(s.space_id) o), false)
FROM syncd.sync_memberships m
JOIN syncd.sync_spaces s ON s.space_no = m.space_no
WHERE m.user_no = syncd.sync_user() AND NOT starts_with(s.space_id, '_personal:')
ORDER BY s.space_id;

-- name: export_spaces_whole
-- Every space, or the one named, with its members and who is invited; $2: with the number that cursors name.
-- returns: one value
SELECT concat(left(syncd.sync_export_space(s, (
    SELECT string_agg(syncd.sync_export_member(n.name, m.role, m.joined_at, m.source), ',' ORDER BY n.name)
    FROM syncd.sync_memberships m JOIN syncd.sync_names n ON n.name_no = m.user_no WHERE m.space_no = s.space_no), $2::boolean), -1),
    syncd.sync_export_sharing(s.space_no, s.owners), '}')
FROM syncd.sync_spaces s
WHERE $1::text IS NULL OR s.space_id = $1
ORDER BY s.space_id;

-- name: export_blocks
-- Whom users block.
-- returns: one value
SELECT syncd.sync_export_blocks();

-- name: space_restore
-- Puts back a space that the acting user owned.
-- returns: one value
SELECT syncd.sync_space_put_back($1::jsonb, $2, $3::jsonb);

-- name: import
-- One batch of an import.
-- returns: store.backup.Appended
SELECT marks, heads FROM syncd.sync_import($1::jsonb, $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
                                           $8::integer[], $9::integer[], $10::json[]);

-- name: import_new
-- One batch of an operator's import, if all of it is new.
-- returns: store.backup.AppendedIfNew
SELECT marks, heads FROM syncd.sync_import_new($1::jsonb, $2::integer[], $3::bigint[], $4::bigint[], $5::integer[], $6::text[], $7::uuid[],
    $8::text[], $9::text[], $10::integer[], $11::integer[], $12::integer[], $13::text[], $14::smallint[], $15::json[], $16::jsonb[],
    $17::bigint[], $18::bigint[], $19::integer[], $20::json[], $21::text[], $22::boolean[], $23::json[]);

-- name: import_spaces
-- The start of an operator's import.
-- returns: store.backup.PutBack
SELECT made, numbered FROM syncd.sync_import_spaces($1::jsonb, $2::bytea, $3::text::timestamptz);

-- name: import_blocks
-- Whom users block where an operator's import comes from.
-- returns: nothing
SELECT syncd.sync_import_blocks($1::text::jsonb);

-- name: import_folded
-- What was folded where an operator's import comes from is folded here.
-- returns: nothing
SELECT syncd.sync_import_folded($1::text::jsonb, $2);

-- name: import_settle
-- The end of an operator's import into an empty server.
-- returns: nothing
SELECT syncd.sync_import_settle();
