-- Reports: a view in SQL of each table that has a JSON Schema, and the logins that read them (functions/reports.sql).

-- The views that there are in the schema syncd_app. `version`: of the table's schema that it was made by; `columns`, in their order:
-- [{"column", "type", "field"}], or "is" in place of "field" for what every record has.
CREATE TABLE syncd.sync_report_views (
    app        text COLLATE "C" NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    view_name  text COLLATE "C" NOT NULL UNIQUE,
    version    integer NOT NULL,
    columns    jsonb NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (app, table_name)
);

-- What a login reads in the views: what a user may, by name, as there need be no such user yet; or some spaces, by number, so that a
-- space which is made later with the id of a deleted one is not among them.
CREATE TABLE syncd.sync_report_roles (
    role     text COLLATE "C" PRIMARY KEY,
    user_id  text COLLATE "C",
    spaces   integer[],
    given_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((user_id IS NULL) <> (spaces IS NULL))
);

ALTER TABLE syncd.sync_report_views ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_report_roles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- They are an operator's.
CREATE POLICY owner_keeps ON syncd.sync_report_views TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_report_roles TO CURRENT_USER USING (true) WITH CHECK (true);
