-- A change as a push hands it to the database, with what its writer had seen (functions/unseen.sql). It stands in the place of
-- sync_written_change, which the functions of an older syncd read.
CREATE TYPE syncd.sync_told_change AS (
    r text, o smallint, c text, e uuid, f json, g jsonb, lo bigint, hi bigint, v integer, a text, n text, b jsonb
);
