-- The end of an operator's import into an empty server.
SELECT syncd.sync_import_settle()
