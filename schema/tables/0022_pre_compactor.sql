-- What the role that compacts may do: no more than functions/compaction.sql does. It is no member of any other, and adds nothing
-- to the log or the state. The preamble makes it.
GRANT USAGE ON SCHEMA syncd TO syncd_compactor;
GRANT SELECT ON syncd.sync_names, syncd.sync_spaces TO syncd_compactor;
GRANT SELECT, UPDATE (horizon, forgotten, forgotten_us) ON syncd.sync_feeds TO syncd_compactor;
GRANT SELECT, UPDATE (prev_seq), DELETE ON syncd.sync_changes TO syncd_compactor;
GRANT SELECT, UPDATE (registers), DELETE ON syncd.sync_records TO syncd_compactor;
GRANT SELECT, INSERT, UPDATE ON syncd.sync_compactions, syncd.sync_leases TO syncd_compactor;
