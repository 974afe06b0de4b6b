-- sync_consume_extent stands in its place.
DROP FUNCTION IF EXISTS syncd.sync_consume_outline(integer, integer, bigint, bigint, bigint);
