//! A real Vault is asked for connections and variables, as Airflow's own VaultBackend would.

use crate::support::vault::{ROOT, StandIn, VaultServer};
use crate::support::*;
use sankofa::error::{Failure, classify};
use sankofa::secret::vault::{Auth, Kv, Settings, Vault};
use sankofa::secret::{Connection, Environment, Resolver};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A file with this text, which is kept to the end of the tests.
pub fn file(text: &str) -> PathBuf {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// How Vault at `address` is asked with the token in a file.
pub fn settings(address: &str, mount: &str, kv: u8, token: &str) -> Settings {
    Settings {
        address: address.to_owned(),
        mount: Some(mount.to_owned()),
        connections: vec!["connections".into()],
        variables: vec!["variables".into()],
        kv: if kv == 1 { Kv::One } else { Kv::Two },
        namespace: None,
        ca_cert: None,
        client_cert: None,
        auth: Auth::Token { file: Some(file(token)) },
        dynamic: Default::default(),
        timeout: Duration::from_secs(10),
    }
}

pub fn resolver(settings: Settings) -> Resolver {
    Resolver::new(vec![Arc::new(Vault::new(settings).unwrap())])
}

/// What asking for connection `id` ends with.
pub async fn failure(resolver: &Resolver, id: &str) -> Failure {
    classify(&resolver.connection(id).await.expect_err("a failure"))
}

fn vectors(text: &str, of: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(text).unwrap();
    all[of].as_array().unwrap().clone()
}

/// Scalars by their text, since Airflow's own versions differ in types.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        Value::Array(list) => Value::Array(list.iter().map(as_text).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), as_text(value))).collect())
        }
        other => other.clone(),
    }
}

fn fields(connection: &Connection) -> Value {
    json!({
        "conn_type": connection.conn_type, "login": connection.login, "host": connection.host,
        "password": connection.password().map(|password| password.expose_secret().to_owned()),
        "port": connection.port, "schema": connection.schema, "extra": connection.extra,
    })
}

/// What differs between a connection and what Airflow makes of the same secret.
fn differs(found: anyhow::Result<Connection>, expect: &Value) -> Option<String> {
    let found = match (found, expect.get("error")) {
        (Err(_), Some(_)) => return None,
        (Err(error), None) => return Some(format!("{error:#}")),
        (Ok(_), Some(error)) => return Some(format!("read, and Airflow says {error}")),
        (Ok(found), None) => found,
    };
    if found.unusable_extra.is_some() {
        return None; // grammar's own tests look at these
    }
    let found = as_text(&fields(&found));
    let is_equal = found.as_object().unwrap().iter().all(|(key, value)| as_text(&expect[key]) == *value);
    (!is_equal).then(|| format!("{found} instead of {expect}"))
}

#[tokio::test]
async fn every_vector_of_airflow_is_read_from_both_versions_of_the_engine() {
    let Some(server) = VaultServer::shared().await else { return };
    let shapes = vectors(include_str!("../fixtures/vault_vectors.json"), "vault");
    let texts = vectors(include_str!("../fixtures/conn_vectors.json"), "connections");
    for kv in [1, 2] {
        let mount = server.kv(kv).await;
        let asked = resolver(settings(&server.address, &mount, kv, ROOT));
        let mut wrong = Vec::new();
        for vector in &shapes {
            let id = vector["id"].as_str().unwrap();
            // Version 1 does not keep a secret without fields.
            if kv == 1 && vector["secret"] == json!({}) {
                continue;
            }
            server.write((&mount, kv), &format!("connections/{id}"), vector["secret"].clone()).await;
            let found = asked.connection(id).await;
            wrong.extend(differs(found, &vector["expect"]).map(|why| format!("KV {kv}, {id}: {why}")));
        }
        for vector in &texts {
            let (id, input) = (vector["id"].as_str().unwrap(), &vector["input"]);
            // An empty URI is no URI: then the other fields count, of which there are none.
            let Some(input) = input.as_str().filter(|input| !input.is_empty()) else { continue };
            server.write((&mount, kv), &format!("connections/v/{id}"), json!({ "conn_uri": input })).await;
            let found = asked.connection(&format!("v/{id}")).await;
            wrong.extend(differs(found, &vector["expect"]).map(|why| format!("KV {kv}, {id}: {why}")));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn variables_paths_and_mounts_are_those_of_airflow() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    server.write((&mount, 2), "shared/db", json!({"conn_uri": "postgres://second/x"})).await;
    server.write((&mount, 2), "variables/mask_key", json!({"value": "a key"})).await;
    server.write((&mount, 2), "bare", json!({"conn_uri": "postgres://bare/x"})).await;
    let mut wanted = settings(&server.address, &mount, 2, ROOT);
    wanted.connections = vec!["connections".into(), "shared".into(), String::new()];
    let asked = resolver(wanted.clone());
    assert_eq!(asked.connection("db").await.unwrap().host.as_deref(), Some("second"));
    assert_eq!(asked.connection("bare").await.unwrap().host.as_deref(), Some("bare"));
    assert_eq!(asked.variable("mask_key").await.unwrap().expose_secret(), "a key");
    let (answer, place) = asked.variable_told("mask_key").await.unwrap();
    assert_eq!(
        (answer.kind, place),
        (format!("KV 2, version 1 of {mount}/variables/mask_key"), format!("Vault at {}", server.address))
    );
    wanted.mount = None;
    wanted.connections = vec!["shared".into()];
    let asked = resolver(wanted);
    assert_eq!(asked.connection(&format!("{mount}/db")).await.unwrap().host.as_deref(), Some("second"));
    for elsewhere in ["db", "no_such_mount/db"] {
        assert!(failure(&asked, elsewhere).await.what.contains("not found in Vault"), "{elsewhere}");
    }
}

/// As in airflow.cfg: one path or several, with the names of environments in them.
#[tokio::test]
async fn paths_may_name_variables_of_the_process() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, database) = (server.kv(2).await, Server::major(17).fresh_database("vault_env").await);
    let secret = json!({"conn_uri": database.connection_uri()});
    server.write((&mount, 2), "prod/accra/connections/warehouse", secret).await;
    let more = format!(
        "mount: {mount}, connections: [shared, \"${{STAGE}}/${{SCHOOL:-accra}}/connections\"], auth: {{token: {{}}}}"
    );
    let sankofa = project(&server, &more).env("VAULT_TOKEN", &server.root).env("STAGE", "prod");
    sankofa.run(&["warehouse", "init"]).await.succeeds();
    let run = sankofa.env("STAGE", "dev").run(&["warehouse", "init"]).await.exits(77);
    assert!(run.stderr.contains("not found in Vault"), "{}", run.told());
}

#[tokio::test]
async fn a_deleted_or_destroyed_version_is_77_and_never_asked_of_the_next_place() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    for id in ["deleted", "destroyed", "rewritten"] {
        server
            .write((&mount, 2), &format!("connections/{id}"), json!({"conn_uri": "postgres://old/x"}))
            .await;
    }
    server.delete(&format!("{mount}/data/connections/deleted")).await;
    server.put(&format!("{mount}/destroy/connections/destroyed"), json!({"versions": [1]})).await;
    server.delete(&format!("{mount}/data/connections/rewritten")).await;
    server.write((&mount, 2), "connections/rewritten", json!({"conn_uri": "postgres://new/x"})).await;
    let next =
        ["DELETED", "DESTROYED", "MISSING"].map(|id| (format!("AIRFLOW_CONN_{id}"), "postgres://next/x"));
    let vault = Vault::new(settings(&server.address, &mount, 2, ROOT)).unwrap();
    let asked = Resolver::new(vec![Arc::new(vault), Arc::new(Environment::given(next))]);
    for id in ["deleted", "destroyed"] {
        let failure = failure(&asked, id).await;
        assert_eq!(failure.kind.exit_code(), 77, "{}", failure.what);
        let said = format!(
            "cannot read {mount}/data/connections/{id} from Vault at {}: version 1 was {id}",
            server.address
        );
        assert_eq!(failure.what, said);
    }
    assert_eq!(asked.connection("rewritten").await.unwrap().host.as_deref(), Some("new"));
    assert_eq!(asked.connection("missing").await.unwrap().host.as_deref(), Some("next"));
}

#[tokio::test]
async fn what_a_policy_forbids_is_77_and_names_the_line_that_it_lacks() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    server.write((&mount, 2), "connections/hr_db", json!({"conn_uri": "postgres://h/x"})).await;
    let policy = server
        .policy(&format!("path \"{mount}/data/connections/hr_db\" {{ capabilities = [\"read\"] }}"))
        .await;
    let token = server.token(&[&policy], "1h", "1h").await;
    let next = Environment::given([("AIRFLOW_CONN_OTHER", "postgres://next/x")]);
    let vault = Vault::new(settings(&server.address, &mount, 2, &token)).unwrap();
    let asked = Resolver::new(vec![Arc::new(vault), Arc::new(next)]);
    asked.connection("hr_db").await.unwrap();
    let failure = failure(&asked, "other").await;
    assert_eq!(failure.kind.exit_code(), 77);
    assert!(failure.what.ends_with("permission denied (403)"), "{}", failure.what);
    let hint = failure.hint.unwrap();
    assert!(
        hint.contains(&format!("path \"{mount}/data/connections/other\" {{ capabilities = [\"read\"] }}")),
        "{hint}"
    );
    assert!(hint.contains("nomad/policies"), "{hint}");
}

#[tokio::test]
async fn a_wrong_version_or_mount_is_78_and_says_so() {
    let Some(server) = VaultServer::shared().await else { return };
    let (one, two) = (server.kv(1).await, server.kv(2).await);
    server.write((&two, 2), "connections/a", json!({"conn_uri": "postgres://h/x"})).await;
    server.write((&one, 1), "data/connections/a", json!({"conn_uri": "postgres://h/x"})).await;
    let nowhere = failure(&resolver(settings(&server.address, "nowhere", 2, ROOT)), "a").await;
    assert_eq!(nowhere.kind.exit_code(), 78, "{}", nowhere.what);
    assert!(nowhere.what.ends_with("nothing is mounted at nowhere"), "{}", nowhere.what);
    let as_one = failure(&resolver(settings(&server.address, &two, 1, ROOT)), "a").await;
    assert_eq!(as_one.kind.exit_code(), 78, "{}", as_one.what);
    let as_two = failure(&resolver(settings(&server.address, &one, 2, ROOT)), "a").await;
    assert_eq!(as_two.kind.exit_code(), 78, "{}", as_two.what);
    assert!(as_two.hint.unwrap().contains("kv: 1"));
}

#[tokio::test]
async fn odd_ids_are_read_from_their_own_path_or_refused() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    server.write((&mount, 2), "variables/x", json!({"value": "other"})).await;
    let asked = resolver(settings(&server.address, &mount, 2, ROOT));
    for (at, id) in ["a/b", "a.b", "..a", "a:b", "a#b", "a!b", "a(b)", "é", "数", "a\\b", "data/x"]
        .into_iter()
        .enumerate()
    {
        let path: Vec<String> = format!("connections/{id}")
            .split('/')
            .map(|part| {
                percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
            })
            .collect();
        let uri = format!("postgres://host{at}/x");
        server.put(&format!("{mount}/data/{}", path.join("/")), json!({"data": {"conn_uri": uri}})).await;
        let found = asked.connection(id).await.unwrap_or_else(|why| panic!("{id}: {why:#}"));
        assert_eq!(found.host, Some(format!("host{at}")), "{id}");
    }
    for id in [
        "..",
        "../variables/x",
        "a/../../variables/x",
        "./a",
        "a//b",
        "/a",
        "a/",
        "%2e%2e/x",
        "a?b",
        "a b",
        "a%2fb",
        "a\nb",
    ] {
        assert_eq!(failure(&asked, id).await.kind.exit_code(), 78, "{id:?}");
    }
}

#[tokio::test]
async fn secrets_of_the_wrong_shape_are_78_and_no_value_is_quoted() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    let asked = resolver(settings(&server.address, &mount, 2, ROOT));
    let shapes = [
        json!({"conn_uri": ["MARK"]}),
        json!({"conn_uri": {"a": "MARK"}}),
        json!({"conn_uri": 4711}),
        json!({"host": ["MARK"], "conn_type": "postgres"}),
        json!({"MARK": "MARK"}),
        json!({"conn_uri": "postgres://u:MA/RK@h/db"}),
    ];
    for (at, shape) in shapes.into_iter().enumerate() {
        server.write((&mount, 2), &format!("connections/s{at}"), shape).await;
        let failure = failure(&asked, &format!("s{at}")).await;
        assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
        assert!(!format!("{failure:?}").contains("MA"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_namespace_is_sent_as_a_header_and_so_is_the_word_that_no_cache_answers() {
    let stand_in =
        StandIn::start(|_, _| crate::support::vault::Reply::Json(404, json!({"errors": []}))).await;
    let mut wanted = settings(&stand_in.address, "kv", 2, "hvs.MARK");
    wanted.namespace = Some("school/it".into());
    assert!(failure(&resolver(wanted), "a").await.what.contains("not found"));
    let asked = stand_in.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with("get /v1/kv/data/connections/a http/1.1"), "{}", asked[0]);
    assert!(
        asked[0].contains("x-vault-namespace: school/it") && asked[0].contains("x-vault-request: true"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("x-vault-token: hvs.mark"), "{}", asked[0]);
}

/// A project whose source, warehouse and stage come from Vault alone.
pub fn project(server: &VaultServer, keys: &str) -> Sankofa {
    let yaml = format!(
        "version: 1\nsecrets: [{{vault: {{address: \"{}\", {keys}}}}}]\n\
         stores: {{stage: {{directory: stage}}}}\nwarehouse: {{connection: warehouse}}\nstage: {{store: stage}}\n",
        server.address
    );
    Sankofa::new().file("sankofa.yaml", yaml)
}

#[tokio::test]
async fn a_pipeline_runs_on_vault_alone_and_leaves_no_token_behind() {
    let Some(server) = VaultServer::shared().await else { return };
    let postgres = Server::major(17);
    let (source, warehouse) =
        (postgres.fresh_database("vault_src").await, postgres.fresh_database("vault_dwh").await);
    source.sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 10)").await;
    let mount = server.kv(2).await;
    for (id, uri) in [("src", source.connection_uri()), ("warehouse", warehouse.connection_uri())] {
        server.write((&mount, 2), &format!("connections/{id}"), json!({ "conn_uri": uri })).await;
    }
    let policy = format!(
        "path \"{mount}/data/connections/*\" {{ capabilities = [\"read\"] }}\n\
         path \"auth/token/revoke-self\" {{ capabilities = [\"update\"] }}"
    );
    let approle = server.approle(&policy, json!({})).await;
    let secret_id = server.secret_id(&approle).await;
    let auth = format!(
        "auth: {{approle: {{role_id: \"{}\", secret_id_file: id, mount: {}}}}}",
        approle.role_id, approle.mount
    );
    let sankofa = project(&server, &format!("mount: {mount}, {auth}"))
        .file("id", format!("{secret_id}\n"))
        .file("pipelines/p.yaml", "source: src\nschema: p\ntables: {public.a: {mode: full_refresh}}\n");
    sankofa.run(&["warehouse", "init"]).await.succeeds();
    let run = sankofa.run(&["sync", "p", "-v"]).await.succeeds();
    assert_eq!(warehouse.value("SELECT count(*) FROM p.a").await, "10");
    assert!(run.stderr.contains("gave the token back to Vault"), "{}", run.told());
    assert!(!run.stderr.contains(&secret_id) && !run.stderr.contains("hvs."), "{}", run.told());
    assert_eq!(accessors_with(&server, &approle.policy).await, 0);
}

/// How many tokens have this policy.
pub async fn accessors_with(server: &VaultServer, policy: &str) -> usize {
    let (_, all) = server.ask("LIST", "auth/token/accessors", &server.root, None).await;
    let mut count = 0;
    for accessor in all["data"]["keys"].as_array().into_iter().flatten() {
        let body = json!({ "accessor": accessor });
        let (_, found) = server.ask("PUT", "auth/token/lookup-accessor", &server.root, Some(body)).await;
        let has = found["data"]["policies"].as_array().is_some_and(|list| list.contains(&json!(policy)));
        count += usize::from(has);
    }
    count
}
