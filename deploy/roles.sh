#!/bin/sh
# The roles that an administrator makes, once, in an empty database: what is granted to them `syncd serve` migrates. The
# login that serves is a member of the runtime role and of nothing else.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$SYNCD_APP_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE syncd_runtime NOLOGIN;
CREATE ROLE syncd_compactor NOLOGIN;
CREATE ROLE syncd_app LOGIN PASSWORD :'password' IN ROLE syncd_runtime;
SQL
