-- When a device last pushed, to the day: compaction forgets those that did not for long.
ALTER TABLE syncd.sync_devices ADD COLUMN used_at timestamptz NOT NULL DEFAULT now();
GRANT UPDATE (used_at) ON syncd.sync_devices TO syncd_runtime;
GRANT SELECT (user_no, client_no, used_at), DELETE ON syncd.sync_devices TO syncd_compactor;
