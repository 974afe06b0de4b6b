-- Erasures: what an operator, or a user itself, had erased for good (functions/erase.sql). A row is there before anything is erased and stays,
-- so that one that was interrupted goes on, and one is done again in a database that is restored from before it. It holds no value: of a
-- record its names; of a user a digest with a salt of its own, and the number while it is under way.
CREATE TABLE syncd.sync_erasures (
    ordinal    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what       text NOT NULL CHECK (what IN ('record', 'user')),
    asked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at    timestamptz,
    space_id   text COLLATE "C",
    app        text COLLATE "C",
    table_name text COLLATE "C",
    record_id  text COLLATE "C",
    user_no    bigint,
    salt       bytea,
    digest     bytea,
    anonymise  boolean NOT NULL DEFAULT false,
    counts     jsonb NOT NULL DEFAULT '{}',
    CHECK (CASE what WHEN 'record' THEN num_nulls(space_id, app, table_name, record_id) = 0 ELSE digest IS NOT NULL END)
);
CREATE UNIQUE INDEX sync_erasures_record ON syncd.sync_erasures (record_id, table_name, app, space_id) WHERE what = 'record';
CREATE UNIQUE INDEX sync_erasures_user ON syncd.sync_erasures (user_no) WHERE user_no IS NOT NULL;

ALTER TABLE syncd.sync_erasures ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- An operator's; the owner's functions ask whether a record was erased.
CREATE POLICY owner_keeps ON syncd.sync_erasures TO CURRENT_USER USING (true) WITH CHECK (true);

-- When all that was in a space was erased with its only member: devices that were there begin again.
ALTER TABLE syncd.sync_spaces ADD COLUMN erased_at timestamptz;
