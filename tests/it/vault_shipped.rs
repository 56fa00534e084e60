//! Least privilege as shipped: every command under exactly `nomad/policies/` and `docs/grants/`, on a real Vault
//! that makes the users of one connection, and what is said when a line of a policy is missing.

use super::grants::ROWS;
use super::notify::Receiver;
use super::stored::key_pair;
use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::vault::{Approle, VaultServer};
use crate::support::*;
use serde_json::json;

const BUCKET: &str = "school-backups";
const CLASSES: [(&str, &str); 3] = [
    ("rows", include_str!("../../nomad/policies/rows.hcl")),
    ("backup", include_str!("../../nomad/policies/backup.hcl")),
    ("drill", include_str!("../../nomad/policies/drill.hcl")),
];
const CREATION: &str = include_str!("../../nomad/policies/user.sql");
const REVOCATION: &str = include_str!("../../nomad/policies/user-revoked.sql");

const PIPELINE: &str = "source: hr_db\nschema: staff\nafter: [sql/a.sql]\nschedule: {cron: '0 3 * * *'}\ntables:
  public.department: {mode: full_refresh}
  public.employee: {mode: incremental, replication_key: updated_at, mask: {name: hmac}, deletes: {every: 1d}}\n";
/// What no row is like: the run ends with 65, and somebody is told.
const REFUSED: &str = "source: hr_db\nschema: refused\ntables:\n  public.department: {mode: full_refresh, checks: {rows: {min: 9}}}\n";

/// The platform of the shipped policies: connections, keys and mounts are called as there.
struct Platform {
    vault: VaultServer,
    server: Server,
    drills: Server,
    _b2: B2,
    _alerts: Receiver,
    roles: Vec<(&'static str, Approle, String)>,
    sankofa: Sankofa,
    recipients: (String, String),
}

impl Platform {
    async fn new() -> Option<Platform> {
        let vault = VaultServer::own().await?;
        let (server, drills) = (Server::new(17).start(), Server::new(17).start());
        for name in ["hr", "records", "warehouse"] {
            server.sql(&format!("CREATE DATABASE {name}")).await;
        }
        sql_in(&server, "hr", ROWS).await;
        // BYPASSRLS is inherited from no group, and so no leased user has it (docs/vault.md).
        sql_in(&server, "hr", "ALTER TABLE department DISABLE ROW LEVEL SECURITY").await;
        sql_in(&server, "records", "CREATE TABLE exam AS SELECT g AS id FROM generate_series(1, 10) g").await;
        grants(&server, &drills).await;
        let b2 = B2::start();
        b2.bucket(BUCKET, BucketOptions::default());
        let alerts = Receiver::start().await;
        let ((stage, stage_to), (identity, to)) = (key_pair(), key_pair());
        let role_uri = |server: &Server, role: &str, database: &str| {
            format!("postgres://{role}:change-me@127.0.0.1:{}/{database}", server.port())
        };
        vault.kv_at("airflow", 2).await;
        let key = b2.key(KeySpec::new(&["listFiles", "readFiles", "writeFiles"]).bucket(BUCKET));
        for (id, uri) in [
            ("hr_db", format!("postgres://127.0.0.1:{}/hr", server.port())),
            ("records_db", role_uri(&server, "sankofa_backup", "records")),
            ("warehouse", role_uri(&server, "sankofa_load", "warehouse")),
            ("drill_server", role_uri(&drills, "sankofa_drill", "postgres")),
            ("b2_backups", b2.connection_uri(&key)),
            ("alerts", alerts.connection()),
            ("smtp", "smtp://127.0.0.1:1".to_owned()),
        ] {
            vault.write(("airflow", 2), &format!("connections/{id}"), json!({ "conn_uri": uri })).await;
        }
        let hmac = "0123456789abcdef0123456789abcdef".to_owned();
        for (key, value) in [("hmac_key", hmac), ("stage_identity", stage), ("age_identity", identity)] {
            vault.write(("airflow", 2), &format!("variables/{key}"), json!({ "value": value })).await;
        }
        users(&vault, &server).await;
        let mut roles = Vec::new();
        for (class, policy) in CLASSES {
            let role = vault.approle(policy, json!({})).await;
            let secret_id = vault.secret_id(&role).await;
            roles.push((class, role, secret_id));
        }
        let sankofa = Sankofa::new()
            .file("pipelines/hr.yaml", PIPELINE)
            .file("sql/a.sql", "CREATE TABLE IF NOT EXISTS marts.head AS SELECT count(*) FROM staff.employee")
            .env("VAULT_ADDR", &vault.address)
            .env("SANKOFA_PG_BIN", &client_program(17, "pg_dump").parent().unwrap().display().to_string());
        let recipients = (stage_to, to);
        let platform =
            Platform { vault, server, drills, _b2: b2, _alerts: alerts, roles, sankofa, recipients };
        platform.project("");
        Some(platform)
    }

    /// Writes sankofa.yaml, with `more` databases.
    fn project(&self, more: &str) {
        let (stage, to) = &self.recipients;
        self.sankofa.write("sankofa.yaml", format!(
            "version: 1\nsecrets:\n  - vault:\n      address: ${{VAULT_ADDR}}\n      mount: airflow\n      \
             auth: {{approle: {{role_id: \"${{ROLE_ID}}\", secret_id_env: SECRET_ID, mount: \"${{MOUNT}}\"}}}}\n      \
             dynamic: {{hr_db: {{rows: database/creds/sankofa-rows, backup: database/creds/sankofa-backup}}}}\n\
             stores:\n  stage: {{directory: ./stage}}\n  \
             offsite: {{b2: {{connection: b2_backups, bucket: {BUCKET}, prefix: prod}}}}\n\
             warehouse: {{connection: warehouse, reader_role: metabase, after_role: marts}}\n\
             stage: {{store: stage, encrypt_to: [{stage}], identity: stage_identity}}\n\
             drill: {{connection: drill_server}}\nguard: {{never: ['*.*.*.national_id']}}\n\
             notify:\n  - {{webhook: {{connection: alerts}}, when: [failure, late]}}\n  \
             - {{mail: {{connection: smtp, to: [it@school.example]}}, when: [failure, late]}}\n\
             backups:\n  defaults: {{store: offsite, encrypt_to: [{to}]}}\n  \
             databases: {{hr: {{connection: hr_db}}, records: {{connection: records_db}}{more}}}\n  \
             servers: [hr_db]\n  ignore: [warehouse, postgres]\n",
        ));
    }

    /// Runs a command with the login of a class.
    async fn run(&mut self, class: &str, command: &str) -> Finished {
        let (_, role, secret_id) = self.roles.iter().find(|(name, ..)| *name == class).expect("a class");
        let sankofa = std::mem::take(&mut self.sankofa);
        self.sankofa =
            sankofa.env("ROLE_ID", &role.role_id).env("MOUNT", &role.mount).env("SECRET_ID", secret_id);
        self.sankofa.run(&command.split(' ').collect::<Vec<_>>()).await
    }

    /// Puts another text of a class's policy in force.
    async fn enforce(&self, class: &str, text: &str) {
        let (_, role, _) = self.roles.iter().find(|(name, ..)| *name == class).expect("a class");
        self.vault.put(&format!("sys/policies/acl/{}", role.policy), json!({ "policy": text })).await;
    }

    /// Users that Vault has made and not yet taken away.
    async fn users(&self) -> String {
        let hr = Database::named(&self.server, "hr");
        let users = hr.value("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").await;
        hr.forget();
        users
    }
}

async fn sql_in(server: &Server, database: &str, sql: &str) {
    let database = Database::named(server, database);
    database.sql(sql).await;
    database.forget();
}

/// The shipped grants; those of hr's backup for database records too.
async fn grants(server: &Server, drills: &Server) {
    let backup = include_str!("../../docs/grants/backup.sql");
    let of_records: Vec<String> = backup
        .lines()
        .filter(|line| line.starts_with("GRANT CONNECT"))
        .map(|line| line.replace(" hr ", " records "))
        .collect();
    for (on, database, sql) in [
        (server, "hr", include_str!("../../docs/grants/source.sql")),
        (server, "warehouse", include_str!("../../docs/grants/warehouse.sql")),
        (server, "hr", backup),
        (server, "records", &of_records.join("\n")),
        (drills, "postgres", include_str!("../../docs/grants/drill.sql")),
    ] {
        sql_in(on, database, sql).await;
    }
}

/// What docs/vault.md has of users by lease: an admin, an engine, a role a class.
async fn users(vault: &VaultServer, server: &Server) {
    server
        .sql(
            "CREATE ROLE vault LOGIN CREATEROLE PASSWORD 'change-me';
             GRANT sankofa_rows, sankofa_backup TO vault WITH ADMIN OPTION",
        )
        .await;
    vault.put("sys/mounts/database", json!({"type": "database"})).await;
    let url = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
        server.port()
    );
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "sankofa-rows,sankofa-backup",
        "username": "vault", "password": "change-me", "password_authentication": "scram-sha-256", "connection_url": url,
    });
    vault.put("database/config/hr", config).await;
    for class in ["rows", "backup"] {
        let of_group = |sql: &str| sql.replace("sankofa_group", &format!("sankofa_{class}"));
        let role = json!({
            "db_name": "hr", "default_ttl": "1h", "max_ttl": "48h",
            "creation_statements": [of_group(CREATION)], "revocation_statements": [of_group(REVOCATION)],
        });
        vault.put(&format!("database/roles/sankofa-{class}"), role).await;
    }
}

/// Every command that asks for a secret, by class.
const COMMANDS: &[(&str, &str)] = &[
    ("rows", "secrets check --class rows"),
    ("rows", "warehouse init"),
    ("rows", "warehouse upgrade"),
    ("rows", "init --source hr_db --dry-run"),
    ("rows", "plan hr"),
    ("rows", "extract hr --run a"),
    ("rows", "validate hr --run a"),
    ("rows", "load hr --run a"),
    ("rows", "sync hr"),
    ("rows", "sync hr --full-refresh"),
    ("rows", "state show hr"),
    ("rows", "state reset hr --table public.employee"),
    ("rows", "prune"),
    ("rows", "doctor --for rows"),
    ("rows", "config compile"),
    ("rows", "doctor --for airflow"),
    ("rows", "status --for rows"),
    ("rows", "secrets policy --class rows"),
    ("backup", "secrets check --class backup"),
    ("backup", "backup hr"),
    ("backup", "backup records"),
    ("backup", "backups list"),
    ("backup", "backups verify"),
    ("backup", "backups coverage"),
    ("backup", "backups prune --dry-run"),
    ("backup", "doctor --for backup"),
    ("backup", "secrets policy --class backup"),
    ("drill", "secrets check --class drill"),
    ("drill", "drill hr --no-owner"),
    ("drill", "drill records --no-owner"),
    ("drill", "restore hr --into drill_server --database back --no-owner"),
    ("drill", "doctor --for drill"),
    ("drill", "secrets policy --class drill"),
    ("backup", "status --for backup"),
];

/// What a class is refused.
const REFUSALS: &[(&str, &str)] = &[
    ("rows", "backup hr"),
    ("rows", "drill hr --no-owner"),
    ("rows", "restore hr --to-file dump"),
    ("rows", "backups list"),
    ("backup", "sync hr"),
    ("backup", "drill hr --no-owner"),
    ("backup", "restore hr --to-file dump"),
    ("drill", "sync hr"),
    ("drill", "backup hr"),
];

#[tokio::test]
async fn every_command_runs_under_exactly_the_policies_and_grants_that_are_shipped() {
    let Some(mut platform) = Platform::new().await else { return };
    let mut refused = Vec::new();
    for (class, command) in COMMANDS {
        let done = platform.run(class, command).await;
        if done.code() != Some(0) {
            refused.push(format!("{class}: {}", done.told()));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n\n"));
    for (class, command) in REFUSALS {
        let done = platform.run(class, command).await.exits(77);
        assert!(done.stderr.contains("permission denied (403)"), "{class}: {}", done.told());
        assert!(done.stderr.contains("airflow/data/"), "{class}: {}", done.told());
    }
    for _ in 0..200 {
        if platform.users().await == "0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(platform.users().await, "0");
    drop(Database::named(&platform.drills, "back"));
}

/// A command of `class` that needs what `path` gives, and how it ends without.
fn needing(class: &str, path: &str) -> Option<(&'static str, i32)> {
    let is_told = path.ends_with("/alerts") || path.ends_with("/smtp");
    Some(match (class, path) {
        ("rows", _) if is_told => ("sync refused", 65),
        ("backup", _) if is_told => ("backups coverage", 65),
        ("drill", _) if is_told => ("drill empty --no-owner", 78),
        ("rows", "airflow/data/variables/stage_identity") => ("validate hr --run staged", 77),
        ("backup", "airflow/data/connections/records_db") => ("backup records", 77),
        // A token is renewed at half of its life, at the start only where a lease hangs on it.
        ("drill", "auth/token/renew-self") => return None,
        ("drill", "auth/token/revoke-self") => ("drill hr --no-owner", 0),
        ("rows", _) if path.starts_with("auth/") || path.starts_with("sys/") => ("sync hr", 0),
        ("backup", _) if path.starts_with("auth/") || path.starts_with("sys/") => ("backup hr", 0),
        ("rows", _) => ("sync hr", 77),
        ("backup", _) => ("backup hr", 77),
        _ => ("drill hr --no-owner", 77),
    })
}

#[tokio::test]
async fn each_line_of_a_shipped_policy_that_is_missing_is_77_or_a_warning_and_names_its_path() {
    let Some(mut platform) = Platform::new().await else { return };
    platform.sankofa.write("pipelines/refused.yaml", REFUSED);
    platform.project(", empty: {connection: records_db}");
    for (class, command) in
        [("rows", "extract hr --run staged"), ("backup", "backup hr"), ("drill", "drill hr --no-owner")]
    {
        platform.run(class, command).await.succeeds();
    }
    let mut wrong = Vec::new();
    for (class, policy) in CLASSES {
        for line in policy.lines().filter(|line| line.starts_with("path ")) {
            let path = line.split('"').nth(1).unwrap();
            let Some((command, code)) = needing(class, path) else { continue };
            platform.enforce(class, &policy.replace(line, "")).await;
            let done = platform.run(class, command).await;
            if done.code() != Some(code) || !done.stderr.contains(path) {
                wrong.push(format!("{class}: without {line}\nwanted {code} and the path\n{}", done.told()));
            }
        }
        platform.enforce(class, policy).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
