-- What rules look at before a push is written.

-- name: rules_see
-- What stands where each of these changes writes: the acting user's role, the space it is in by now, the record as JSON text of its
-- fields, whether it is deleted. Too large: with those before it there would be more than $5 bytes, and it was not read.
-- returns: store.rules.SeenRow
SELECT role, space, record, deleted, too_large FROM syncd.sync_rules_see($1, $2::text[], $3::text[], $4::text[], $5);

-- name: rules_written
-- Which changes of a device were written before, by their ids.
-- returns: store.rules.WrittenRow
SELECT change_id, event_id, seq, app, table_name, record_id, fields FROM syncd.sync_rules_written($1, $2::text[]);
