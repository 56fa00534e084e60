#!/usr/bin/env bash
# Once, in a new warehouse: the roles and grants of demo/warehouse.sql.
set -euo pipefail
export PGDATABASE=$POSTGRES_DB PGUSER=postgres
printf '%s\n' '\getenv password SANKOFA_WAREHOUSE_PASSWORD' "\\i ${DEMO:-/demo}/warehouse.sql" | psql -X -q -v ON_ERROR_STOP=1
