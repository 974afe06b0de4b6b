-- sync_held_of_device stands in its place.
DROP FUNCTION IF EXISTS syncd.sync_held_take(text, text, text, bigint[], integer);
