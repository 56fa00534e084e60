#!/usr/bin/env bash
# Writes docker/.env: passwords and keys of this machine's own, which only its owner may read. Again: nothing changes.
#
# usage: docker/compose/env.sh [FILE]
set -euo pipefail
file=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.env}
[ ! -e "$file" ] || { echo "$file is there already: remove it, and the volumes with it, to begin anew"; exit 0; }

random() { head -c "$1" /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'; }
umask 077
{
    for name in POSTGRES_PASSWORD SANKOFA_ROWS_PASSWORD SANKOFA_WAREHOUSE_PASSWORD AIRFLOW_DB_PASSWORD VAULT_ROOT_TOKEN \
        AIRFLOW_VAULT_TOKEN S3_SECRET_KEY HMAC_KEY METABASE_KEY AIRFLOW_JWT_SECRET; do
        echo "$name=$(random 24)"
    done
    echo "AIRFLOW_FERNET_KEY=$(random 32)"
    echo "S3_KEY_ID=sankofa"
} >"$file"
echo "$file written"
