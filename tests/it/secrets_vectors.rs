//! Every vector of Airflow's own parser through every place; and Airflow's own backends on the same secrets.
//!
//! Holds: the same secret serves Airflow's hooks and us.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use sankofa::secret::aws::{Ambient, SecretsManager, Settings, Who};
use sankofa::secret::vault::Vault;
use sankofa::secret::{Connection, Environment, Files, Place, UnusableExtra};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::moto::{Moto, REGION};
use crate::support::vault::{ROOT, VaultServer};
use crate::support::*;
use crate::vault::settings;

struct Vector {
    id: String,
    kind: String,
    input: String,
    expect: Value,
}

fn vectors() -> Vec<Vector> {
    let all: Value = serde_json::from_str(include_str!("../fixtures/conn_vectors.json")).unwrap();
    let text = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
    let vector = |one: &Value| Vector {
        id: text(one, "id"),
        kind: text(one, "kind"),
        input: text(one, "input"),
        expect: one["expect"].clone(),
    };
    let found: Vec<Vector> = all["connections"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(found.len(), 80);
    found
}

/// A scalar by its text, since Airflow's own versions differ in types.
fn text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        Value::Array(list) => Value::Array(list.iter().map(text).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), text(v))).collect()),
        other => other.clone(),
    }
}

fn told(connection: &Connection) -> Value {
    let extra = match &connection.unusable_extra {
        None => Value::Object(connection.extra.clone()),
        Some(UnusableExtra::NotAnObject(value)) => value.clone(),
        Some(UnusableExtra::NotJson) => json!({"__invalid__": "JSONDecodeError"}),
    };
    json!({
        "conn_type": connection.conn_type, "login": connection.login,
        "password": connection.password().map(|p| p.expose_secret().to_string()),
        "host": connection.host, "port": connection.port, "schema": connection.schema,
        "description": connection.description, "extra": extra,
    })
}

/// Whether what `place` has under `id` is what is expected; else what it is.
async fn differs(place: &dyn Place, id: &str, expect: &Value) -> Option<String> {
    let found = place.connection(id).await;
    let fits = match (&found, expect.get("error")) {
        (Ok(Some(answer)), None) => text(&told(&answer.value)) == text(expect),
        (Err(_), Some(_)) => true,
        (Ok(None), Some(_)) => id.is_empty(),
        _ => false,
    };
    (!fits).then(|| format!("{id}: {:?} is not {expect}", found.map(|one| one.map(|one| told(&one.value)))))
}

/// What stands in a file: fields as fields, a URI as text.
fn in_file(vector: &Vector) -> Value {
    match serde_json::from_str::<Value>(&vector.input) {
        Ok(fields @ Value::Object(_)) if vector.kind == "json" => fields,
        _ => Value::String(vector.input.clone()),
    }
}

fn manager(prefix: &str, endpoint: &str) -> SecretsManager {
    let settings = Settings {
        connections: Some(prefix.into()),
        sep: "/".into(),
        endpoint_url: Some(endpoint.into()),
        who: Who { region: Some(REGION.into()), ..Who::default() },
        ..Settings::default()
    };
    SecretsManager::new(
        settings,
        Ambient::given([("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")]),
    )
}

/// Airflow's backend for AWS renames and drops keys of a JSON secret, and never sees a description.
fn is_renamed_by_aws(vector: &Vector) -> bool {
    const KNOWN: [&str; 7] = ["login", "password", "host", "port", "schema", "conn_type", "extra"];
    match serde_json::from_str::<Value>(&vector.input) {
        Ok(Value::Object(fields)) => !fields.keys().all(|key| KNOWN.contains(&key.as_str())),
        _ => false,
    }
}

#[tokio::test]
async fn every_vector_is_read_alike_from_the_environment_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for vector in vectors() {
        let environment = Environment::given([("AIRFLOW_CONN_X", vector.input.clone())]);
        if !vector.input.is_empty() {
            wrong.extend(
                differs(&environment, "x", &vector.expect)
                    .await
                    .map(|why| (vector.id.clone(), "environment", why)),
            );
        }
        let has_id = in_file(&vector).get("conn_id").is_some();
        for (name, value) in [("f.json", in_file(&vector)), ("t.json", Value::String(vector.input.clone()))] {
            let path = folder.path().join(name);
            std::fs::write(&path, json!({"x": value}).to_string()).unwrap();
            let files = Files { connections: Some(path), variables: None };
            let why = differs(&files, "x", &vector.expect).await;
            // Fields in a file may repeat the id that they stand under.
            wrong.extend(why.filter(|_| !has_id).map(|why| (vector.id.clone(), name, why)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn every_vector_is_read_alike_from_aws() {
    let Some(moto) = Moto::shared().await else { return };
    let place = manager("vectors", &moto.url());
    let mut wrong = Vec::new();
    for vector in vectors().iter().filter(|one| !one.input.is_empty() && !is_renamed_by_aws(one)) {
        moto.create(&format!("vectors/{}", vector.id), &vector.input).await;
        wrong.extend(differs(&place, &vector.id, &vector.expect).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where the class that Airflow's file backend makes (airflow-core's) differs from the Task SDK's, which a
/// task sees and we follow: vector, and what core does.
const CORE_DIFFERS: &[(&str, &str)] = &[
    ("dunder_extra_bad", "refuses extras that are not JSON"),
    ("dunder_extra_list", "refuses extras that are a list"),
    ("json_extra_bad_string", "refuses extras that are not JSON"),
    ("json_extra_list", "refuses extras that are a list"),
    ("extra_bool", "reads the extras of a URI as JSON values"),
    ("extra_json_value", "reads the extras of a URI as JSON values"),
    ("json_conn_type_dash", "leaves the type of fields as it is"),
    ("json_postgresql", "leaves the type of fields as it is"),
    ("json_login_number", "refuses a number as password"),
    ("json_port_float", "keeps a port of 5432.0"),
];

/// What Airflow's backends say, by place and vector.
fn airflows_own(folder: &std::path::Path, moto: &Moto, vault: [&str; 2], ids: &[String]) -> Option<Value> {
    let python = bed::folder().join("airflow-backends/bin/python");
    if !python.exists() {
        assert!(!bed::is_ci(), "no backends of Airflow: tests/testbed/airflow-backends.sh says why");
        eprintln!("\n!!! NOT TESTED: no backends of Airflow (tests/testbed/airflow-backends.sh)\n");
        return None;
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/airflow_backends.py");
    let mut command = Command::new(python);
    command
        .env_clear()
        .env("AIRFLOW_HOME", folder.join("home"))
        .env("HOME", folder)
        .env("PATH", "/usr/bin:/bin");
    command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    command.env("VAULT_ADDR", vault[0]).env("VAULT_MOUNT", vault[1]).env("VAULT_TOKEN", ROOT);
    command.arg(script).arg(folder).arg(moto.url()).arg("airflow");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starting Airflow");
    child.stdin.take().unwrap().write_all(ids.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(serde_json::from_str(said.lines().last().unwrap_or_default()).expect(&said))
}

/// Ours, as the script tells Airflow's.
async fn ours(place: &dyn Place, id: &str) -> Value {
    match place.connection(id).await {
        Ok(Some(answer)) => {
            let mut found = told(&answer.value);
            found.as_object_mut().unwrap().remove("description");
            if found["extra"].get("__invalid__").is_some() {
                found["extra"] = json!("no JSON");
            }
            found
        }
        Ok(None) => Value::Null,
        Err(_) => json!({"error": true}),
    }
}

#[tokio::test]
async fn airflows_own_backends_read_the_same_files_aws_and_vault_as_we_do() {
    let (Some(moto), Some(server)) = (Moto::shared().await, VaultServer::shared().await) else { return };
    let mount = server.kv(2).await;
    let folder = tempfile::tempdir().unwrap();
    let vectors = vectors();
    let usable: Vec<&Vector> = vectors.iter().filter(|one| !one.input.is_empty()).collect();
    for vector in &usable {
        moto.create(&format!("airflow/{}", vector.id), &vector.input).await;
        let uri = json!({"conn_uri": vector.input});
        server.write((&mount, 2), &format!("connections/{}", vector.id), uri).await;
        let path = folder.path().join(format!("{}.json", vector.id));
        std::fs::write(path, json!({"x": in_file(vector)}).to_string()).unwrap();
    }
    let ids: Vec<String> = usable.iter().map(|one| one.id.clone()).collect();
    let (at, all, place) = (folder.path().to_owned(), ids.clone(), [server.address.clone(), mount.clone()]);
    let asked = move || airflows_own(&at, &moto, [&place[0], &place[1]], &all);
    let Some(theirs) = tokio::task::spawn_blocking(asked).await.unwrap() else { return };
    let aws = manager("airflow", &moto.url());
    let vault = Vault::new(settings(&server.address, &mount, 2, ROOT)).unwrap();
    let mut wrong = BTreeMap::new();
    for id in &ids {
        let files = Files { connections: Some(folder.path().join(format!("{id}.json"))), variables: None };
        let found = [
            ("files", ours(&files, "x").await),
            ("aws", ours(&aws, id).await),
            ("vault", ours(&vault, id).await),
        ];
        for (which, ours) in found {
            let theirs = &theirs[which][id];
            let fits = ours.get("error").is_some() && theirs.get("error").is_some();
            let is_known = which == "files" && CORE_DIFFERS.iter().any(|(known, _)| known == id);
            let is_equal = fits || text(&ours) == text(theirs);
            if is_equal == is_known {
                wrong.insert(format!("{id} {which}"), format!("\nours   {ours}\ntheirs {theirs}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}",
        wrong.iter().map(|(id, why)| format!("{id}:{why}\n")).collect::<String>()
    );
}
