-- How far feeds have come: those of the spaces $1 and apps $2, side by side. An operator's.
SELECT s.space_id, a.name, h.head
FROM unnest($1::text[], $2::text[]) AS f (space, app)
JOIN syncd.sync_spaces s ON s.space_id = f.space
JOIN syncd.sync_names a ON a.name = f.app
JOIN syncd.sync_feeds h ON h.space_no = s.space_no AND h.app_no = a.name_no
