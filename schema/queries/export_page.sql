-- Some lines of a feed, for an export.
SELECT upto, events, body FROM syncd.sync_export_page($1, $2, $3, $4, $5, $6, $7)
