-- sync_erase_apart stands in its place.
DROP FUNCTION IF EXISTS syncd.sync_erase_rename(bigint, integer, text);
