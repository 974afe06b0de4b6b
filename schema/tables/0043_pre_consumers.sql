-- Consumers: programs on the server's side that read what happens in feeds, and keep their place here (functions/consume.sql).

-- Who may be one: a member of `role`. `apps`, `tables`: null for all; by name, as there need be none of them yet.
CREATE TABLE syncd.sync_consumers (
    consumer_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    role        text COLLATE "C" NOT NULL,
    apps        text[],
    tables      text[],
    begins      text NOT NULL CHECK (begins IN ('state', 'now', 'beginning')),
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A consumer's processes, and until when each is taken to be there.
CREATE TABLE syncd.sync_consumer_holders (
    consumer_id integer NOT NULL REFERENCES syncd.sync_consumers ON DELETE CASCADE,
    holder      uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (consumer_id, holder)
) WITH (fillfactor = 50);

-- Each feed is in one of a consumer's slots, and each slot with one of its processes. `lease` grows whenever a slot changes hands,
-- so that what was read before is not acknowledged after.
CREATE TABLE syncd.sync_consumer_slots (
    consumer_id integer NOT NULL REFERENCES syncd.sync_consumers ON DELETE CASCADE,
    slot        integer NOT NULL,
    lease       bigint NOT NULL DEFAULT 0,
    holder      uuid,
    PRIMARY KEY (consumer_id, slot)
) WITH (fillfactor = 50);

-- How far a consumer is in a feed: of the log up to `seq`; or of the state, where `base` is not -1 but the head of when that was begun.
-- Without a row it is at the beginning. `acks` counts what was acknowledged.
CREATE TABLE syncd.sync_consumer_feeds (
    consumer_id integer NOT NULL REFERENCES syncd.sync_consumers ON DELETE CASCADE,
    space_no    integer NOT NULL,
    app_no      integer NOT NULL,
    seq         bigint NOT NULL,
    base        bigint NOT NULL DEFAULT -1,
    acks        bigint NOT NULL DEFAULT 0,
    moved_at    timestamptz,
    PRIMARY KEY (consumer_id, space_no, app_no)
) WITH (fillfactor = 50);

ALTER TABLE syncd.sync_consumers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_consumer_holders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_consumer_slots ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_consumer_feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
