-- The owner's functions alone see them (functions/invitations.sql); the role that serves has no grant.
CREATE POLICY owner_keeps ON syncd.sync_invitations TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_blocks TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_allowances TO CURRENT_USER USING (true) WITH CHECK (true);
