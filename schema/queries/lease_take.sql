-- Takes the lease of a work that one process does at a time; false where another has it.
SELECT syncd.sync_lease_take($1::text, $2::uuid, $3::interval)
