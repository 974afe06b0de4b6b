-- Another one whenever an erasure ends, before its receipt is given: who read something under one, and finds another, may have read what was erased.
ALTER TABLE syncd.sync_erasure_key ADD COLUMN last_erasure uuid NOT NULL DEFAULT gen_random_uuid();
