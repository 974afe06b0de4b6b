-- Ends a space and every membership in it.
SELECT syncd.sync_space_delete($1)
