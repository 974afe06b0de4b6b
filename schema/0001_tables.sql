-- The tables. Names live once in sync_names and sync_spaces; every other row holds integers,
-- so that a change of four fields is a row of some 300 bytes. Every table of the log leads with
-- the space, so it can be partitioned or distributed by it.

CREATE SCHEMA IF NOT EXISTS syncd;

-- Users, apps, tables and devices, by name. `quoted` is the name as JSON text: what a pull sends.
CREATE TABLE syncd.sync_names (
    name_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text COLLATE "C" NOT NULL UNIQUE,
    quoted  text NOT NULL
);

-- A space is never removed while its log exists: `deleted_at` is set and its memberships go.
CREATE TABLE syncd.sync_spaces (
    space_no   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space_id   text COLLATE "C" NOT NULL UNIQUE,
    quoted     text NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz
);

-- `source` says who keeps the row: the space endpoints (table), or a list that came with a
-- token or from a membership service, which replaces all rows of its source.
CREATE TABLE syncd.sync_memberships (
    user_no   integer NOT NULL REFERENCES syncd.sync_names,
    space_no  integer NOT NULL REFERENCES syncd.sync_spaces,
    role      text NOT NULL CHECK (role IN ('owner', 'writer', 'reader')),
    source    text NOT NULL DEFAULT 'table' CHECK (source IN ('table', 'external')),
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_no, space_no)
);
CREATE INDEX sync_memberships_space ON syncd.sync_memberships (space_no, user_no);

-- The newest membership list seen of a user, so that an older token cannot bring back a space.
CREATE TABLE syncd.sync_adoptions (
    user_no integer PRIMARY KEY REFERENCES syncd.sync_names,
    as_of   timestamptz NOT NULL,
    list    jsonb NOT NULL
);

-- A feed is one app in one space. `head` is its last seq: the row is locked from the push's first
-- look until its commit, so seq order is commit order and has no gap. `boots` and `bases` say
-- where the head stood when the database was started: a cursor that is older than a restart and
-- stands beyond that base belongs to a future that a restored backup does not have.
CREATE TABLE syncd.sync_feeds (
    space_no   integer NOT NULL REFERENCES syncd.sync_spaces,
    app_no     integer NOT NULL REFERENCES syncd.sync_names,
    head       bigint NOT NULL,
    written_at timestamptz NOT NULL,
    boots      timestamptz[] NOT NULL,
    bases      bigint[] NOT NULL,
    PRIMARY KEY (space_no, app_no)
) WITH (fillfactor = 50);

-- The log, append-only. `fields` are the registers that won, in wire form, `lost` those that were
-- superseded on arrival (kept for history, never sent); `push_end` is the last seq of the push the
-- row came with: a page may end there only. `prev_seq` is the record's previous change, so a
-- record's history is a walk along the primary key and needs no index of its own.
-- op: 1 insert, 2 update, 3 delete.
CREATE TABLE syncd.sync_changes (
    seq            bigint NOT NULL,
    push_end       bigint NOT NULL,
    prev_seq       bigint,
    created_at     timestamptz NOT NULL,
    event_id       uuid NOT NULL,
    space_no       integer NOT NULL,
    app_no         integer NOT NULL,
    table_no       integer NOT NULL,
    user_no        integer NOT NULL,
    client_no      integer NOT NULL,
    schema_version integer,
    op             smallint NOT NULL,
    record_id      text COLLATE "C" NOT NULL,
    change_id      text COLLATE "C",
    origin         text,
    actor          json,
    fields         json,
    lost           json,
    PRIMARY KEY (space_no, app_no, seq)
);
-- The idempotency key: a device's own change ids, so nobody else's can collide with them.
CREATE UNIQUE INDEX sync_changes_once ON syncd.sync_changes (user_no, client_no, change_id)
    WHERE change_id IS NOT NULL;

-- The merged state. A register is {"value", "at", "clientId"}; `latest` is the greatest `at`, in microseconds, of
-- the record's registers, so that a change that is newer throughout is merged with one jsonb ||.
CREATE TABLE syncd.sync_records (
    seq            bigint NOT NULL,
    latest         bigint NOT NULL,
    event_id       uuid NOT NULL,
    space_no       integer NOT NULL,
    app_no         integer NOT NULL,
    table_no       integer NOT NULL,
    client_no      integer NOT NULL,
    schema_version integer,
    deleted        boolean NOT NULL,
    record_id      text COLLATE "C" NOT NULL,
    registers      jsonb NOT NULL,
    PRIMARY KEY (space_no, app_no, table_no, record_id)
);
CREATE INDEX sync_records_touched ON syncd.sync_records (space_no, app_no, seq);

-- One row: who this server is. The key signs cursors, so that only its own come back.
CREATE TABLE syncd.sync_server (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cursor_key bytea NOT NULL
);
INSERT INTO syncd.sync_server (cursor_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));
