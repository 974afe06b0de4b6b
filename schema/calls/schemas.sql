-- JSON Schemas of tables.

-- name: schemas_mark
-- Another text whenever a schema was put in force or taken out.
-- returns: one value
SELECT syncd.sync_schemas_mark();

-- name: schemas_in_force
-- The schemas of all tables that have one, as JSON text.
-- returns: store.schemas.SchemaInForce
SELECT app, table_name, version, body FROM syncd.sync_schemas_in_force();

-- name: schema_put
-- Puts a table's schema in force, null: takes it out; its version, or null where it was so already. An operator's.
-- returns: one value
SELECT syncd.sync_schema_put($1, $2, $3);

-- name: schema_versions
-- Every version, of all tables, or of an app's or of one of its tables. An operator's.
-- returns: store.schemas.SchemaVersion
SELECT s.app, s.table_name, s.version, s.body::text AS body, s.applied_by, s.applied_at FROM syncd.sync_table_schemas s
WHERE ($1::text IS NULL OR s.app = $1) AND ($2::text IS NULL OR s.table_name = $2) ORDER BY s.app, s.table_name, s.version;
