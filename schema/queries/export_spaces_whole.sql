-- Every space, or the one named, with its members; $2: with the number that cursors name.
SELECT syncd.sync_export_space(s, (
    SELECT string_agg(syncd.sync_export_member(n.name, m.role, m.joined_at, m.source), ',' ORDER BY n.name)
    FROM syncd.sync_memberships m JOIN syncd.sync_names n ON n.name_no = m.user_no WHERE m.space_no = s.space_no), $2::boolean)
FROM syncd.sync_spaces s
WHERE $1::text IS NULL OR s.space_id = $1
ORDER BY s.space_id
