-- The push of one change is called sync_push_single by now (functions/push_single.sql); nobody calls it by its name of before.
DROP FUNCTION IF EXISTS syncd.sync_push_plain(jsonb, json);
