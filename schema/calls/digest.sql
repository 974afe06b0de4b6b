-- What a device compares its replica with.

-- name: digest
-- What a device's replica is compared with: digests of feeds, or the records of one bucket that differ.
-- returns: store.digest.DigestPage
SELECT body, behind, unready, seq, gone, more, trouble FROM syncd.sync_digest($1::jsonb);

-- name: digest_fold
-- Folds records that were touched lately into the digests of their feeds; true where there may be more of them.
-- returns: one value
SELECT syncd.sync_digest_fold($1::jsonb);
