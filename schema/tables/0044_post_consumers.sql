-- They are written and read by the owner's functions alone.
CREATE POLICY owner_keeps ON syncd.sync_consumers TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_consumer_holders TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_consumer_slots TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_consumer_feeds TO CURRENT_USER USING (true) WITH CHECK (true);

-- While a consumer reads, the owner sees what that one was registered for, and nobody acts. Parts 8 and 9 of the parameter of sync_user
-- are its apps and tables; 0: all. By its name it is the last that is looked at, as only consumers need it.
CREATE POLICY yields_to_consumers ON syncd.sync_changes FOR SELECT TO CURRENT_USER
    USING (((SELECT (syncd.sync_group(8))[1]) = 0 OR app_no = ANY ((SELECT syncd.sync_group(8))::integer[]))
           AND ((SELECT (syncd.sync_group(9))[1]) = 0 OR table_no = ANY ((SELECT syncd.sync_group(9))::integer[])));
CREATE POLICY yields_to_consumers ON syncd.sync_records FOR SELECT TO CURRENT_USER
    USING (((SELECT (syncd.sync_group(8))[1]) = 0 OR app_no = ANY ((SELECT syncd.sync_group(8))::integer[]))
           AND ((SELECT (syncd.sync_group(9))[1]) = 0 OR table_no = ANY ((SELECT syncd.sync_group(9))::integer[])));
