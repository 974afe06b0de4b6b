-- The acting user's spaces with their members, without the personal one, which everybody has.
SELECT syncd.sync_export_space(s, (
    SELECT string_agg(syncd.sync_export_member(o.user_id, o.role, to_timestamp(o.joined_us / 1000000.0), 'table'), ',' ORDER BY o.user_id COLLATE "C")
    FROM syncd.sync_member_list(s.space_id) o), false)
FROM syncd.sync_memberships m
JOIN syncd.sync_spaces s ON s.space_no = m.space_no
WHERE m.user_no = syncd.sync_user() AND NOT starts_with(s.space_id, '_personal:')
ORDER BY s.space_id
