-- One batch of an import.
SELECT marks, heads FROM syncd.sync_import($1::jsonb, $2::integer[], $3::bigint[], $4::bigint[], $5::text[], $6::uuid[], $7::text[],
                                           $8::integer[], $9::integer[], $10::json[])
