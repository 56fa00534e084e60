//! Every line of the policies that `secrets policy` prints is needed, and nothing else is.

use super::vault_dynamic::Bed;
use crate::support::vault::{Approle, VaultServer, unique};
use crate::support::*;
use secrecy::ExposeSecret;
use serde_json::json;

/// One class at work: its project, and its policy line by line.
struct AtWork {
    bed: Bed,
    role: Approle,
    sankofa: Sankofa,
    lines: Vec<String>,
}

impl AtWork {
    /// `more` follows the places in sankofa.yaml; `dynamic` is what is leased.
    async fn new(bed: Bed, class: &str, (dynamic, more): (&str, &str), pipeline: Option<&str>) -> AtWork {
        let role = bed.vault.approle("path \"nothing\" { capabilities = [\"read\"] }", json!({})).await;
        let secret_id = bed.vault.secret_id(&role).await;
        let auth = format!(
            "{{approle: {{role_id: \"{}\", secret_id_file: id, mount: {}}}}}",
            role.role_id, role.mount
        );
        let sankofa = bed.project(&auth, dynamic).file("id", secret_id);
        let yaml = sankofa.read("sankofa.yaml");
        sankofa.write("sankofa.yaml", format!("{yaml}{more}"));
        if let Some(text) = pipeline {
            sankofa.write("pipelines/p.yaml", text);
        }
        let printed = sankofa.run(&["secrets", "policy", "--class", class]).await.succeeds().json();
        let paths = printed["classes"][class]["policies"][0]["paths"].as_object().unwrap().clone();
        let line = |(path, word): (&String, &serde_json::Value)| {
            format!("path \"{path}\" {{ capabilities = [{word}] }}")
        };
        AtWork { bed, role, sankofa, lines: paths.iter().map(line).collect() }
    }

    /// Puts these lines, and no others, in force.
    async fn enforce(&self, lines: &[String]) {
        self.bed
            .vault
            .put(&format!("sys/policies/acl/{}", self.role.policy), json!({"policy": lines.join("\n")}))
            .await;
    }

    /// `args` end well under all lines; without any one of them 77 that names the path, or a warning that does.
    async fn each_line_is_needed(&self, args: &[&str]) {
        let run = async || {
            let id = unique("run");
            let all: Vec<&str> = args.iter().copied().chain(["--run", &id]).collect();
            self.sankofa.run(&all).await
        };
        self.enforce(&self.lines).await;
        let well = run().await.succeeds();
        assert!(!well.stderr.contains("WARN cannot"), "{}", well.told());
        for (at, line) in self.lines.iter().enumerate() {
            let mut without = self.lines.clone();
            without.remove(at);
            self.enforce(&without).await;
            let path = line.split('"').nth(1).unwrap();
            let ended = run().await;
            let is_warned = path.starts_with("sys/leases/") || path.starts_with("auth/token/");
            let ended = ended.exits(if is_warned { 0 } else { 77 });
            // A token is renewed at half of its life, at the start only where a lease hangs on it.
            let is_later =
                path == "auth/token/renew-self" && !self.lines.iter().any(|line| line.contains("sys/leases"));
            assert!(is_later || ended.stderr.contains(path), "without {line}\n{}", ended.told());
        }
        self.bed.until_no_user().await;
    }
}

#[tokio::test]
async fn every_line_of_the_rows_policy_is_needed_and_the_age_identity_is_out_of_its_reach() {
    let Some(bed) = Bed::new(17, "GRANT pg_monitor TO {group}").await else { return };
    let (group, database) = (bed.group.clone(), bed.database.name().to_owned());
    bed.database.sql("CREATE TABLE a (id int PRIMARY KEY, name text); INSERT INTO a SELECT g, g FROM generate_series(1, 10) g").await;
    bed.database
        .sql(&format!("GRANT SELECT ON a TO {group}; GRANT CREATE ON DATABASE {database} TO {group}"))
        .await;
    let path = bed.role("rows", "1h", "48h").await;
    bed.connection("warehouse", bed.database.server().port()).await;
    let variable = |name: &str| format!("variables/{name}");
    bed.vault
        .write((&bed.mount, 2), &variable("hmac_key"), json!({"value": "0123456789abcdef0123456789abcdef"}))
        .await;
    let recipient = age::x25519::Identity::generate().to_public();
    let more = format!(
        "stores: {{here: {{directory: store}}}}\nwarehouse: {{connection: warehouse, owner_role: {group}}}\n\
         backups:\n  defaults: {{store: here, encrypt_to: [{recipient}]}}\n  databases: {{hr: {{connection: src}}}}\n"
    );
    let pipeline = "source: src\nschema: p\ntables: {public.a: {mode: full_refresh, mask: {name: hmac}}}\n";
    let work =
        AtWork::new(bed, "rows", (&format!("src: {path}, warehouse: {path}"), &more), Some(pipeline)).await;
    assert!(!work.lines.iter().any(|line| line.contains("age_identity")), "{:?}", work.lines);
    work.each_line_is_needed(&["sync", "p", "--full-refresh"]).await;
    let compared = work.sankofa.run(&["secrets", "policy", "--class", "rows"]).await.succeeds();
    assert!(
        compared.stdout.contains("\"missing\":[]") || compared.stdout.contains("not compared"),
        "{}",
        compared.told()
    );
}

#[tokio::test]
async fn every_line_of_the_backup_policy_is_needed_and_that_of_drill_reads_the_identity() {
    let Some(bed) = Bed::new(17, "GRANT pg_read_all_data, pg_read_all_stats TO {group}").await else {
        return;
    };
    if !has_clients(17) {
        return;
    }
    bed.database.sql("CREATE TABLE a AS SELECT g FROM generate_series(1, 10) g").await;
    let path = bed.role("backup", "1h", "48h").await;
    let identity = age::x25519::Identity::generate();
    let (secret, recipient) = (identity.to_string().expose_secret().to_owned(), identity.to_public());
    bed.vault.write((&bed.mount, 2), "variables/age_identity", json!({ "value": secret })).await;
    let drill = bed.database.connection_uri();
    bed.vault.write((&bed.mount, 2), "connections/drill_server", json!({ "conn_uri": drill })).await;
    let more = format!(
        "stores: {{here: {{directory: store}}}}\ndrill: {{connection: drill_server}}\n\
         backups:\n  defaults: {{store: here, encrypt_to: [{recipient}]}}\n  databases: {{hr: {{connection: src}}}}\n"
    );
    let mut work = AtWork::new(bed, "backup", (&format!("src: {path}"), &more), None).await;
    let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
    work.sankofa = std::mem::take(&mut work.sankofa).env("SANKOFA_PG_BIN", &programs);
    work.each_line_is_needed(&["backup", "hr", "--skip-globals"]).await;
    work.enforce(&work.lines).await;
    let refused = work.sankofa.run(&["drill", "hr"]).await.exits(77);
    assert!(refused.stderr.contains("permission denied (403)"), "{}", refused.told());
    let printed = work.sankofa.run(&["secrets", "policy", "--class", "drill"]).await.succeeds().json();
    let paths = printed["classes"]["drill"]["policies"][0]["paths"].as_object().unwrap();
    let lines: Vec<String> =
        paths.iter().map(|(path, word)| format!("path \"{path}\" {{ capabilities = [{word}] }}")).collect();
    work.lines = lines;
    assert!(work.lines.iter().any(|line| line.contains("variables/age_identity")), "{:?}", work.lines);
    work.each_line_is_needed(&["drill", "hr"]).await;
}

#[tokio::test]
async fn the_shipped_policies_are_those_of_the_example_project() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/design");
    let mut sankofa = Sankofa::new().env("VAULT_ADDR", "http://127.0.0.1:1").env("ROLE_ID", "rows");
    for file in ["sankofa.yaml", "pipelines/hr.yaml", "sql/hr_marts.sql"] {
        sankofa = sankofa.file(file, std::fs::read(format!("{folder}/{file}")).unwrap());
    }
    let printed = sankofa.run(&["secrets", "policy"]).await.succeeds().json();
    let warned = printed["warnings"].to_string();
    assert!(
        warned
            .contains("the user of hr_db comes from database/creds/sankofa-rows in classes rows and backup"),
        "{warned}"
    );
    // As the policies are shipped: a user of its own for each class.
    let own = "hr_db: {rows: database/creds/sankofa-rows, backup: database/creds/sankofa-backup}";
    sankofa.write(
        "sankofa.yaml",
        sankofa.read("sankofa.yaml").replace("hr_db: database/creds/sankofa-rows", own),
    );
    let printed = sankofa.run(&["secrets", "policy"]).await.succeeds().json();
    assert_eq!(printed["warnings"].as_array().map_or(0, Vec::len), 0, "{printed}");
    let grants = printed["classes"].to_string();
    assert!(
        !grants.contains("TEMPORARY") && grants.contains("pg_read_all_stats TO sankofa_rows"),
        "{grants}"
    );
    assert!(!grants.contains("pg_read_all_stats TO sankofa_backup"), "{grants}");
    for class in ["rows", "backup", "drill"] {
        let file = format!("{}/nomad/policies/{class}.hcl", env!("CARGO_MANIFEST_DIR"));
        let shipped = std::fs::read_to_string(&file).unwrap_or_default();
        let shipped: Vec<&str> = shipped.lines().filter(|line| line.starts_with("path ")).collect();
        let paths = printed["classes"][class]["policies"][0]["paths"].as_object().unwrap();
        let lines: Vec<String> = paths
            .iter()
            .map(|(path, word)| format!("path \"{path}\" {{ capabilities = [{word}] }}"))
            .collect();
        assert_eq!(shipped, lines, "{file}");
    }
}

#[tokio::test]
async fn airflow_may_have_secret_ids_wrapped_only_and_reads_no_connection_of_a_class() {
    let Some(server) = VaultServer::shared().await else { return };
    let role = server.approle("path \"nothing\" { capabilities = [\"read\"] }", json!({})).await;
    let path = format!("auth/{}/role/rows/secret-id", role.mount);
    let shipped = include_str!("../../nomad/policies/airflow.hcl");
    let policy = server.policy(&shipped.replace("auth/approle/role/sankofa-rows/secret-id", &path)).await;
    let token = server.token(&[&policy], "1h", "1h").await;
    assert_eq!(server.ask("PUT", &path, &token, Some(json!({}))).await.0, 403, "unwrapped");
    assert_eq!(server.wrapped_as(&path, "60s", &token).await["wrap_info"]["creation_path"], json!(path));
    assert_eq!(server.wrapped_as(&path, "1h", &token).await["wrap_info"], json!(null), "for too long");
    assert_eq!(server.ask("GET", "airflow/data/connections/hr_db", &token, None).await.0, 403);
}
