# Vault policy of class drill: restore and drill, which hold the identities.
# Made by `sankofa secrets policy --class drill` for the example project of DESIGN.md, with a database
# user of its own for each class (docs/vault.md, 4): print your own.
# Give it with token_no_default_policy=true.
path "airflow/data/connections/alerts" { capabilities = ["read"] }
path "airflow/data/connections/b2_backups" { capabilities = ["read"] }
path "airflow/data/connections/drill_server" { capabilities = ["read"] }
path "airflow/data/connections/smtp" { capabilities = ["read"] }
path "airflow/data/variables/age_identity" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
