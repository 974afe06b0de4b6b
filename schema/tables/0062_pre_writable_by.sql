-- Which role of a space may write a table, or a field of one, where not everybody may who writes in the space: `x-writable-by` of the JSON
-- Schemas in force (functions/writable_by.sql). `field` is empty where it is the table. By number, as the policies ask for it by row.
CREATE TABLE syncd.sync_writable_by (
    app_no   integer NOT NULL REFERENCES syncd.sync_names,
    table_no integer NOT NULL REFERENCES syncd.sync_names,
    field    text COLLATE "C" NOT NULL,
    role     text NOT NULL CHECK (role = 'owner'),
    PRIMARY KEY (app_no, table_no, field)
);
ALTER TABLE syncd.sync_writable_by ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- It is written by an operator, and no secret of a user.
CREATE POLICY owner_keeps ON syncd.sync_writable_by TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY all_read ON syncd.sync_writable_by FOR SELECT TO PUBLIC USING (true);
GRANT SELECT ON syncd.sync_writable_by TO syncd_runtime;
