-- What the floors write to: a record, its id, and nothing beside. And what the old way wrote to: a log and its state.
CREATE SCHEMA bench;
CREATE TABLE bench.floor (id text PRIMARY KEY, record json NOT NULL);
CREATE TABLE bench.old_log (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, change_id text UNIQUE, id text, record json);
CREATE TABLE bench.old_state (id text PRIMARY KEY, record json NOT NULL, seq bigint NOT NULL);
