-- Which apps have been written to in some of a user's spaces.
SELECT space_no, app, head FROM syncd.sync_feeds_in($1, $2::integer[])
