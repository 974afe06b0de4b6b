-- One or several pushes in one transaction: the heads, the number of waves of each, the waves, and
-- how long to wait for a lock (null: as long as the connection says).
SELECT seqs, marks, detail::text, page FROM syncd.sync_push($1::jsonb, $2::integer[], $3::json[], $4::text)
