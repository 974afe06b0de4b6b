-- Webhooks, an operator's but for what a server shows.

-- name: webhook_add
-- Makes the webhook of a consumer that was just registered.
-- returns: nothing
INSERT INTO syncd.sync_webhooks AS w (consumer_id, url, secret, ops, fields, private, buckets)
SELECT c.consumer_id, $2, $3::bytea, $4::text[], $5::text[], $6, array_fill(0::bigint, ARRAY[$7::integer])
FROM syncd.sync_consumers c WHERE c.name = $1;

-- name: webhook_list
-- The webhooks as they are kept, with their secrets.
-- returns: store.webhooks.Webhook
SELECT c.name, w.url, w.secret, c.apps, c.tables, w.ops, w.fields, w.private, w.state, w.reason, w.said, w.said_at
FROM syncd.sync_webhooks w JOIN syncd.sync_consumers c ON c.consumer_id = w.consumer_id ORDER BY c.name;

-- name: webhook_state
-- Pauses a webhook, has it drain or go on, and says why; nothing where it is not there, or was not in one of the states $4.
-- returns: one value
UPDATE syncd.sync_webhooks w SET state = $2, reason = $3 FROM syncd.sync_consumers c
WHERE c.consumer_id = w.consumer_id AND c.name = $1 AND w.state = ANY ($4::text[]) RETURNING true AS done;

-- name: webhook_attempt
-- Counts an attempt: whether it was taken, was not the first, which bucket its time is in, its seconds, and what was answered.
-- returns: nothing
UPDATE syncd.sync_webhooks w SET sent = w.sent + $2::boolean::integer, failed = w.failed + (NOT $2)::integer,
    retries = w.retries + $3::boolean::integer, buckets[$4] = w.buckets[$4] + 1, seconds = w.seconds + $5::double precision,
    said = $6, said_at = clock_timestamp()
FROM syncd.sync_consumers c WHERE c.consumer_id = w.consumer_id AND c.name = $1;

-- name: webhook_bury
-- Keeps a message that could not be delivered.
-- returns: nothing
INSERT INTO syncd.sync_webhook_dead AS d (consumer_id, message_id, body, attempts, reason)
SELECT c.consumer_id, $2, $3, $4, $5 FROM syncd.sync_consumers c WHERE c.name = $1;

-- name: webhook_letter
-- A message of a webhook without what was erased since.
-- returns: one value
SELECT syncd.sync_letter_of(c.consumer_id, $2) FROM syncd.sync_consumers c WHERE c.name = $1;

-- name: webhook_dead
-- The oldest messages of a webhook that could not be delivered, after one.
-- returns: store.webhooks.DeadLetter
SELECT d.dead_id, d.message_id, d.body, d.attempts, d.reason, d.died_at
FROM syncd.sync_webhook_dead d JOIN syncd.sync_consumers c ON c.consumer_id = d.consumer_id
WHERE c.name = $1 AND d.dead_id > $2 ORDER BY d.dead_id LIMIT $3;

-- name: webhook_revived
-- One of these was delivered.
-- returns: nothing
DELETE FROM syncd.sync_webhook_dead WHERE dead_id = $1;

-- name: webhook_counts
-- What was sent, for /metrics.
-- returns: store.webhooks.WebhookCounts
SELECT name, sent, failed, retries, dead, buckets, seconds FROM syncd.sync_webhook_counts();

-- name: webhook_take
-- Whether nobody else sends for a webhook, and from now on this session does.
-- returns: one value
SELECT pg_try_advisory_lock(hashtext('syncd.sync_webhooks'), hashtext($1));

-- name: webhook_give_back
-- Another session may send for it.
-- returns: one value
SELECT pg_advisory_unlock(hashtext('syncd.sync_webhooks'), hashtext($1));

-- name: consumer_rewind
-- Has a consumer go on from where feeds stood at an instant; false where there is none.
-- returns: one value
SELECT syncd.sync_consumer_rewind($1, $2::timestamptz);
