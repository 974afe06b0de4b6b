-- How large log and state are, in bytes: with their indexes, as files.
SELECT pg_total_relation_size('syncd.sync_changes'), pg_total_relation_size('syncd.sync_records')
