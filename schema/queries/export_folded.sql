-- The feeds that were folded, and how far (of one space), for an operator's export.
SELECT syncd.sync_export_folded($1)
