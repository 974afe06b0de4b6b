-- Beside who may write in a space, row security says who may write a table there, or a field of one (functions/writable_by.sql). It binds the
-- role that serves, and the owner, as whom a group of pushes and an application's backend write. Where no table has such a word, a
-- statement asks once whether there is any.

CREATE POLICY writable_by ON syncd.sync_changes AS RESTRICTIVE FOR INSERT TO syncd_runtime, CURRENT_USER
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR syncd.sync_may_append(user_no, space_no, app_no, table_no, record_id, fields, lost));

CREATE POLICY writable_by_added ON syncd.sync_records AS RESTRICTIVE FOR INSERT TO syncd_runtime, CURRENT_USER
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR syncd.sync_may_store(space_no, app_no, table_no, client_no, record_id, registers));
CREATE POLICY writable_by_merged ON syncd.sync_records AS RESTRICTIVE FOR UPDATE TO syncd_runtime, CURRENT_USER
    USING (true)
    WITH CHECK (NOT EXISTS (SELECT FROM syncd.sync_writable_by)
                OR syncd.sync_may_store(space_no, app_no, table_no, client_no, record_id, registers));
