-- Webhooks: consumers whose changes are sent to an address (syncd/consumers/webhooks.py). An operator's: no other role reads a secret.

-- `ops`, `fields`: null for all; `state`: active, draining (what waits is still sent, then it is paused) or paused, and `reason` why;
-- `private`: the address may be one of a private network. The counts are of attempts: `sent` were taken, `failed` were not, `retries` of both
-- were not the first; `buckets` has how many took how long.
CREATE TABLE syncd.sync_webhooks (
    consumer_id integer PRIMARY KEY REFERENCES syncd.sync_consumers ON DELETE CASCADE,
    url         text NOT NULL,
    secret      bytea NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    ops         text[],
    fields      text[],
    private     boolean NOT NULL DEFAULT false,
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining', 'paused')),
    reason      text,
    sent        bigint NOT NULL DEFAULT 0,
    failed      bigint NOT NULL DEFAULT 0,
    retries     bigint NOT NULL DEFAULT 0,
    buckets     bigint[] NOT NULL,
    seconds     double precision NOT NULL DEFAULT 0,
    said        text,
    said_at     timestamptz
);

-- What could not be delivered: the message as it was sent, oldest first.
CREATE TABLE syncd.sync_webhook_dead (
    dead_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_id integer NOT NULL REFERENCES syncd.sync_webhooks ON DELETE CASCADE,
    message_id  text NOT NULL,
    body        bytea NOT NULL,
    attempts    integer NOT NULL,
    reason      text NOT NULL,
    died_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sync_webhook_dead_of ON syncd.sync_webhook_dead (consumer_id, dead_id);

ALTER TABLE syncd.sync_webhooks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_webhook_dead ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
