//! What Airflow's own backend says to the same files (tests/it/secrets_vectors.rs asks it).

use super::*;
use crate::error::{Kind, classify};
use secrecy::ExposeSecret;

/// A place with one file for both, called `name`.
fn place(name: &str, text: &str) -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, Files { connections: Some(path.clone()), variables: Some(path) })
}

async fn host(name: &str, text: &str) -> Result<Option<String>, (Kind, String)> {
    let (_folder, files) = place(name, text);
    let found = files.connection("x").await.map_err(|error| {
        let failure = classify(&error);
        assert!(!failure.what.contains("MARK"), "{}", failure.what);
        (failure.kind, failure.what)
    })?;
    Ok(found.map(|answer| answer.value.host.unwrap()))
}

async fn variable(name: &str, text: &str) -> Result<Option<String>, Kind> {
    let (_folder, files) = place(name, text);
    let found = files.variable("x").await.map_err(|error| classify(&error).kind)?;
    Ok(found.map(|answer| answer.value.expose_secret().to_owned()))
}

#[tokio::test]
async fn a_connection_is_a_uri_or_fields_in_each_kind_of_file() {
    let fields = r#"{"x": {"conn_id": "x", "conn_type": "postgres", "host": "h", "port": "1"}}"#;
    for (name, text) in [
        ("c.yaml", "x: postgres://u:p@h/db\n"),
        ("c.yml", "x:\n  conn_type: postgres\n  host: h\n  extra_dejson: {sslmode: require}\n"),
        ("c.yaml", "x: [postgres://u:p@h/db]\n"),
        ("c.YAML", "\u{feff}x: postgres://u:p@h/db\n"),
        ("c.json", fields),
        ("c.json", r#"{"x": "postgres://a", "x": "postgres://h"}"#),
        ("c.env", "# a comment\n\n  # another\r\nx=postgres://u:p=q@h/db\r\ny=postgres://other"),
    ] {
        assert_eq!(host(name, text).await, Ok(Some("h".into())), "{name}: {text}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_left_to_the_next_place() {
    for (name, text) in
        [("c.yaml", "y: postgres://h\n"), ("c.json", "{}"), ("c.env", ""), ("c.yaml", "x: []")]
    {
        assert_eq!(host(name, text).await, Ok(None), "{name}: {text}");
    }
    let nothing = Files::default();
    assert!(
        nothing.connection("x").await.unwrap().is_none() && nothing.variable("x").await.unwrap().is_none()
    );
    assert_eq!(variable("v.yaml", "x: ~").await, Ok(None));
}

#[tokio::test]
async fn what_cannot_be_read_is_78_by_line_and_unquoted() {
    for (name, text, told) in [
        ("c.env", "x=postgres://h\nMARK\n", "line 2: there is no `=`"),
        ("c.env", "=MARK", "line 1: the id is empty"),
        ("c.env", "x=", "line 1: the value is empty"),
        ("c.env", "x=MARK\nx=MARK", "its id number 1 has several values"),
        ("c.env", "x=postgres://h\ny=MARK\ny=MARK", "its id number 2 has several values"),
        ("c.yaml", "x: postgres://h\ny: [MARK, MARK]", "its id number 2 has several values"),
        ("c.json", "{\"x\": MARK}", "line 1: it is not JSON"),
        ("c.yaml", "", "expected an id"),
        ("c.yaml", "- MARK\n", "expected an id"),
        ("c.yaml", "x: 5", "found a number"),
        ("c.yaml", "x: {host: h, MARK: 1}", "does not know key number 2"),
        ("c.yaml", "x: {conn_id: MARK}", "its conn_id is not the id"),
        ("c.yaml", "x: {extra: {}, extra_dejson: {}}", "stand beside each other"),
        ("c.txt", "x: MARK", "its name does not say"),
    ] {
        let (kind, what) = host(name, text).await.unwrap_err();
        assert!(kind == Kind::Config && what.contains(told), "{name} {text}: {what}");
    }
}

#[tokio::test]
async fn a_variable_is_a_text_or_a_number_as_it_is_written() {
    assert_eq!(variable("v.env", "x=a b =c ").await, Ok(Some("a b =c ".into())));
    assert_eq!(variable("v.yaml", "x: 0123").await, Ok(Some("0123".into())));
    assert_eq!(variable("v.yaml", "x: |\n  AGE-1\n").await, Ok(Some("AGE-1\n".into())));
    assert_eq!(variable("v.json", r#"{"x": 12}"#).await, Ok(Some("12".into())));
    assert_eq!(variable("v.json", r#"{"x": ""}"#).await, Ok(Some(String::new())));
    for wrong in [r#"{"x": [1]}"#, r#"{"x": {"y": 1}}"#, r#"{"x": true}"#] {
        assert_eq!(variable("v.json", wrong).await, Err(Kind::Config), "{wrong}");
    }
}

#[tokio::test]
async fn a_mounted_secret_is_read_through_its_links_and_anew_when_it_is_replaced() {
    let (folder, _) = place("unused.yaml", "");
    let at = |name: &str| folder.path().join(name);
    for (version, host) in [("..1", "one"), ("..2", "two")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("c.yaml"), format!("x: postgres://{host}")).unwrap();
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/c.yaml", at("c.yaml")).unwrap();
    let files = Files { connections: Some(at("c.yaml")), variables: None };
    let host = async || files.connection("x").await.unwrap().unwrap().value.host.unwrap();
    assert_eq!(host().await, "one");
    std::os::unix::fs::symlink("..2", at("..new")).unwrap();
    std::fs::rename(at("..new"), at("..data")).unwrap();
    assert_eq!(host().await, "two");
}

#[tokio::test]
async fn a_file_that_is_missing_or_a_directory_is_78_and_names_the_path() {
    let (folder, _) = place("c.yaml", "x: postgres://h");
    for path in ["none.yaml", "c.yaml/inside.yaml", "d.yaml"] {
        std::fs::create_dir_all(folder.path().join("d.yaml")).unwrap();
        let files = Files { connections: Some(folder.path().join(path)), variables: None };
        let failure = classify(&files.connection("x").await.unwrap_err());
        assert!(failure.kind == Kind::Config && failure.what.contains(path), "{}", failure.what);
    }
}
