-- What rules look at before a push is written.

-- name: rules_see
-- Whether the acting user may write in each of these spaces, and the record that stands there: as JSON text of its fields. Too large: with
-- those before it there would be more than $5 bytes, and it was not read.
-- returns: store.rules.SeenRow
SELECT writes, record, too_large FROM syncd.sync_rules_see($1, $2::text[], $3::text[], $4::text[], $5);
