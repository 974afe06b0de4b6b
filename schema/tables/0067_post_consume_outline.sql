-- sync_consume_outline stands in its place.
DROP FUNCTION IF EXISTS syncd.sync_consume_fits(integer, integer, bigint, bigint, bigint);
