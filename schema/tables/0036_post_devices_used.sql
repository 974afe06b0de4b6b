-- The role that compacts forgets devices, and does not read what they push as.
CREATE POLICY compactor_works ON syncd.sync_devices TO syncd_compactor USING (true) WITH CHECK (true);
