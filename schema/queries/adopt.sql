-- Takes over the membership list that came with a token or from the membership service.
SELECT syncd.sync_adopt($1::jsonb, to_timestamp($2::bigint / 1000000.0))
