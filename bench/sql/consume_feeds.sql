-- $1 spaces with a feed of $2 changes each, as so many users wrote them. As the superuser, into a database that has nothing else.
WITH names AS (
    INSERT INTO syncd.sync_names (name, quoted)
    SELECT n, to_json(n)::text FROM (
        SELECT unnest(ARRAY['consumed', 'tasks', 'device']) AS n
        UNION ALL SELECT concat('user-', g) FROM generate_series(1, $1::integer) AS g) x RETURNING name_no, name
), spaces AS (
    INSERT INTO syncd.sync_spaces (space_id, quoted, name)
    SELECT concat('space-', g), to_json(concat('space-', g))::text, 'bench' FROM generate_series(1, $1::integer) AS g
    RETURNING space_no, space_id
), feeds AS (
    INSERT INTO syncd.sync_feeds (space_no, app_no, head, written_at, boots, bases)
    SELECT s.space_no, a.name_no, $2::integer, now(), ARRAY[now()], ARRAY[0] FROM spaces s, names a WHERE a.name = 'consumed'
    RETURNING space_no, app_no
)
INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no, op, record_id, change_id, fields)
SELECT g, g, now(), gen_random_uuid(), f.space_no, f.app_no, t.name_no, u.name_no, d.name_no, 1, gen_random_uuid()::text,
       concat(f.space_no, '-', g), $3::json
FROM feeds f JOIN spaces s ON s.space_no = f.space_no JOIN names u ON u.name = replace(s.space_id, 'space-', 'user-')
JOIN names t ON t.name = 'tasks' JOIN names d ON d.name = 'device' CROSS JOIN generate_series(1, $2::integer) AS g
