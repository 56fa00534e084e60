//! `backups` and `doctor` on a bucket, with keys that may do too little and keys in wrong hands.

use super::backups::{hr, list};
use crate::support::b2::{B2 as StandIn, BucketOptions, Key, KeySpec};
use crate::support::*;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sankofa::secret::Connection;
use sankofa::store::b2::B2;
use sankofa::store::{LockMode, Store, Terms};
use serde_json::{Value, json};
use std::time::Duration;

const BUCKET: &str = "school-backups";
const PROJECT: &str = "version: 1
secrets: [environment]
warehouse: {connection: wh}
stores: {off: {b2: {connection: offsite, bucket: school-backups, prefix: prod}}}
backups:
  defaults: {store: off, encrypt_to: [age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg], keep: {days: 0, at_least: 1}}
  databases: {hr: {connection: hr_db, prune_connection: pruner}}
";

/// A bucket, and a project that backs up to it.
struct Bench {
    b2: StandIn,
    sankofa: Sankofa,
}

impl Bench {
    /// The key that backs up may not delete; that of prune may not read.
    fn new(options: BucketOptions) -> Bench {
        let b2 = StandIn::start();
        b2.bucket(BUCKET, options);
        let (own, prune) = (b2.key(KeySpec::all().without("deleteFiles")), b2.key(KeySpec::new(&PRUNE)));
        let sankofa = Sankofa::new().file("sankofa.yaml", PROJECT);
        let sankofa = sankofa.connection_uri("offsite", &b2.connection_uri(&own));
        let sankofa = sankofa.connection_uri("pruner", &b2.connection_uri(&prune));
        Bench { b2, sankofa }
    }

    /// Puts a backup there; its folder.
    fn put(&self, hours: i64) -> String {
        let (folder, objects) = hr(hours).objects(Timestamp::now() - SignedDuration::from_hours(hours));
        for (name, bytes) in objects {
            self.b2.put(BUCKET, &format!("prod/{folder}/{name}"), &bytes);
        }
        folder
    }

    fn of(&self, folder: &str) -> usize {
        let prefix = format!("prod/{folder}/");
        self.b2.versions(BUCKET).iter().filter(|version| version.name.starts_with(&prefix)).count()
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.sankofa.run(&[&["backups"], args].concat()).await
    }
}

const PRUNE: [&str; 3] = ["listFiles", "listBuckets", "deleteFiles"];

#[tokio::test]
async fn a_key_that_hides_files_and_uploads_newer_manifests_cannot_undo_a_backup() {
    let bench = Bench::new(BucketOptions::default());
    let (old, new) = (bench.put(30), bench.put(1));
    bench.b2.advance(Duration::from_secs(60));
    let other = b"{\"schema\": 1, \"kind\": \"database\"}";
    bench.b2.put(BUCKET, &format!("prod/{new}/manifest.json"), other);
    bench.b2.put(BUCKET, &format!("prod/{new}/dump.pgc.zst.age"), b"nothing of worth");
    bench.b2.hide(BUCKET, &format!("prod/{old}/manifest.json"));
    bench.b2.hide(BUCKET, &format!("prod/{old}/dump.pgc.zst.age"));
    let result = bench.run(&["list"]).await.succeeds().json();
    let states: Vec<&Value> = list(&result, "backups").iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["good", "good"]);
    let warnings = result["warnings"].to_string();
    for part in ["1 newer version(s) of its manifest are ignored", "dump.pgc.zst.age is hidden by a marker"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let result = bench.run(&["verify", "--all"]).await.succeeds().json();
    assert_eq!((&result["verified"], &result["damaged"]), (&json!(2), &json!(0)));
    bench.b2.damage(BUCKET, &format!("prod/{old}/proof.age"), |bytes| bytes[0] ^= 1);
    bench.run(&["verify", "--all"]).await.exits(65);
}

#[tokio::test]
async fn prune_deletes_every_version_with_its_own_key_and_keeps_what_is_locked() {
    let bench = Bench::new(BucketOptions { has_lock: true, ..BucketOptions::default() });
    let (oldest, old, new) = (bench.put(60), bench.put(30), bench.put(1));
    bench.b2.advance(Duration::from_secs(60));
    bench.b2.put(BUCKET, &format!("prod/{oldest}/manifest.json"), b"{}");
    bench.b2.hide(BUCKET, &format!("prod/{oldest}/manifest.json"));
    let (locked, objects) = hr(90).objects(Timestamp::now() - SignedDuration::from_hours(90));
    let store = open(&bench.b2, &bench.b2.key(KeySpec::all()));
    let until = Timestamp::now() + SignedDuration::from_hours(100);
    for (name, bytes) in objects {
        let terms = Terms { lock_until: Some((until, LockMode::Compliance)) };
        let mut upload = store.begin(&format!("{locked}/{name}"), &terms).await.unwrap();
        upload.feed(Bytes::from(bytes)).await.unwrap();
        upload.finish().await.unwrap();
    }
    bench.b2.put(BUCKET, "prod/hr/mine.txt", b"hands off");
    bench.b2.put(BUCKET, "elsewhere/hr/mine.txt", b"hands off");
    let before = bench.b2.versions(BUCKET).len();

    let without = bench.sankofa.run(&["backups", "prune", "--dry-run"]).await.succeeds().json();
    assert_eq!(bench.b2.versions(BUCKET).len(), before);
    let result = bench.run(&["prune"]).await.succeeds().json();
    assert_eq!(result["bytes_freed"], without["bytes_freed"]);
    assert_eq!([&oldest, &old, &new, &locked].map(|folder| bench.of(folder)), [0, 0, 3, 3]);
    assert_eq!(bench.b2.versions(BUCKET).len(), 3 + 3 + 2);
    assert!(bench.b2.seen().iter().filter(|call| call.call == "b2_hide_file").count() == 0);
}

fn open(b2: &StandIn, key: &Key) -> B2 {
    let connection = Connection::parse("offsite", &b2.connection_uri(key)).unwrap();
    B2::open(&connection, BUCKET, Some("prod")).unwrap()
}

#[tokio::test]
async fn prune_with_a_key_that_may_not_delete_is_77_and_deletes_nothing() {
    let bench = Bench::new(BucketOptions::default());
    bench.put(30);
    bench.put(1);
    bench.sankofa.write("sankofa.yaml", PROJECT.replace(", prune_connection: pruner", ""));
    let done = bench.run(&["prune"]).await.exits(77);
    assert!(done.stderr.contains("deleteFiles"), "{}", done.told());
    assert_eq!(bench.b2.versions(BUCKET).len(), 6);
}

#[tokio::test]
async fn doctor_finds_a_rule_that_would_remove_the_last_good_backup_and_mends_it_when_asked() {
    let rule = json!([{"fileNamePrefix": "prod/", "daysFromUploadingToHiding": 30,
        "daysFromHidingToDeleting": 1, "daysFromStartingToCancelingUnfinishedLargeFiles": null}]);
    let mut bench = Bench::new(BucketOptions { lifecycle: rule, ..BucketOptions::default() });
    let source = Server::major(16).fresh_database("rules").await;
    let programs = client_program(16, "pg_dump");
    bench.sankofa = bench.sankofa.connection("hr_db", &source);
    bench.sankofa = bench.sankofa.env("SANKOFA_PG_BIN", programs.parent().unwrap().to_str().unwrap());
    let doctor = ["doctor", "--for", "backup"];
    let done = bench.sankofa.run(&doctor).await.exits(78);
    assert!(done.stderr.contains("a rule hides or deletes what is 30 days old"), "{}", done.told());
    bench.sankofa.run(&["doctor", "--for", "backup", "--fix"]).await.succeeds();
    let findings = bench.sankofa.run(&doctor).await.succeeds().json()["findings"].to_string();
    for part in ["no rule hides", "dropped after 1 day", "hidden versions are deleted after 7 days"] {
        assert!(findings.contains(part), "{part}: {findings}");
    }
    assert_eq!(bench.b2.versions(BUCKET).len() + bench.b2.unfinished(BUCKET).len(), 0);
}
