-- It is given two parameters more. Only sync_pull_acting calls it.
DROP FUNCTION IF EXISTS syncd.sync_small_feeds(
    integer, integer[], bigint[], bigint[], integer[], integer[], boolean, integer, integer[], bigint);
