-- A new space, owned by its maker.
SELECT * FROM syncd.sync_space_create($1, $2)
