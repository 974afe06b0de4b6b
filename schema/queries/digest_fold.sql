-- Folds records that were touched lately into the digests of their feeds; true where there may be more of them.
SELECT syncd.sync_digest_fold($1::jsonb)
