-- A user's pull asks for the user's own head.
CREATE POLICY own_rows ON syncd.sync_role_heads FOR SELECT TO PUBLIC USING (user_no = syncd.sync_user());
