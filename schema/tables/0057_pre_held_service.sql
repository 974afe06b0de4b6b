-- The service that pushed a change in its user's name: the change is released with it.
ALTER TABLE syncd.sync_held ADD COLUMN service text COLLATE "C";
