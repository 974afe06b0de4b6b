-- Raises a feed's horizon before it is folded that far: who is behind gets the state.
SELECT syncd.sync_raise_horizon($1::integer, $2::integer, $3::bigint)
