-- sync_feeds_together stands in its place.
DROP FUNCTION IF EXISTS syncd.sync_small_feeds(
    integer, integer[], bigint[], bigint[], integer[], integer[], boolean, integer, integer[], bigint);
