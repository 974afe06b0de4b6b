-- Beside who may write in a space, row security says who may write a table there, or a field of one (functions/writable_by.sql). It binds the
-- role that serves, and the owner, as whom a group of pushes and an application's backend write. Where no table has such a word, a
-- statement asks once whether there is any; else each row asks for its own table, and only those of such a table for more.

CREATE POLICY writable_by ON syncd.sync_changes AS RESTRICTIVE FOR INSERT TO syncd_runtime, CURRENT_USER
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = sync_changes.app_no AND w.table_no = sync_changes.table_no)
                OR syncd.sync_may_append(user_no, space_no, app_no, table_no, record_id, fields, lost));

CREATE POLICY writable_by_added ON syncd.sync_records AS RESTRICTIVE FOR INSERT TO syncd_runtime, CURRENT_USER
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = sync_records.app_no AND w.table_no = sync_records.table_no)
                OR syncd.sync_may_store(space_no, app_no, table_no, client_no, record_id, registers));
CREATE POLICY writable_by_merged ON syncd.sync_records AS RESTRICTIVE FOR UPDATE TO syncd_runtime, CURRENT_USER
    USING (true)
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR NOT EXISTS (SELECT FROM syncd.sync_writable_by w WHERE w.app_no = sync_records.app_no AND w.table_no = sync_records.table_no)
                OR syncd.sync_may_store(space_no, app_no, table_no, client_no, record_id, registers));

-- What schemas in force say already is in force from now on.
SELECT syncd.sync_schemas_say();

-- What a policy asks of a row it asks of the row as it will be: whoever could give a record another key would take it out of its table first, and
-- write it there. The role that serves changes what its functions change, and no key.
REVOKE UPDATE ON syncd.sync_records FROM syncd_runtime;
GRANT UPDATE (seq, latest, event_id, client_no, schema_version, deleted, registers) ON syncd.sync_records TO syncd_runtime;
