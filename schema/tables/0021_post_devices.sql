-- A user's devices are the user's alone.
CREATE POLICY own_rows ON syncd.sync_devices FOR SELECT TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY own_rows_added ON syncd.sync_devices FOR INSERT TO PUBLIC WITH CHECK (user_no = syncd.sync_user());
CREATE POLICY own_rows_changed ON syncd.sync_devices FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user()) WITH CHECK (user_no = syncd.sync_user());
