-- They are written and read by the owner's functions alone.
CREATE POLICY owner_keeps ON syncd.sync_feed_usage TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_counted_deleted TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_space_usage TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_user_usage TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_quotas TO CURRENT_USER USING (true) WITH CHECK (true);

-- Who made a space is its first owner. Of the spaces that there are, the owner who has been one for longest.
CREATE TRIGGER space_made AFTER INSERT ON syncd.sync_memberships
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_space_made();
INSERT INTO syncd.sync_space_usage (space_no, maker_no)
SELECT DISTINCT ON (m.space_no) m.space_no, m.user_no FROM syncd.sync_memberships m
WHERE m.role = 'owner' AND m.source = 'table' ORDER BY m.space_no, m.joined_at, m.user_no
ON CONFLICT (space_no) DO NOTHING;
-- What compaction takes out of the log and the state counts no longer.
CREATE TRIGGER usage_shrinks AFTER DELETE ON syncd.sync_changes
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_usage_shrinks();
CREATE TRIGGER usage_forgets AFTER DELETE ON syncd.sync_records
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION syncd.sync_usage_forgets();
