-- The numbers behind the names of the one feed that the growth is measured in. As the superuser.
SELECT h.space_no, h.app_no, (SELECT name_no FROM syncd.sync_names WHERE name = $2) AS table_no,
       (SELECT name_no FROM syncd.sync_names WHERE name = $3) AS user_no,
       (SELECT name_no FROM syncd.sync_names WHERE name = $4) AS client_no, h.head
FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1
