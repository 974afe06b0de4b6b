-- How far feeds stand: the slow look that finds what no notification told.
SELECT syncd.sync_heads($1::integer[], $2::text[])
