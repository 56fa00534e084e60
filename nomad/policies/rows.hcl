# Vault policy of class rows: extract, validate, load, sync. No backup key, no age_identity.
# Made by `sankofa secrets policy --class rows` for the example project of DESIGN.md, with a database
# user of its own for each class (docs/vault.md, 4): print your own.
# Give it with token_no_default_policy=true.
path "airflow/data/connections/alerts" { capabilities = ["read"] }
path "airflow/data/connections/hr_db" { capabilities = ["read"] }
path "airflow/data/connections/smtp" { capabilities = ["read"] }
path "airflow/data/connections/warehouse" { capabilities = ["read"] }
path "airflow/data/variables/hmac_key" { capabilities = ["read"] }
path "airflow/data/variables/stage_identity" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "database/creds/sankofa-rows" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
