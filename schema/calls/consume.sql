-- Consumers (functions/consume.sql): of their own programs, and what an operator does with them.

-- name: consumer_add
-- Registers a consumer; false where there is one of the name. An operator's.
-- returns: one value
SELECT syncd.sync_consumer_add($1, $2, $3::text[], $4::text[], $5);

-- name: consumer_reset
-- Has a consumer begin again; false where there is none. An operator's.
-- returns: one value
SELECT syncd.sync_consumer_reset($1, $2);

-- name: consumer_remove
-- Removes a consumer; whether there was one. An operator's.
-- returns: one value
SELECT syncd.sync_consumer_remove($1);

-- name: consumer_list
-- What consumers are registered for. An operator's.
-- returns: store.consumers.RegisteredConsumer
SELECT name, role, apps, tables, begins, made_at FROM syncd.sync_consumers ORDER BY name;

-- name: consumer_named
-- What a consumer is registered for. Raises SY022 where there is none, or not for the role that has logged in.
-- returns: store.consumers.RegisteredConsumer
SELECT name, role, apps, tables, begins, made_at FROM syncd.sync_consumer_named($1);

-- name: consumer_lags
-- How far each consumer is behind, with how many processes.
-- returns: store.consumers.ConsumerLag
SELECT name, processes, feeds, changes, seconds FROM syncd.sync_consumer_lags();

-- name: consume_lease
-- Says that a process is there for so long, and which slots it has.
-- returns: store.consumers.HeldSlot
SELECT slot, lease FROM syncd.sync_consume_lease($1, $2::uuid, $3::double precision, $4);

-- name: consume_end_still
-- Ends the connections, of this login, of processes that are gone and stand still within a statement, whose values PostgreSQL waits for: to it that is
-- no idle transaction. How many.
-- returns: one value
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
WHERE a.usename = session_user AND a.datname = current_database() AND a.state = 'active' AND a.wait_event = 'ClientRead'
  AND a.application_name IN (SELECT 'syncd consume ' || h FROM syncd.sync_consume_silent($1) AS h);

-- name: consume_leave
-- A process goes.
-- returns: nothing
SELECT syncd.sync_consume_leave($1, $2::uuid);

-- name: consume_look
-- The feeds of a process that have news.
-- returns: store.consumers.WaitingFeed
SELECT space_no, app_no, slot, lease, seq, base, acks, head, space_id, app FROM syncd.sync_consume_look($1, $2::uuid, $3);

-- name: consume_look_at
-- Those of them that it has heard of.
-- returns: store.consumers.WaitingFeed
SELECT space_no, app_no, slot, lease, seq, base, acks, head, space_id, app FROM syncd.sync_consume_look_at($1, $2::uuid, $3::integer[], $4::integer[]);

-- name: consume_read
-- What is new in some feeds. The last erasure is as the statement begins, so never later than what is read.
-- returns: store.consumers.ReadPart
SELECT k, upto, base, reset, body, (SELECT syncd.sync_last_erasure()) AS last_erasure FROM syncd.sync_consume_read($1, $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6, $7);

-- name: last_erasure
-- Which erasure ended last, by a value that is another one after each.
-- returns: one value
SELECT syncd.sync_last_erasure();

-- name: consume_ack
-- Acknowledges what was read. Raises SY021 where the lease was lost.
-- returns: nothing
SELECT syncd.sync_consume_ack($1, $2::uuid, $3::bigint[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[]);

-- name: consume_acked
-- Whether an acknowledgement whose answer was lost came about.
-- returns: one value
SELECT syncd.sync_consume_acked($1, $2::integer[], $3::integer[], $4::bigint[]);
