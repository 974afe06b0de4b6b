-- The role that compacts works in every space, as nobody. What else it may is in 0022_pre_compactor.sql.
CREATE POLICY compactor_works ON syncd.sync_names FOR SELECT TO syncd_compactor USING (true);
CREATE POLICY compactor_works ON syncd.sync_spaces FOR SELECT TO syncd_compactor USING (true);
CREATE POLICY compactor_works ON syncd.sync_feeds TO syncd_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_works ON syncd.sync_changes TO syncd_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_works ON syncd.sync_records TO syncd_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_works ON syncd.sync_compactions TO syncd_compactor USING (true) WITH CHECK (true);
CREATE POLICY compactor_works ON syncd.sync_leases TO syncd_compactor USING (true) WITH CHECK (true);
