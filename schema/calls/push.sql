-- A push, and why one was refused.

-- name: push
-- One or several pushes in one transaction: the heads, the number of waves of each, the waves, and
-- how long to wait for a lock (null: as long as the connection says).
-- returns: store.log.Receipt
SELECT seqs, marks, detail::text AS detail, page FROM syncd.sync_push($1::jsonb, $2::integer[], $3::json[], $4::text);

-- name: push_group
-- Several pushes in one transaction, most of them of one change: the heads, those changes ({} for another push), the number of
-- waves of each other push, and those waves.
-- returns: store.log.GroupReceipt
SELECT seqs, receipts FROM syncd.sync_push_group($1::json, $2::json, $3::integer[], $4::json[], $5::text);

-- name: push_moving
-- The same where one of them is of a device of the first generation: records that changed their space move.
-- returns: store.log.Receipt
SELECT seqs, marks, detail::text AS detail, page FROM syncd.sync_push_moving($1::jsonb, $2::integer[], $3::json[], $4::text);

-- name: push_following
-- The same for one push of a device of ours, to records that moved.
-- returns: store.log.Receipt
SELECT seqs, marks, detail::text AS detail, page FROM syncd.sync_push_following($1::jsonb, $2::integer[], $3::json[], $4::text);

-- name: unremembered
-- Which changes of a refused push may be of records whose tombstones were forgotten. Run when a push raised SY004.
-- returns: one value
SELECT syncd.sync_unremembered_in($1::jsonb, $2::json[]);

-- name: erased_in
-- Which of them are of records that were erased.
-- returns: one value
SELECT syncd.sync_erased_only($1::jsonb, $2::json[]);

-- name: pushed_before
-- Which of a device's changes are in the log already.
-- returns: one value
SELECT syncd.sync_pushed_before($1, $2, $3::text[]);

-- name: device
-- Whether a device is the one that pushed last under its client id; see sync_device. Full: its user has as many as may be, $4.
-- returns: one value
SELECT CASE WHEN syncd.sync_quota_device($1, $2, $4) THEN syncd.sync_device($1, $2, $3::text[]) ELSE 'full' END;
