-- sync_judged_registers, sync_append_folded and sync_beyond, which know several apps, stand in their places.
DROP FUNCTION IF EXISTS syncd.sync_folded_registers(integer, integer[], integer[], bigint[], json[]);
DROP FUNCTION IF EXISTS syncd.sync_apply_folded(
    integer, integer, integer, integer[], integer[], bigint[], bigint[], timestamptz, integer, json[]);
DROP FUNCTION IF EXISTS syncd.sync_touched(integer, integer[], integer[], bigint[], bigint, json[]);
