-- Log rows $6 + 1 to $7 of a feed: pushes of 100, ten changes to each record one after another. As the superuser.
INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                client_no, op, record_id, change_id, fields)
SELECT g, least((g + 99) / 100 * 100, $7::bigint), CASE WHEN g % 10 <> 1 AND g > $6::bigint + 1 THEN g - 1 END,
       now() - interval '1 hour', ('018f6d2c-7a3b-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid,
       $1::integer, $2::integer, $3::integer, $4::integer, $5::integer, 2,
       '018f6d2c-7a3b-7000-9000-' || lpad(to_hex((g + 9) / 10), 12, '0'),
       '018f6d2c-7a3b-7000-8001-' || lpad(to_hex(g), 12, '0'), $8::json
FROM generate_series($6::bigint + 1, $7::bigint) g
