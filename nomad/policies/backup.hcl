# Vault policy of class backup: backup and its inventory. It cannot decrypt.
# Made by `sankofa secrets policy --class backup` for the example project of DESIGN.md, with a database
# user of its own for each class (docs/vault.md, 4): print your own.
# Give it with token_no_default_policy=true.
path "airflow/data/connections/alerts" { capabilities = ["read"] }
path "airflow/data/connections/b2_backups" { capabilities = ["read"] }
path "airflow/data/connections/hr_db" { capabilities = ["read"] }
path "airflow/data/connections/records_db" { capabilities = ["read"] }
path "airflow/data/connections/smtp" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "database/creds/sankofa-backup" { capabilities = ["read"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
