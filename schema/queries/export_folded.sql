-- The feeds that were folded, and how far (of one space), as far as one may see them.
SELECT syncd.sync_export_folded($1)
