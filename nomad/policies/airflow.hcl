# Vault policy of Airflow itself: it launches, it does not read what the launched read.
# A secret id for the class rows can be had wrapped only, for two minutes at most: whoever sees it on its way
# cannot use it unnoticed.
path "auth/approle/role/sankofa-rows/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "10s"
  max_wrapping_ttl = "120s"
}
# Connections of its own: where it starts work, whom it tells.
path "airflow/data/connections/nomad_default" { capabilities = ["read"] }
path "airflow/data/connections/alerts" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
