-- The feeds that there are (for this user, or of one space) and how far each has come, in the order of an export.
SELECT h.space_no, h.app_no, h.head, a.quoted, s.quoted
FROM syncd.sync_feeds h
JOIN syncd.sync_spaces s ON s.space_no = h.space_no
JOIN syncd.sync_names a ON a.name_no = h.app_no
WHERE h.head > 0 AND ($1::text IS NULL OR s.space_id = $1)
ORDER BY s.space_id, a.name
