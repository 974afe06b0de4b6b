-- A record that is changed where it stands, without a place in the log of its own (compaction, an erasure), or goes: projections follow
-- in the same transaction. What a push writes moves on in the log, and is not looked at here.
CREATE TRIGGER projections_change AFTER UPDATE ON syncd.sync_records
    FOR EACH ROW WHEN (OLD.seq = NEW.seq) EXECUTE FUNCTION syncd.sync_projections_follow();
CREATE TRIGGER projections_forget AFTER DELETE ON syncd.sync_records
    FOR EACH ROW EXECUTE FUNCTION syncd.sync_projections_follow();
