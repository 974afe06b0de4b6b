-- Sets the acting user for this transaction; adds the user when new and $2 says so.
SELECT syncd.sync_act_as($1, $2)
