-- A record that was erased stays as it is, whoever writes to it. It can still be compacted, which moves no seq.
CREATE TRIGGER erased_stays BEFORE UPDATE ON syncd.sync_records FOR EACH ROW
    WHEN (OLD.deleted AND NEW.seq <> OLD.seq AND OLD.registers -> 'deletedAt' ? 'erased') EXECUTE FUNCTION syncd.sync_erased_stays();
