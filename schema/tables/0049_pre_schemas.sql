-- JSON Schemas of an application's tables (syncd/service/table_schema.py). Each version is a row that nothing changes; `body` is null where from
-- then on the table has none. By name, as there need be no such app or table yet.
CREATE TABLE syncd.sync_table_schemas (
    ordinal    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app        text COLLATE "C" NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    version    integer NOT NULL CHECK (version > 0),
    body       json CHECK (octet_length(body::text) <= 65536),
    applied_by text NOT NULL DEFAULT session_user,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (app, table_name, version)
);
ALTER TABLE syncd.sync_table_schemas ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- It is written by an operator, and read by the owner's functions.
CREATE POLICY owner_keeps ON syncd.sync_table_schemas TO CURRENT_USER USING (true) WITH CHECK (true);
