-- What a plain INSERT is measured on: a table like the log, with its key and its idempotency index, and
-- the least table there is.
CREATE SCHEMA bench;
CREATE SEQUENCE bench.seq CACHE 100;
CREATE TABLE bench.log (LIKE syncd.sync_changes, PRIMARY KEY (space_no, app_no, seq));
CREATE UNIQUE INDEX ON bench.log (user_no, client_no, change_id) WHERE change_id IS NOT NULL;
CREATE TABLE bench.bare (no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, fields json);
