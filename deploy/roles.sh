#!/bin/sh
# The roles that an administrator makes, once, in an empty database: what is granted to them `syncd serve` migrates. The
# login that serves is a member of the runtime role and of nothing else; the one that migrates and compacts is no superuser.
set -eu
psql --set owner="$SYNCD_OWNER_PASSWORD" --set database="$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$SYNCD_APP_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE syncd_runtime NOLOGIN;
CREATE ROLE syncd_compactor NOLOGIN;
CREATE ROLE syncd_app LOGIN PASSWORD :'password' IN ROLE syncd_runtime;
CREATE ROLE syncd_migrate LOGIN CREATEROLE PASSWORD :'owner' IN ROLE syncd_compactor;
GRANT syncd_runtime, syncd_compactor TO syncd_migrate WITH ADMIN OPTION;
ALTER DATABASE :"database" OWNER TO syncd_migrate;
SQL
