-- The number of the user of an export, under whom the transaction then acts; 0 for nobody known.
SELECT syncd.sync_act_as($1), clock_timestamp()
