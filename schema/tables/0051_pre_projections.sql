-- Projections: a table's records in typed columns with indexes, filled behind the pushes (functions/projections.sql).

-- `columns`: as those of sync_report_views; `indexes`: fields; `fills_from`: it is filled when all transactions of before have ended. Its
-- rows are in the table sync_projection_N.
CREATE TABLE syncd.sync_projections (
    projection_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app           text COLLATE "C" NOT NULL,
    table_name    text COLLATE "C" NOT NULL,
    columns       jsonb NOT NULL,
    indexes       text[] NOT NULL,
    fills_from    xid8,
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How far a projection is in each feed: it has every record as it was at `seq` or later. Without a row it has none.
CREATE TABLE syncd.sync_projection_feeds (
    projection_id integer NOT NULL REFERENCES syncd.sync_projections ON DELETE CASCADE,
    space_no      integer NOT NULL,
    app_no        integer NOT NULL,
    seq           bigint NOT NULL DEFAULT 0,
    moved_at      timestamptz,
    PRIMARY KEY (projection_id, space_no, app_no)
) WITH (fillfactor = 50);

-- The projection that a table's view with indexes reads.
ALTER TABLE syncd.sync_report_views ADD COLUMN projection_id integer REFERENCES syncd.sync_projections ON DELETE SET NULL;

ALTER TABLE syncd.sync_projections ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_projection_feeds ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- They are written and read by the owner's functions alone.
CREATE POLICY owner_keeps ON syncd.sync_projections TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_projection_feeds TO CURRENT_USER USING (true) WITH CHECK (true);
