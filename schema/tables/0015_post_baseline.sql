-- Who may see and write what, by who acts (functions/security.sql); and the triggers.
-- `IN (SELECT …)` is hashed once a statement and stays a filter: as `= ANY (array)` it became part of
-- the index condition, and the planner no longer knew that a primary key finds one row.

-- Names: readable and writable within somebody's transaction.
CREATE POLICY acting_reads ON syncd.sync_names FOR SELECT TO PUBLIC
    USING ((SELECT syncd.sync_user()) IS NOT NULL);
CREATE POLICY acting_adds ON syncd.sync_names FOR INSERT TO PUBLIC
    WITH CHECK ((SELECT syncd.sync_user()) IS NOT NULL);

-- Memberships: everyone their own; the UPDATE policy exists for FOR SHARE and lets no update pass.
CREATE POLICY own_rows ON syncd.sync_memberships FOR SELECT TO PUBLIC
    USING (user_no = syncd.sync_user());
CREATE POLICY own_locks ON syncd.sync_memberships FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user()) WITH CHECK (false);

CREATE POLICY members_read ON syncd.sync_spaces FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_feeds FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_changes FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY writers_append ON syncd.sync_changes FOR INSERT TO PUBLIC
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));

CREATE POLICY members_read ON syncd.sync_records FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY writers_add ON syncd.sync_records FOR INSERT TO PUBLIC
    WITH CHECK (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));
CREATE POLICY writers_merge ON syncd.sync_records FOR UPDATE TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));

-- The owner is bound by FORCE too. Its definer functions keep names, spaces, memberships and heads, so
-- there it has a policy of its own; of the log it sees what the acting user wrote, nothing else:
-- a device's idempotency key must be found also where the device may no longer read.
CREATE POLICY owner_keeps ON syncd.sync_names TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_spaces TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_memberships TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_feeds TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_adoptions TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE POLICY own_receipts ON syncd.sync_changes FOR SELECT TO CURRENT_USER
    USING (user_no = syncd.sync_user());

CREATE POLICY owner_keeps ON syncd.sync_membership_events TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE POLICY members_read ON syncd.sync_presence FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_added ON syncd.sync_presence FOR INSERT TO PUBLIC
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_changed ON syncd.sync_presence FOR UPDATE TO PUBLIC
    USING (user_no = syncd.sync_user())
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));
CREATE POLICY own_rows_removed ON syncd.sync_presence FOR DELETE TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY owner_keeps ON syncd.sync_presence TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE POLICY own_rows ON syncd.sync_restores FOR SELECT TO PUBLIC USING (user_no = syncd.sync_user());
CREATE POLICY writers_append ON syncd.sync_restores FOR INSERT TO PUBLIC
    WITH CHECK (user_no = syncd.sync_user()
                AND space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user() AND m.role <> 'reader'));

CREATE POLICY members_read ON syncd.sync_digests FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_digest_records FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

CREATE POLICY members_read ON syncd.sync_digest_buckets FOR SELECT TO PUBLIC
    USING (space_no IN (SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user()));

-- They are written by the owner's functions alone. What those read of the records is what the acting user may read.
CREATE POLICY owner_keeps ON syncd.sync_digests TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_digest_records TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_digest_buckets TO CURRENT_USER USING (true) WITH CHECK (true);

-- Who has open sockets hears of members that come and go.
CREATE TRIGGER members_come AFTER INSERT ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();
CREATE TRIGGER members_change AFTER UPDATE ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();
CREATE TRIGGER members_go AFTER DELETE ON syncd.sync_memberships
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_note_members();
-- A tombstone that is forgotten leaves the digests.
CREATE TRIGGER digest_forgets AFTER DELETE ON syncd.sync_records FOR EACH ROW EXECUTE FUNCTION syncd.sync_digest_forget();
-- A first change of an unknown record may be of one that was forgotten.
CREATE TRIGGER sync_guard BEFORE INSERT ON syncd.sync_changes FOR EACH ROW WHEN (coalesce(NEW.prev_seq, 0) = 0) EXECUTE FUNCTION syncd.sync_guard();
