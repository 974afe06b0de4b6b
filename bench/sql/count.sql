-- How many changes of some spaces are in the log, and what the feeds' heads say. As the superuser.
SELECT (SELECT count(*) FROM syncd.sync_changes c
        JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names a ON a.name_no = c.app_no
        WHERE s.space_id = ANY ($2::text[]) AND a.name = $1) AS changes,
       (SELECT sum(h.head) FROM syncd.sync_feeds h
        JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names a ON a.name_no = h.app_no
        WHERE s.space_id = ANY ($2::text[]) AND a.name = $1) AS heads
