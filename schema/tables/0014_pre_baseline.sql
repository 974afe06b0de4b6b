-- The tables, types and what the role that serves may do with them. Their policies and triggers, which need functions, are
-- in 0015_post_baseline.sql. The two stand for the thirteen migrations of before (before.sha256), and numbers go on from those:
-- a database that has them is taken as having these, and a syncd of before refuses one that has 14.

-- Names live once in sync_names and sync_spaces; every other row holds integers, so that a change of four fields is a
-- row of some 300 bytes. Every table of the log leads with the space, so it can be partitioned or distributed by it.

-- Users, apps, tables and devices, by name. `quoted` is the name as JSON text: what a pull sends.
CREATE TABLE syncd.sync_names (
    name_no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text COLLATE "C" NOT NULL UNIQUE,
    quoted  text NOT NULL
);

-- A space is never removed while its log exists: `deleted_at` is set and its memberships go. `roster` counts the changes
-- of its members: whoever read at one number and reads at the same again knows that nobody came, went or changed role
-- between the two.
CREATE TABLE syncd.sync_spaces (
    space_no   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space_id   text COLLATE "C" NOT NULL UNIQUE,
    quoted     text NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    roster     bigint NOT NULL DEFAULT 0
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
-- `horizon`: what lies at or below may be folded. `forgotten`: the greatest seq of a tombstone that is gone, and
-- `forgotten_us` the greatest stamp: a change of an unknown record that is older may be of one of those.
CREATE TABLE syncd.sync_feeds (
    space_no     integer NOT NULL REFERENCES syncd.sync_spaces,
    app_no       integer NOT NULL REFERENCES syncd.sync_names,
    head         bigint NOT NULL,
    written_at   timestamptz NOT NULL,
    boots        timestamptz[] NOT NULL,
    bases        bigint[] NOT NULL,
    horizon      bigint NOT NULL DEFAULT 0,
    forgotten    bigint NOT NULL DEFAULT 0,
    forgotten_us bigint NOT NULL DEFAULT 0,
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

-- Who came, went or changed role of late, for processes with open sockets. Read from the transaction that was the
-- oldest one running at the last look, so that one which commits late is seen too. An hour's worth is kept.
CREATE TABLE syncd.sync_membership_events (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_no  integer NOT NULL,
    space_no integer NOT NULL
);
CREATE INDEX sync_membership_events_since ON syncd.sync_membership_events (txid);

-- Who is here: what a device says about its user in a space, as long as it is repeated. Not logged, gone after a crash.
CREATE UNLOGGED TABLE syncd.sync_presence (
    space_no  integer NOT NULL,
    user_no   integer NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    state     json NOT NULL,
    seen      timestamptz NOT NULL,
    PRIMARY KEY (space_no, user_no, client_id)
) WITH (fillfactor = 50);

-- The restores that came with a changeId, so that one which is asked for again is answered and not done again, also
-- where it had nothing to change. A whole space has no table_no and record_id. The changes are first_seq to last_seq.
CREATE TABLE syncd.sync_restores (
    user_no   integer NOT NULL,
    client_no integer NOT NULL,
    change_id text COLLATE "C" NOT NULL,
    space_no  integer NOT NULL,
    app_no    integer NOT NULL,
    table_no  integer,
    record_id text COLLATE "C",
    target    text NOT NULL,
    first_seq bigint NOT NULL,
    last_seq  bigint NOT NULL,
    PRIMARY KEY (user_no, client_no, change_id)
);

-- How far a feed was folded, and how far its tombstones were looked at: where compaction goes on.
CREATE TABLE syncd.sync_compactions (
    space_no integer NOT NULL,
    app_no   integer NOT NULL,
    folded   bigint NOT NULL DEFAULT 0,
    searched bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (space_no, app_no)
);

-- Work that one process does at a time. The holder says in each of its transactions that it is there; one that has
-- not for a while loses the lease to the next, and what it then tries to commit fails.
CREATE TABLE syncd.sync_leases (
    name    text PRIMARY KEY,
    holder  uuid NOT NULL,
    beat_at timestamptz NOT NULL,
    done_at timestamptz
);

-- How far a feed is folded in: every record whose seq is not greater is in the two tables below as it is.
CREATE TABLE syncd.sync_digests (
    space_no integer NOT NULL,
    app_no   integer NOT NULL,
    folded   bigint NOT NULL,
    PRIMARY KEY (space_no, app_no)
);

-- The records folded in, each with the digest it had then; null for one that was deleted since.
CREATE TABLE syncd.sync_digest_records (
    digest    bigint,
    space_no  integer NOT NULL,
    app_no    integer NOT NULL,
    table_no  integer NOT NULL,
    bucket    smallint NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (space_no, app_no, bucket, table_no, record_id)
);

-- Their number and digest by table and bucket.
CREATE TABLE syncd.sync_digest_buckets (
    space_no integer NOT NULL,
    app_no   integer NOT NULL,
    table_no integer NOT NULL,
    bucket   smallint NOT NULL,
    records  integer NOT NULL,
    digest   bigint NOT NULL,
    PRIMARY KEY (space_no, app_no, table_no, bucket)
) WITH (fillfactor = 50);

-- What calls answer. A type is never changed, as an older worker reads it by its places: a call that answers more gets a
-- new one.

-- What a pull answers. `body`: the changes as JSON text, comma-separated. `spaces`, `seqs`, `bases`:
-- the position in every feed, for the next cursor; a base of -1 means reading the log, any other
-- that the state is being read, begun when the head stood there. `trouble`: null or 'lost'.
CREATE TYPE syncd.sync_page AS (
    body    bytea,
    spaces  integer[],
    seqs    bigint[],
    bases   bigint[],
    joined  text[],
    gone    text[],
    more    boolean,
    news    boolean,
    now_us  bigint,
    boot_us bigint,
    trouble text
);

-- What a push answers. `marks` has one letter a change: a applied, s superseded, d duplicate,
-- u change id reused, n no such space, r not a writer. `detail`: {"events": {i: eventId} of duplicates, "conflicts": [...]}.
CREATE TYPE syncd.sync_receipt AS (
    seqs   bigint[],
    marks  text,
    detail jsonb,
    page   syncd.sync_page
);

CREATE TYPE syncd.sync_space AS (id text, name text, role text, created_us bigint);
CREATE TYPE syncd.sync_member AS (user_id text, role text, joined_us bigint);

-- What one live reading brings. `head`: how far the feed stands, null when the acting user is no member; `upto`: how
-- far was read, always the end of a push; `seqs`, `ends`, `tables`: of the changes in `body`, which are separated by
-- U+001E; `legacy`: the same with inserts as plain records too, where it was asked for.
CREATE TYPE syncd.sync_news AS (
    head    bigint,
    upto    bigint,
    roster  bigint,
    now_us  bigint,
    boot_us bigint,
    seqs    bigint[],
    ends    bigint[],
    tables  text[],
    body    bytea,
    legacy  bytea
);

-- A record as it was after a seq: null registers where it did not exist, and `seq` is that of its last change then.
-- complete: false where its chain ends at a change that is gone, before every register was found.
CREATE TYPE syncd.sync_version AS (
    registers      jsonb,
    seq            bigint,
    event_id       uuid,
    client_no      integer,
    schema_version integer,
    complete       boolean
);

-- What a look into the past answers. `body`: JSON text; `seq`: the moment in the feed; `more`: there is a next page,
-- after the record `last_table`, `last_id`.
CREATE TYPE syncd.sync_past_page AS (
    body       text,
    seq        bigint,
    more       boolean,
    complete   boolean,
    last_table text,
    last_id    text
);

-- What a restore wrote, in the order of its seqs; repeated: an earlier one with the same changeId did.
CREATE TYPE syncd.sync_restored AS (
    seqs     bigint[],
    events   text[],
    tables   text[],
    ids      text[],
    repeated boolean
);

-- What a question about digests found. `body`: for digests the spaces, for a comparison the changes, as JSON text,
-- comma-separated; `behind` and `unready` are space ids; `gone`: [[table, id]] as JSON text. `trouble`: null or 'lost'.
CREATE TYPE syncd.sync_digest_page AS (
    body    text,
    behind  text[],
    unready text[],
    seq     bigint,
    gone    text,
    more    boolean,
    trouble text
);

-- Nothing of a space is read or written past its policies; their owner is bound by FORCE too.
ALTER TABLE syncd.sync_names ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_spaces ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_memberships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_adoptions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_records ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_membership_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_presence ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_restores ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_compactions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_leases ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_digests ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_digest_records ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_digest_buckets ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- What the role that serves may do; the log is append-only to it.
GRANT USAGE ON SCHEMA syncd TO syncd_runtime;
GRANT SELECT ON syncd.sync_server TO syncd_runtime;
GRANT SELECT, INSERT ON syncd.sync_names TO syncd_runtime;
GRANT SELECT ON syncd.sync_spaces TO syncd_runtime;
GRANT SELECT, UPDATE (joined_at) ON syncd.sync_memberships TO syncd_runtime;
GRANT SELECT ON syncd.sync_feeds TO syncd_runtime;
GRANT SELECT, INSERT ON syncd.sync_changes TO syncd_runtime;
GRANT SELECT, INSERT, UPDATE ON syncd.sync_records TO syncd_runtime;
GRANT SELECT, INSERT, UPDATE, DELETE ON syncd.sync_presence TO syncd_runtime;
GRANT SELECT, INSERT ON syncd.sync_restores TO syncd_runtime;
GRANT SELECT ON syncd.sync_digests, syncd.sync_digest_records, syncd.sync_digest_buckets TO syncd_runtime;
