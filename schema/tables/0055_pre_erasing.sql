-- What an erasure of a user has to know until it is done, and a key that signs receipts and nothing else.

-- `begun_at`: from then on who comes with the id is somebody new. `clients`: the devices of the user, by their ids, as the log may have lost its
-- changes. `former_no`: the number that the user had, where that is a device's, a table's or an app's as well and stays theirs.
ALTER TABLE syncd.sync_erasures ADD COLUMN begun_at timestamptz, ADD COLUMN clients text[], ADD COLUMN former_no bigint;

-- How far each feed was when the user got another number: what was written with the former one after that is somebody else's.
CREATE TABLE syncd.sync_erasure_feeds (
    space_no integer NOT NULL,
    app_no   integer NOT NULL,
    ordinal  bigint NOT NULL,
    head     bigint NOT NULL,
    PRIMARY KEY (space_no, app_no, ordinal)
);

-- One row. No role of a server reads it, so a receipt is an operator's word.
CREATE TABLE syncd.sync_erasure_key (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    receipt_key bytea NOT NULL
);
INSERT INTO syncd.sync_erasure_key (receipt_key) VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

ALTER TABLE syncd.sync_erasure_feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_erasure_key ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- They are an operator's.
CREATE POLICY owner_keeps ON syncd.sync_erasure_feeds TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_erasure_key TO CURRENT_USER USING (true) WITH CHECK (true);

-- Of an erased space SHA-256 of its erasure's salt and the id that it had, for imports that still have it.
ALTER TABLE syncd.sync_spaces ADD COLUMN erased_as bytea;
CREATE INDEX sync_spaces_erased ON syncd.sync_spaces (erased_as) WHERE erased_as IS NOT NULL;
