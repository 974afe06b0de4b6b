-- sync_erase_begin and sync_erase_refuse stand in their places.
DROP FUNCTION IF EXISTS syncd.sync_erase_user(text, boolean, boolean);
DROP FUNCTION IF EXISTS syncd.sync_erase_may(text, boolean);
