-- A change as a push hands it to the database (functions/push.sql).
CREATE TYPE syncd.sync_written_change AS (
    r text, o smallint, c text, e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text
);
