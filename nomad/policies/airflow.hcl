# Vault's policy of Airflow's own token. It mints secret ids for `rows` only, response-wrapped and single-use, and reads
# the connections that Airflow itself uses (Nomad, alerts, git). It cannot read a source, the warehouse or a store: those are
# for the container, which logs in by itself.
#
# vault policy write airflow nomad/policies/airflow.hcl
path "auth/approle/role/sankofa-rows/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "10s"
  max_wrapping_ttl = "300s"
}
path "auth/approle/role/sankofa-rows/role-id" {
  capabilities = ["read"]
}
path "airflow/data/connections/nomad_default" {
  capabilities = ["read"]
}
path "airflow/data/connections/alerts" {
  capabilities = ["read"]
}
path "airflow/data/connections/smtp" {
  capabilities = ["read"]
}
path "airflow/data/connections/sankofa_git" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}
