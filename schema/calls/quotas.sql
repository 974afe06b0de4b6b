-- Quotas: counting what there is, and what is too much.

-- name: usage_look
-- Counts what came into feeds: spaces $1 and apps $2, side by side; $4: some of those that nobody has counted, too.
-- returns: one value
SELECT syncd.sync_usage_look($1::text[], $2::text[], $3, $4);

-- name: usage_count
-- Counts a feed before it is folded.
-- returns: one value
SELECT syncd.sync_usage_count($1, $2, $3);

-- name: quota_over
-- The spaces that take nothing but deletions.
-- returns: store.usage.Over
SELECT space_id, quota, used, most FROM syncd.sync_quota_over($1::jsonb);

-- name: quota_rates
-- The rates that users have of their own.
-- returns: store.usage.OwnRate
SELECT user_id, quota, most FROM syncd.sync_quota_rates();

-- name: quota_of
-- What a user has and may have, and a space that the user is in.
-- returns: store.usage.Use
SELECT used::text AS used, own::text AS own, space_used::text AS space_used, space_own::text AS space_own FROM syncd.sync_quota_of($1, $2);

-- name: quota_set
-- Gives a user or a space a quota of its own, or takes it back. An operator's.
-- returns: one value
SELECT syncd.sync_quota_set($1, $2, $3, $4::bigint);

-- name: quota_list
-- What spaces and users have that is more than nothing, and their own quotas. An operator's.
-- returns: store.usage.Listed
SELECT k.kind, k.name, k.quota, k.used, q.most AS own FROM (
    SELECT 'space' AS kind, s.space_id AS name, u.space_no, NULL::bigint AS user_no, v.quota, v.used
    FROM syncd.sync_space_usage u JOIN syncd.sync_spaces s ON s.space_no = u.space_no AND s.deleted_at IS NULL
    CROSS JOIN LATERAL (VALUES ('space_records', u.records), ('space_bytes', u.bytes)) AS v (quota, used)
    UNION ALL
    SELECT 'user', n.name, NULL, u.user_no, v.quota, v.used
    FROM syncd.sync_user_usage u JOIN syncd.sync_names n ON n.name_no = u.user_no
    CROSS JOIN LATERAL (VALUES ('user_records', u.records), ('user_bytes', u.bytes)) AS v (quota, used)
    UNION ALL
    SELECT 'user', n.name, NULL, q.user_no, q.quota, NULL FROM syncd.sync_quotas q JOIN syncd.sync_names n ON n.name_no = q.user_no
    WHERE q.quota NOT IN ('user_records', 'user_bytes')) k
LEFT JOIN syncd.sync_quotas q ON q.quota = k.quota AND (q.space_no = k.space_no OR q.user_no = k.user_no)
WHERE (k.used > 0 OR q.most IS NOT NULL) AND ($1::text IS NULL OR k.kind = 'user' AND k.name = $1)
  AND ($2::text IS NULL OR k.kind = 'space' AND k.name = $2)
ORDER BY k.kind, k.used DESC NULLS LAST, k.name, k.quota LIMIT $3;

-- name: usage_recount
-- Forgets what was counted of a space, or of all. An operator's.
-- returns: one value
SELECT syncd.sync_usage_recount($1);
