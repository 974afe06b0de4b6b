-- The audit.

-- name: audit_say
-- Notes what a server did for a user: an export, an import, a restore.
-- returns: nothing
SELECT syncd.sync_audit_say($1, $2, $3, $4::jsonb);

-- name: audit_note
-- Notes what an operator did, in the space of this id or in none.
-- returns: nothing
SELECT syncd.sync_audit_note($1, (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = $2), (SELECT n.name_no FROM syncd.sync_names n WHERE n.name = $3), $4::jsonb);

-- name: audit_folded
-- Notes what compaction did in a space, by its number.
-- returns: nothing
SELECT syncd.sync_audit_note('compaction', $1, NULL, $2::jsonb);

-- name: audit_count
-- Counts what was refused.
-- returns: nothing
SELECT syncd.sync_audit_count($1::jsonb);

-- name: audit_of
-- What was done in a space, for an owner.
-- returns: store.audit.Noted
SELECT audit_no, at_us, what, actor, subject, detail, count AS times FROM syncd.sync_audit_of($1, $2, $3, $4);

-- name: audit_list
-- All that was noted after number $1, or what is of a space, a user (who did it, or to whom) or of a kind. An operator's.
-- returns: store.audit.AuditEntry
SELECT a.audit_no, syncd.sync_micros(a.at) AS at_us, a.what, s.space_id AS space, n.name AS actor, u.name AS subject,
       a.detail::text AS detail, a.count AS times
FROM syncd.sync_audit a
LEFT JOIN syncd.sync_spaces s ON s.space_no = a.space_no
LEFT JOIN syncd.sync_names n ON n.name_no = a.actor_no
LEFT JOIN syncd.sync_names u ON u.name_no = a.user_no
WHERE a.audit_no > $1 AND ($2::text IS NULL OR s.space_id = $2) AND ($3::text IS NULL OR $3 IN (n.name, u.name))
  AND ($4::text IS NULL OR a.what = $4)
ORDER BY a.audit_no LIMIT 1000;

-- name: audit_prune
-- Removes what is too old, some of it at a time; how much.
-- returns: one value
WITH gone AS (
    DELETE FROM syncd.sync_audit a
    WHERE a.audit_no IN (SELECT o.audit_no FROM syncd.sync_audit o WHERE o.at < $1 ORDER BY o.at LIMIT 5000) RETURNING 1)
SELECT count(*) FROM gone;
