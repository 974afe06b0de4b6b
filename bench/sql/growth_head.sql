-- The feed's head after them. As the superuser.
UPDATE syncd.sync_feeds SET head = $3::bigint WHERE space_no = $1::integer AND app_no = $2::integer
