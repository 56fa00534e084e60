#!/bin/sh
# Puts the connections into Vault, in the layout of Airflow's VaultBackend; a policy and an approle per class; Airflow's token.
#
# Environment: VAULT_ADDR, VAULT_TOKEN, the passwords, and HOST:PORT of each server. Again: the same state.
set -eu
policies=${POLICIES:-/policies}

vault secrets list -format=json | grep -q '"airflow/"' || vault secrets enable -path=airflow -version=2 kv
vault auth list -format=json | grep -q '"approle/"' || vault auth enable approle

# Through stdin: what stands in arguments, every user of the machine can see.
put() { printf '{"%s": "%s"}' "$2" "$3" | vault kv put -mount=airflow "$1" - >/dev/null; }
source_of() { put "connections/$1_db" conn_uri "postgres://sankofa_rows:$SANKOFA_ROWS_PASSWORD@$2/$1"; }
backup_of() { put "connections/$1_backup" conn_uri "postgres://postgres:$POSTGRES_PASSWORD@$2/$1"; }

source_of hr "$SOURCE_HR"; backup_of hr "$SOURCE_HR"
source_of records "$SOURCE_RECORDS"; backup_of records "$SOURCE_RECORDS"
source_of service_desk "$SOURCE_SERVICE_DESK"; backup_of service_desk "$SOURCE_SERVICE_DESK"
put connections/warehouse conn_uri "postgres://sankofa:$SANKOFA_WAREHOUSE_PASSWORD@$WAREHOUSE/warehouse"
put connections/drill_server conn_uri "postgres://postgres:$POSTGRES_PASSWORD@$DRILL/postgres"
printf '{"conn_type": "aws", "login": "%s", "password": "%s", "extra": "{\\"endpoint_url\\": \\"%s\\", \\"region_name\\": \\"us-east-1\\"}"}' \
    "$S3_KEY_ID" "$S3_SECRET_KEY" "$S3_URL" | vault kv put -mount=airflow connections/offsite -
put variables/hmac_key value "$HMAC_KEY"

# The shipped policy of a class, and what this demo has beyond DESIGN.md's example.
policy_of() {
    class=$1
    shift
    cat "$policies/$class.hcl"
    for id in "$@"; do printf 'path "airflow/data/%s" { capabilities = ["read"] }\n' "$id"; done
}
give() {
    class=$1
    policy_of "$@" | vault policy write "sankofa-$class" -
    vault write "auth/approle/role/sankofa-$class" token_policies="sankofa-$class" token_ttl=20m token_max_ttl=8h >/dev/null
    # A role id is a name, not a secret: the launcher passes the secret id alone.
    vault write "auth/approle/role/sankofa-$class/role-id" role_id="sankofa-$class" >/dev/null
}
give rows connections/records_db connections/service_desk_db
give backup connections/hr_backup connections/records_backup connections/service_desk_backup connections/offsite
give drill connections/drill_server connections/offsite

vault policy write airflow "$policies/airflow.hcl"
vault token lookup "$AIRFLOW_VAULT_TOKEN" >/dev/null 2>&1 ||
    printf '{"id": "%s", "policies": ["airflow"], "period": "24h"}' "$AIRFLOW_VAULT_TOKEN" | vault write auth/token/create - >/dev/null
