-- The owner's, and those who may act as it.
CREATE POLICY owner_keeps ON syncd.sync_webhooks TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_webhook_dead TO CURRENT_USER USING (true) WITH CHECK (true);
