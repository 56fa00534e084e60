//! `sankofa secrets check`: where each id is found, what kind, how long, what it opens beyond its need.

use crate::support::moto::{Moto, REGION};
use crate::support::vault::VaultServer;
use crate::support::*;

const PIPELINE: &str =
    "source: hr_db\nschema: hr\ntables:\n  public.t: {mode: full_refresh, mask: {name: hmac}}\n";

fn entry<'a>(report: &'a serde_json::Value, id: &str) -> &'a serde_json::Value {
    report["secrets"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap()
}

#[tokio::test]
async fn each_id_is_told_with_its_place_kind_and_what_it_opens_and_never_with_its_value() {
    let Some(moto) = Moto::shared().await else { return };
    let server = Server::major(16);
    let (source, warehouse) =
        (server.fresh_database("source").await, server.fresh_database("warehouse").await);
    source.sql("CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE salary (id int)").await;
    let project = format!(
        "version: 1\nsecrets:\n  - files: {{variables: v.env}}\n  - aws_secrets_manager: {{region: {REGION}, \
         connections: check, endpoint_url: \"{}\"}}\n  - environment\nwarehouse: {{connection: warehouse}}\n",
        moto.url()
    );
    moto.create("check/hr_db", &source.connection_uri()).await;
    let sankofa = Sankofa::new().file("sankofa.yaml", project).file("pipelines/hr.yaml", PIPELINE);
    let sankofa =
        sankofa.file("v.env", "hmac_key=MARK-0123456789abcdef\n").connection("warehouse", &warehouse);
    let sankofa = sankofa.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "MARK");
    let ended = sankofa.run(&["secrets", "check"]).await.succeeds();
    let report = ended.json();
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!all.contains("MARK") && !all.contains(PASSWORD), "{all}");
    let hr = entry(&report, "hr_db");
    assert_eq!(hr["place"], format!("AWS Secrets Manager in {REGION}"), "{hr}");
    assert!(hr["kind"].as_str().unwrap().starts_with("secret check/hr_db, version"), "{hr}");
    assert_eq!((&hr["for"][0], &hr["life_s"]), (&"source of hr".into(), &serde_json::Value::Null));
    let beyond = hr["beyond"].to_string();
    // The test bed's user is a superuser, who may do everything.
    for word in ["superuser", "2 tables may be written", "1 tables may be read that no pipeline names"] {
        assert!(beyond.contains(word), "{word}: {hr}");
    }
    assert_eq!(entry(&report, "hmac_key")["what"], "variable");
    assert!(entry(&report, "hmac_key")["place"].as_str().unwrap().ends_with("v.env"));
    assert_eq!(entry(&report, "warehouse")["kind"], "AIRFLOW_CONN_WAREHOUSE");
    assert_eq!(report["places"].as_array().unwrap().len(), 3);
    assert_eq!(report["places"][1]["beyond"], "unknown");
}

#[tokio::test]
async fn a_role_with_what_it_needs_and_no_more_opens_nothing_beyond() {
    let server = Server::major(16);
    let source = server.fresh_database("source").await;
    let role = server.role("rows", "").await;
    let made = format!(
        "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE salary (id int); \
         GRANT pg_read_all_stats TO {role}; GRANT SELECT ON t TO {role}"
    );
    source.sql(&made).await;
    let uri = source.connection_uri_as(&role);
    let project = "version: 1\nwarehouse: {connection: warehouse}\n";
    let sankofa = Sankofa::new().file("sankofa.yaml", project).file("pipelines/hr.yaml", PIPELINE);
    let sankofa = sankofa.connection_uri("hr_db", &uri).env("AIRFLOW_VAR_HMAC_KEY", "0123456789abcdef");
    let report = sankofa.run(&["secrets", "check", "hr_db"]).await.succeeds().json();
    assert_eq!(entry(&report, "hr_db")["beyond"], serde_json::json!([]), "{report}");
}

#[tokio::test]
async fn what_a_login_may_do_in_vault_beyond_the_need_of_the_project_is_told() {
    let Some(vault) = VaultServer::shared().await else { return };
    let database = Server::major(16).fresh_database("beyond").await;
    let mount = vault.kv(2).await;
    for id in ["hr_db", "warehouse", "alerts", "payroll"] {
        let uri = database.connection_uri();
        vault.write((&mount, 2), &format!("connections/{id}"), serde_json::json!({"conn_uri": uri})).await;
    }
    let key = serde_json::json!({"value": "0123456789abcdef"});
    vault.write((&mount, 2), "variables/hmac_key", key).await;
    let line = |path: &str, word: &str| format!("path \"{path}\" {{ capabilities = [\"{word}\"] }}\n");
    let read = |path: &str| line(&format!("{mount}/data/{path}"), "read");
    let exact: String =
        ["connections/hr_db", "connections/warehouse", "connections/alerts", "variables/hmac_key"]
            .map(read)
            .concat()
            + &line("auth/token/renew-self", "update")
            + &line("auth/token/lookup-self", "read");
    let shown = line("sys/internal/ui/resultant-acl", "read");
    let wide = read("connections/*") + &line(&format!("{mount}/metadata/*"), "list");
    let yaml = format!(
        "version: 1\nsecrets: [{{vault: {{address: \"{}\", mount: {mount}, auth: {{token: {{}}}}}}}}]\n\
         warehouse: {{connection: warehouse}}\nnotify: [{{webhook: {{connection: alerts}}, when: [failure]}}]\n",
        vault.address
    );
    for (policy, beyond) in [
        (format!("{exact}{shown}"), serde_json::json!([])),
        (
            format!("{exact}{wide}{shown}"),
            serde_json::json!([
                format!("read on {mount}/data/connections/*"),
                format!("list on {mount}/metadata/*")
            ]),
        ),
        (exact.clone(), serde_json::json!("unknown")),
    ] {
        let token = vault.token(&[&vault.policy(&policy).await], "1h", "1h").await;
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", &yaml)
            .file("pipelines/hr.yaml", PIPELINE)
            .env("VAULT_TOKEN", &token);
        let report = sankofa.run(&["secrets", "check"]).await.succeeds().json();
        assert_eq!(entry(&report, "alerts")["for"], serde_json::json!(["notify by webhook"]));
        let found = &report["places"][0]["beyond"];
        match beyond.as_str() {
            Some(word) => assert!(found.as_str().unwrap().starts_with(word), "{found}"),
            None => assert_eq!(found, &beyond),
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_77_by_name_and_an_id_that_nobody_names_2_and_unquoted() {
    let project = "version: 1\nwarehouse: {connection: warehouse}\n";
    let sankofa = Sankofa::new().file("sankofa.yaml", project).file("pipelines/hr.yaml", PIPELINE);
    let ended = sankofa.run(&["secrets", "check"]).await.exits(77);
    let report = ended.json();
    assert_eq!(entry(&report, "hr_db")["error"]["code"], "permission");
    assert!(report["error"]["message"].as_str().unwrap().ends_with("(and 2 more)"), "{report}");
    let refused = sankofa.run(&["secrets", "check", "postgres://u:MARK@h/db"]).await.exits(2);
    assert!(!format!("{}{}", refused.stdout, refused.stderr).contains("MARK"));
}

#[tokio::test]
async fn a_password_that_is_rotated_while_a_run_waits_is_asked_for_anew() {
    let server = Server::major(16);
    let source = server.fresh_database("source").await;
    let role = server.role("rotated", "").await;
    let own = source.connection_uri_as(&role);
    let uri = |password: &str| {
        let place = own.rsplit_once('@').unwrap().1;
        format!("postgres://{role}:{password}@{place}")
    };
    source.sql(&format!("ALTER ROLE {role} PASSWORD 'first'")).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    let write = |uri: &str| std::fs::write(&path, serde_json::json!({"x": uri}).to_string()).unwrap();
    write(&uri("first"));
    let files = sankofa::secret::Files { connections: Some(path.clone()), variables: None };
    let resolver = sankofa::secret::Resolver::new(vec![std::sync::Arc::new(files)]);
    let connection = resolver.connection("x").await.unwrap();
    let open = async || {
        let options = sankofa::pg::connect::SessionOptions::named("test");
        sankofa::pg::connect::connect(&connection, &options).await
    };
    open().await.unwrap().close().await;
    source.sql(&format!("ALTER ROLE {role} PASSWORD 'second'")).await;
    // Rotated on the server alone: asked anew, the same again, refused for good.
    assert_eq!(sankofa::error::classify(&open().await.err().unwrap()).kind, sankofa::error::Kind::Permission);
    let connection = {
        write(&uri("first"));
        sankofa::secret::Resolver::new(resolver.places().to_vec()).connection("x").await.unwrap()
    };
    write(&uri("second"));
    let options = sankofa::pg::connect::SessionOptions::named("test");
    for _ in 0..2 {
        sankofa::pg::connect::connect(&connection, &options).await.unwrap().close().await;
    }
}

/// Secrets come before pipelines in the order of setting up.
#[tokio::test]
async fn a_project_without_a_folder_of_pipelines_is_checked_for_what_it_names() {
    let warehouse = Server::major(17).fresh_database("check_first").await;
    let yaml = "version: 1\nsecrets: [environment]\nwarehouse: {connection: wh}\n";
    let sankofa = Sankofa::new().file("sankofa.yaml", yaml).connection("wh", &warehouse);
    let told = sankofa.run(&["secrets", "check"]).await.succeeds().json();
    assert_eq!(told["secrets"][0]["id"], "wh", "{told}");
    sankofa.run(&["secrets", "policy", "--class", "rows"]).await.succeeds();
    // In a container the pipeline is no file: it is one of the project all the same.
    let inline = "{name: p, source: wh, schema: p, tables: {public.t: {mode: full_refresh}}}";
    let sankofa = sankofa.env("SANKOFA_PIPELINE", inline);
    let told = sankofa.run(&["secrets", "check"]).await.succeeds().json();
    assert!(told["secrets"].to_string().contains("source of p"), "{told}");
}
