-- The acting user's spaces, or the one named.
SELECT * FROM syncd.sync_space_list($1)
