-- The two roles of reports, made by `syncd migrate`, or by `syncd views apply` where they are not there yet. syncd_views owns the views in syncd_app and nobody logs in as it or is a member
-- of it: whoever reads a view reads the tables as syncd_views, whom row security binds by who reads (functions/reports.sql). syncd_reports is
-- granted to logins, and reaches the views and nothing else. Each statement may run again.

-- name: roles
DO $$ BEGIN
    IF to_regrole('syncd_views') IS NULL THEN
        CREATE ROLE syncd_views NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
    IF to_regrole('syncd_reports') IS NULL THEN
        CREATE ROLE syncd_reports NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
    END IF;
END $$;

-- name: grants
CREATE SCHEMA IF NOT EXISTS syncd_app;
GRANT USAGE, CREATE ON SCHEMA syncd_app TO syncd_views;
GRANT USAGE ON SCHEMA syncd_app TO syncd_reports;
GRANT USAGE ON SCHEMA syncd TO syncd_views;
GRANT SELECT (name_no, name) ON syncd.sync_names TO syncd_views;
GRANT SELECT (space_no, space_id, deleted_at) ON syncd.sync_spaces TO syncd_views;
GRANT SELECT (user_no, space_no) ON syncd.sync_memberships TO syncd_views;
GRANT SELECT (role, user_id, spaces) ON syncd.sync_report_roles TO syncd_views;
GRANT SELECT (space_no, app_no, seq, user_no) ON syncd.sync_changes TO syncd_views;
GRANT SELECT (seq, latest, space_no, app_no, table_no, deleted, record_id, registers) ON syncd.sync_records TO syncd_views;

-- name: policies
SELECT syncd.sync_report_sees('sync_names', 'true');
SELECT syncd.sync_report_sees('sync_spaces', 'true');
SELECT syncd.sync_report_sees('sync_memberships', 'true');
SELECT syncd.sync_report_sees('sync_report_roles', 'role = CURRENT_USER');
SELECT syncd.sync_report_bind('sync_records');
SELECT syncd.sync_report_bind('sync_changes');
