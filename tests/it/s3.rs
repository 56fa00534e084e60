//! The S3 store against a real S3 server.
//!
//! Holds: what was fed comes back, whole and in ranges; a lost completion is not a lost object; what
//!        Object Lock protects is said to be protected.

use crate::support::*;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use sankofa::error::{Kind, classify};
use sankofa::secret::Connection;
use sankofa::store::retry::Pace;
use sankofa::store::s3::{S3, Tuning};
use sankofa::store::{Deleted, LockMode, Store, Terms, Version};
use std::ops::Range;
use std::time::Duration;

const BUCKET: &str = "school-backups";

fn impatient() -> Tuning {
    let pace = Pace { first: Duration::from_millis(10), longest: Duration::from_millis(50), tries: 4 };
    Tuning { pace, part_bytes: 5 << 20, idle: Duration::from_secs(5), ..Tuning::default() }
}

fn store(server: &S3Server, endpoint: &str, prefix: &str) -> S3 {
    let connection = Connection::parse("s3", &server.connection(endpoint)).unwrap();
    S3::open_tuned(&connection, BUCKET, Some(prefix), impatient()).unwrap()
}

/// Bytes that are alike nowhere.
fn bytes(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn put(store: &S3, name: &str, content: &Bytes, terms: &Terms) -> anyhow::Result<Version> {
    let mut upload = store.begin(name, terms).await?;
    for piece in content.chunks(700_001) {
        upload.feed(content.slice_ref(piece)).await?;
    }
    upload.finish().await
}

async fn read(store: &S3, version: &Version, range: Range<u64>) -> anyhow::Result<Bytes> {
    let mut stream = store.read(version, range).await?;
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole.into())
}

#[tokio::test]
async fn what_is_fed_comes_back_whole_and_in_ranges_from_one_part_or_several() {
    let Some(server) = S3Server::start().await else { return };
    server.bucket(BUCKET, false).await;
    let store = store(&server, &server.endpoint(), "prod");
    for (name, length) in [("empty", 0), ("small", 3), ("edge", 5 << 20), ("large/x", (11 << 20) + 17)] {
        let content = bytes(length, 7);
        let version = put(&store, name, &content, &Terms::default()).await.unwrap();
        assert_eq!((version.name.as_str(), version.bytes), (name, length as u64));
        let length = length as u64;
        assert!(read(&store, &version, 0..length).await.unwrap() == content, "{name}");
        if length > 10 {
            let range = read(&store, &version, length - 10..length + 5).await.unwrap();
            assert!(range == content.slice(content.len() - 10..), "{name}");
        }
    }
    let listed: Vec<String> = store.list("").await.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(listed, ["edge", "empty", "large/x", "small"]);
    assert_eq!(store.list("large/").await.unwrap().len(), 1);
}

#[tokio::test]
async fn each_version_of_a_name_is_listed_newest_first_read_and_deleted_by_itself() {
    let Some(server) = S3Server::start().await else { return };
    server.bucket(BUCKET, false).await;
    let store = store(&server, &server.endpoint(), "prod");
    for text in ["old", "newer"] {
        put(&store, "m.json", &Bytes::from(text), &Terms::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await; // S3's clock has no fractions
    }
    let versions = store.list("m").await.unwrap();
    assert_eq!(versions.iter().map(|version| version.bytes).collect::<Vec<_>>(), [5, 3]);
    assert_eq!(read(&store, &versions[1], 0..3).await.unwrap(), "old");
    assert_eq!(store.delete(&versions[0]).await.unwrap(), Deleted::Gone);
    let left = store.list("m").await.unwrap();
    assert_eq!(left.iter().map(|version| version.bytes).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_cancelled_upload_leaves_nothing_and_an_abandoned_one_is_swept_when_it_is_old() {
    let Some(server) = S3Server::start().await else { return };
    server.bucket(BUCKET, false).await;
    let store = store(&server, &server.endpoint(), "prod");
    let feed = async |name: &str| {
        let mut upload = store.begin(name, &Terms::default()).await.unwrap();
        upload.feed(bytes(11 << 20, 3)).await.unwrap();
        upload
    };
    feed("cancelled").await.cancel().await;
    drop(feed("abandoned").await);
    assert_eq!(store.list("").await.unwrap(), []);
    let day = SignedDuration::from_hours(24);
    assert_eq!(store.sweep("", Timestamp::now() - day).await.unwrap(), 0);
    assert_eq!(store.sweep("other/", Timestamp::now() + day).await.unwrap(), 0);
    assert_eq!(store.sweep("", Timestamp::now() + day).await.unwrap(), 1);
}

#[tokio::test]
async fn what_object_lock_protects_stays_and_is_said_to_be_protected() {
    let Some(server) = S3Server::start().await else { return };
    server.bucket(BUCKET, true).await;
    let store = store(&server, &server.endpoint(), "prod");
    let until = Timestamp::now() + SignedDuration::from_hours(24 * 30);
    let terms = Terms { lock_until: Some((until, LockMode::Compliance)) };
    for (name, length) in [("small", 9), ("large", 6 << 20)] {
        let version = put(&store, name, &bytes(length, 5), &terms).await.unwrap();
        let deleted = store.delete(&version).await.unwrap();
        let Deleted::Locked(Some(said)) = deleted else { panic!("{name}: {deleted:?}") };
        assert_eq!(said.as_second(), until.as_second(), "{name}");
    }
    assert!(store.set_default_lock(7, LockMode::Governance).await.unwrap());
    let rules = store.rules("").await.unwrap();
    assert_eq!((rules.can_lock, rules.default_lock), (true, Some((7, LockMode::Governance))));
}

#[tokio::test]
async fn a_wrong_key_a_wrong_bucket_and_a_store_that_is_away_are_three_kinds_of_failure() {
    let Some(server) = S3Server::start().await else { return };
    let kind = async |store: &S3| classify(&store.list("").await.unwrap_err());
    let missing = kind(&store(&server, &server.endpoint(), "prod")).await;
    assert_eq!(missing.kind, Kind::Config, "{missing}");
    let wrong = server.connection(&server.endpoint()).replace(PASSWORD, "MARK-of-a-wrong-key");
    let wrong = S3::open_tuned(&Connection::parse("s3", &wrong).unwrap(), BUCKET, None, impatient()).unwrap();
    let refused = kind(&wrong).await;
    assert_eq!(refused.kind, Kind::Permission, "{refused}");
    assert!(!format!("{refused:?}").contains("MARK"), "{refused:?}");
    let endpoint = server.endpoint();
    let away = store(&server, &endpoint, "prod");
    drop(server);
    assert_eq!(kind(&away).await.kind, Kind::Temporary);
}

/// The whole life of backups on a real S3 server, by the commands alone, with an Object Lock on what is stored.
#[tokio::test]
async fn every_command_about_backups_works_on_s3_and_what_is_locked_stays_and_is_told() {
    let Some(s3) = S3Server::start().await else { return };
    s3.bucket(BUCKET, true).await;
    let server = Server::new(17).start();
    let source = server.fresh_database("s3_hr").await;
    source
        .sql("CREATE TABLE t AS SELECT g AS id, repeat('x', 2000) AS v FROM generate_series(1, 5000) g")
        .await;
    let (identity, recipient) = crate::stored::key_pair();
    let yaml = format!(
        "version: 1\nsecrets: [environment]\ndrill: {{connection: drill_server}}\n\
         stores: {{off: {{s3: {{connection: offsite, bucket: {BUCKET}, prefix: prod}}}}}}\n\
         backups:\n  defaults: {{store: off, encrypt_to: [{recipient}], keep: {{days: 0, at_least: 1}}, lock: {{days: 1, mode: governance}}}}\n  \
         databases: {{hr: {{connection: src}}}}\n"
    );
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", yaml)
        .connection("src", &source)
        .connection_uri("offsite", &s3.connection(&s3.endpoint()))
        .connection_uri(
            "drill_server",
            &format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port()),
        )
        .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
        .env("SANKOFA_PG_BIN", &client_program(17, "pg_dump").parent().unwrap().display().to_string());
    sankofa.run(&["doctor", "--for", "backup"]).await.succeeds();
    let first = sankofa.run(&["backup", "hr"]).await.succeeds().json();
    source.sql("INSERT INTO t VALUES (5001, 'later')").await;
    sankofa.run(&["backup", "hr"]).await.succeeds();
    let listed = sankofa.run(&["backups", "list"]).await.succeeds().json();
    assert_eq!(listed["databases"][0]["good"], 2, "{listed}");
    let verified = sankofa.run(&["backups", "verify", "--all"]).await.succeeds().json();
    assert_eq!((&verified["verified"], &verified["rows"]), (&2.into(), &10_001.into()), "{verified}");
    let pruned = sankofa.run(&["backups", "prune"]).await;
    assert!(pruned.told().contains("lock"), "{}", pruned.told());
    let listed = sankofa.run(&["backups", "list"]).await.succeeds().json();
    assert_eq!(listed["databases"][0]["good"], 2, "a locked backup is gone: {listed}");
    let drill = sankofa.run(&["drill", "hr"]).await.succeeds().json();
    assert_eq!((&drill["proven"], &drill["rows"]), (&true.into(), &5001.into()), "{drill}");
    let id = first["backup"].as_str().unwrap();
    let back = ["restore", "hr", "--into", "drill_server", "--database", "s3_back", "--backup", id];
    sankofa.run(&back).await.succeeds();
    assert_eq!(Database::named(&server, "s3_back").value("SELECT count(*) FROM t").await, "5000");
    sankofa.run(&["status", "--for", "backup"]).await.succeeds();
}
