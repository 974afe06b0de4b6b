-- An owner of a space reads what was done there. The owner of the tables adds, and counts; it changes nothing else and removes
-- nothing. The role that compacts removes.
CREATE POLICY owners_read ON syncd.sync_audit FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role = 'owner'));
CREATE POLICY owner_adds ON syncd.sync_audit FOR INSERT TO CURRENT_USER WITH CHECK (true);
CREATE POLICY owner_reads ON syncd.sync_audit FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY owner_counts ON syncd.sync_audit FOR UPDATE TO CURRENT_USER USING (hour IS NOT NULL) WITH CHECK (hour IS NOT NULL);
CREATE POLICY compactor_works ON syncd.sync_audit FOR SELECT TO syncd_compactor USING (true);
CREATE POLICY compactor_prunes ON syncd.sync_audit FOR DELETE TO syncd_compactor USING (true);

CREATE TRIGGER audit_comes AFTER INSERT ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_audit_members();
CREATE TRIGGER audit_changes AFTER UPDATE ON syncd.sync_memberships
    REFERENCING OLD TABLE AS was NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_audit_changes();
CREATE TRIGGER audit_goes AFTER DELETE ON syncd.sync_memberships
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_audit_members();
CREATE TRIGGER audit_space_ends AFTER UPDATE OF deleted_at ON syncd.sync_spaces
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION syncd.sync_audit_space_ends();
CREATE TRIGGER audit_invites AFTER INSERT ON syncd.sync_invitations
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_audit_invitations();
CREATE TRIGGER audit_invitation_ends AFTER DELETE ON syncd.sync_invitations
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_audit_invitations();
