-- Held changes are their author's alone. The owner's functions find whose have become writable, and count.
CREATE POLICY own_rows ON syncd.sync_held FOR SELECT TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY own_rows_added ON syncd.sync_held FOR INSERT TO PUBLIC WITH CHECK (user_no = syncd.sync_user());
CREATE POLICY own_rows_changed ON syncd.sync_held FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user()) WITH CHECK (user_no = syncd.sync_user());
CREATE POLICY own_rows_removed ON syncd.sync_held FOR DELETE TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY owner_reads ON syncd.sync_held FOR SELECT TO CURRENT_USER USING (true);
