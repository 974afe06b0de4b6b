-- Names are made, and numbers taken, by the owner's functions alone.
CREATE POLICY owner_keeps ON syncd.sync_numbers TO CURRENT_USER USING (true) WITH CHECK (true);
DROP POLICY acting_adds ON syncd.sync_names;
REVOKE INSERT ON syncd.sync_names FROM syncd_runtime;

-- What refers to a name, for the owner's function that removes those to which nothing does.
CREATE POLICY owner_reads ON syncd.sync_devices FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY owner_reads ON syncd.sync_restores FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY owner_reads ON syncd.sync_compactions FOR SELECT TO CURRENT_USER USING (true);
