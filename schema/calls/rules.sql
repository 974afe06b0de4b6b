-- What rules look at before a push is written.

-- name: rules_see
-- What stands where each of these changes writes: the acting user's role, the space it is in by now, the record as JSON text of its
-- fields, whether it is deleted. Too large: with those before it there would be more than $5 bytes, and it was not read.
-- returns: store.rules.SeenRow
SELECT role, space, record, deleted, too_large FROM syncd.sync_rules_see($1, $2::text[], $3::text[], $4::text[], $5);

-- name: rules_repeats
-- Which of these changes of a device were written before, and whether they are the same. Of no more than $4 bytes that is found out.
-- returns: store.rules.WrittenRow
SELECT change_id, event_id, seq, same, too_large FROM syncd.sync_rules_repeats($1, $2, $3::json, $4);

-- name: replay_feeds
-- The feeds with changes of the last $1 seconds, of one app or of all. An operator's.
-- returns: store.replay.ReplayFeed
SELECT DISTINCT c.space_no, c.app_no, s.space_id, a.name AS app FROM syncd.sync_changes c
JOIN syncd.sync_spaces s ON s.space_no = c.space_no JOIN syncd.sync_names a ON a.name_no = c.app_no
WHERE c.created_at >= clock_timestamp() - make_interval(secs => $1) AND ($2::text IS NULL OR a.name = $2) ORDER BY a.name, s.space_id;

-- name: replay_changes
-- Some changes of a feed after one, with what of each won as JSON text, and whether it is of the last $4 seconds. An operator's.
-- returns: store.replay.ReplayChange
SELECT c.seq, c.created_at >= clock_timestamp() - make_interval(secs => $4) AS counts, c.created_at, u.name AS user_id, m.role, t.name AS table_name,
       c.record_id, c.change_id, c.actor::text AS actor, c.origin, c.fields::text AS fields
FROM syncd.sync_changes c JOIN syncd.sync_names u ON u.name_no = c.user_no JOIN syncd.sync_names t ON t.name_no = c.table_no
LEFT JOIN syncd.sync_memberships m ON m.user_no = c.user_no AND m.space_no = c.space_no
WHERE c.space_no = $1 AND c.app_no = $2 AND c.seq > $3 ORDER BY c.seq LIMIT 1000;
