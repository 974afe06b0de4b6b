-- Which apps have been written to in some spaces: the slow look for those of which no notification told.
SELECT space_no, app, head FROM syncd.sync_feeds_of($1::integer[])
