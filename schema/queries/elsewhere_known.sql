-- Which changes are in the log already, by author, device and change id: their places. An operator's.
SELECT f.i
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS f (author, device, change, i)
JOIN syncd.sync_names u ON u.name = f.author
JOIN syncd.sync_names d ON d.name = f.device
CROSS JOIN LATERAL (SELECT FROM syncd.sync_changes q WHERE q.user_no = u.name_no AND q.client_no = d.name_no
                    AND q.change_id = f.change OFFSET 0) c
