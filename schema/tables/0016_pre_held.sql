-- What a device of the first generation pushed and may not be written: it forgets what was answered, so the server keeps it.
-- `change` is its JSON text as it came, `content` what tells a retry (null: nothing does). `space_id`, `table_name` and
-- `record_id` are null where they cannot be names; none of them is put into sync_names.
CREATE TABLE syncd.sync_held (
    held_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_no     integer NOT NULL,
    client_id   text COLLATE "C" NOT NULL,
    app         text COLLATE "C" NOT NULL,
    space_id    text COLLATE "C",
    table_name  text COLLATE "C",
    record_id   text COLLATE "C",
    reason      text COLLATE "C" NOT NULL,
    content     text COLLATE "C",
    received_at timestamptz NOT NULL,
    size        integer NOT NULL,
    change      text NOT NULL
);
CREATE UNIQUE INDEX sync_held_once ON syncd.sync_held (user_no, app, client_id, content) WHERE content IS NOT NULL;
CREATE INDEX sync_held_of ON syncd.sync_held (user_no, held_no);
-- What waits for its author to become a writer.
CREATE INDEX sync_held_waiting ON syncd.sync_held (user_no, space_id) WHERE reason IN ('space_not_found', 'not_a_writer');

ALTER TABLE syncd.sync_held ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, DELETE, UPDATE (reason) ON syncd.sync_held TO syncd_runtime;
