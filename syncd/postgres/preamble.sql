-- Why: the roles, the schema and the lists of what was applied have to be there before the first migration.
-- Safe to run again. Runs as a superuser, as a role with CREATEROLE, or as the plain owner of the database once an
-- administrator has made the role syncd_runtime.
SET LOCAL search_path = pg_catalog, pg_temp;
DO $preamble$
DECLARE
    may_create_roles boolean := (SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user);
    owner name := current_user;
    holder name;
    needed name;
BEGIN
    IF may_create_roles THEN
        IF pg_catalog.to_regrole('syncd_owner') IS NULL THEN
            CREATE ROLE syncd_owner NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        IF pg_catalog.to_regrole('syncd_runtime') IS NULL THEN
            CREATE ROLE syncd_runtime NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        -- It logs in where the role that serves does: in a database of syncd's own.
        IF pg_catalog.to_regrole('syncd_compactor') IS NULL THEN
            CREATE ROLE syncd_compactor NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
            IF (SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = 'syncd_runtime') THEN
                ALTER ROLE syncd_compactor LOGIN;
            END IF;
        END IF;
        -- What the role of an application's backend is granted (functions/write.sql).
        IF pg_catalog.to_regrole('syncd_writer') IS NULL THEN
            CREATE ROLE syncd_writer NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        -- What a consumer's role is granted (functions/consume.sql).
        IF pg_catalog.to_regrole('syncd_consumer') IS NULL THEN
            CREATE ROLE syncd_consumer NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        -- Whom views for reports belong to, and what their readers are granted: a dump with views needs them (schema/report_roles.sql).
        IF pg_catalog.to_regrole('syncd_views') IS NULL THEN
            CREATE ROLE syncd_views NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        IF pg_catalog.to_regrole('syncd_reports') IS NULL THEN
            CREATE ROLE syncd_reports NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;
        END IF;
        -- Since PostgreSQL 16 a creator is an administrator of the role, and no member, until it says so.
        FOREACH needed IN ARRAY ARRAY['syncd_owner', 'syncd_compactor'] LOOP
            IF NOT pg_catalog.pg_has_role(current_user, needed, 'USAGE') THEN
                EXECUTE pg_catalog.format('GRANT %I TO %I', needed, current_user);
            END IF;
        END LOOP;
        owner := 'syncd_owner';
    ELSE
        FOREACH needed IN ARRAY ARRAY['syncd_runtime', 'syncd_compactor'] LOOP
            IF pg_catalog.to_regrole(needed::text) IS NULL THEN
                RAISE EXCEPTION 'the role % does not exist, and % may not create it', needed, current_user
                    USING HINT = pg_catalog.format('have an administrator run: CREATE ROLE %I NOLOGIN;', needed);
            END IF;
        END LOOP;
    END IF;
    IF NOT may_create_roles AND pg_catalog.to_regrole('syncd_owner') IS NOT NULL
          AND pg_catalog.pg_has_role(current_user, pg_catalog.to_regrole('syncd_owner'), 'USAGE') THEN
        owner := 'syncd_owner';
    END IF;

    -- As it is, and not as it is written: `regrole` quotes a name that needs it, or all of them where a database says so.
    SELECT r.rolname INTO holder FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'syncd';
    IF holder IS NULL THEN
        IF NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') THEN
            RAISE EXCEPTION '% may not create a schema in the database %', current_user, pg_catalog.current_database()
                USING HINT = pg_catalog.format('have an administrator run: GRANT CREATE ON DATABASE %I TO %I;',
                                               pg_catalog.current_database(), current_user);
        END IF;
        EXECUTE pg_catalog.format('CREATE SCHEMA syncd AUTHORIZATION %I', owner);
    ELSIF holder <> owner THEN
        RAISE EXCEPTION 'the schema syncd belongs to %, and this is %', holder, current_user
            USING HINT = pg_catalog.format('connect as %I, or have an administrator run: GRANT %I TO %I;',
                                           holder, holder, current_user);
    END IF;
    IF owner <> current_user AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE WITH GRANT OPTION') THEN
        EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO %I', pg_catalog.current_database(), owner);
    END IF;
    -- A role that may make a type, a function or an operator can have it found in place of another. As far as this role may, that
    -- is closed to PUBLIC; `GRANT TEMPORARY ON DATABASE … TO …` gives it to a role of somebody else's that needs it.
    IF pg_catalog.pg_has_role(current_user, (SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), 'USAGE') THEN
        EXECUTE pg_catalog.format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', pg_catalog.current_database());
    END IF;
    IF pg_catalog.pg_has_role(current_user, (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public'), 'USAGE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
    -- The parameter that says who acts: the owner's functions set it, and the role that serves does not (functions/context.sql).
    IF NOT pg_catalog.has_parameter_privilege(owner, 'backtrace_functions', 'SET')
          AND pg_catalog.has_parameter_privilege(current_user, 'backtrace_functions', 'SET WITH GRANT OPTION') THEN
        EXECUTE pg_catalog.format('GRANT SET ON PARAMETER backtrace_functions TO %I', owner);
    END IF;
    -- From here to the end of the transaction everything that is made belongs to the owner.
    PERFORM pg_catalog.set_config('role', owner::text, true);
END
$preamble$;

CREATE TABLE IF NOT EXISTS syncd.sync_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
-- Every set of functions that was put in, the newest last: the hash of its files, the release of the syncd that put it in (as
-- numbers that compare), and by signature a fingerprint of each function as that major version of PostgreSQL prints it.
CREATE TABLE IF NOT EXISTS syncd.sync_functions (
    ordinal      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256       text NOT NULL,
    release      integer[] NOT NULL,
    server       integer NOT NULL,
    fingerprints jsonb NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
GRANT USAGE ON SCHEMA syncd TO syncd_runtime;
GRANT SELECT ON syncd.sync_migrations, syncd.sync_functions TO syncd_runtime;
