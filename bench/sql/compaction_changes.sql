-- A feed's log of $6 changes to $7 records, pushes of 100, each record changed in turn. The feed has one change so far.
INSERT INTO syncd.sync_changes (seq, push_end, prev_seq, created_at, event_id, space_no, app_no, table_no, user_no,
                                client_no, op, record_id, change_id, fields)
SELECT g, least((g + 99) / 100 * 100, $6::bigint), CASE WHEN g > $7::bigint + 1 THEN g - $7::bigint END,
       now() - interval '1 day' + g * interval '1 millisecond', ('018f6d2c-7a3b-7' || lpad(to_hex($1::integer), 3, '0') || '-8000-' || lpad(to_hex(g), 12, '0'))::uuid,
       $1::integer, $2::integer, $3::integer, $4::integer, $5::integer, 2,
       '018f6d2c-7a3b-7000-9000-' || lpad(to_hex(g % $7::bigint), 12, '0'),
       concat('018f6d2c-7a3b-7000-8001-', $1::integer, '-', lpad(to_hex(g), 12, '0')), $8::json
FROM generate_series(2, $6::bigint) g
