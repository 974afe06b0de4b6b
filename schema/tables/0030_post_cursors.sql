-- A user's cursors are the user's alone. The role that compacts collects those that nobody used for long, and reads no position.
CREATE POLICY own_rows ON syncd.sync_cursors TO PUBLIC USING (user_no = syncd.sync_user()) WITH CHECK (user_no = syncd.sync_user());
CREATE POLICY compactor_works ON syncd.sync_cursors TO syncd_compactor USING (true) WITH CHECK (true);
