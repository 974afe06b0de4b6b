-- Who came, went or changed role since the last look.
SELECT horizon::text, events, users, boot_us FROM syncd.sync_membership_news($1::text::xid8)
