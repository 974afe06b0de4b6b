-- Only sync_import called it, which calls sync_take now.
DROP FUNCTION IF EXISTS syncd.sync_import_advance(integer, integer, bigint);
