#!/usr/bin/env bash
# Once, in a new source server: the demo's tables of POSTGRES_DB, and the role that reads them.
set -euo pipefail
export PGDATABASE=$POSTGRES_DB PGUSER=postgres
demo=${DEMO:-/demo}
psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
\getenv password SANKOFA_ROWS_PASSWORD
CREATE ROLE sankofa_rows LOGIN PASSWORD :'password' IN ROLE pg_read_all_stats;
SQL
psql -X -q -1 -v ON_ERROR_STOP=1 -f "$demo/$POSTGRES_DB.sql" -f "$demo/grants.sql" -c ANALYZE >/dev/null
