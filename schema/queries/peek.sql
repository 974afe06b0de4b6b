-- Like pull.sql, for pulls that say "peek": whether there is news, without the positions that its asker has.
SELECT news, now_us, boot_us, trouble FROM syncd.sync_pull($1::jsonb)
