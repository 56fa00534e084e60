//! Also what other tests make their hand-made backups with.

use super::*;
use crate::backup::manifest::{Codec, Counts, Source};
use crate::store::Terms;
use crate::store::directory::Directory;
use bytes::Bytes;
use tempfile::TempDir;

/// A manifest as `backup` would write it, of an archive of `bytes` bytes and a proof of 5.
pub fn manifest(kind: Kind, name: &str, started_at: Timestamp, bytes: u64) -> Manifest {
    let object = |name: &str, bytes| Object {
        name: name.into(),
        plain_bytes: bytes * 3,
        plain_sha256: "00".repeat(32),
        stored_bytes: bytes,
        stored_sha256: "00".repeat(32),
    };
    let of_database = kind == Kind::Database;
    Manifest {
        schema: SCHEMA,
        kind,
        environment: "default".into(),
        database: name.into(),
        id: names::id(started_at, "0a1b2c3d"),
        run_id: "run".into(),
        started_at,
        finished_at: started_at,
        sankofa: "0.1.0".into(),
        source: Source {
            system_identifier: "7".into(),
            database_oid: of_database.then_some(16_384),
            server_version: "17.10".into(),
            pg_dump_version: "17.10".into(),
            encoding: "UTF8".into(),
            database_bytes: 1,
            standby: false,
        },
        object: object(if of_database { "dump.pgc.zstd.age" } else { "globals.sql.age" }, bytes),
        proof: of_database.then(|| object(PROOF, 5)),
        globals: None,
        codec: Codec::Zstd,
        recipients: vec!["age1fake".into()],
        settings: BTreeMap::new(),
        counts: Counts { tables: 1, rows: 10, large_objects: 0, entries: 3 },
        warnings: BTreeMap::new(),
        left_out: BTreeMap::new(),
        timings_ms: BTreeMap::new(),
    }
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub async fn put(store: &dyn Store, name: &str, text: &[u8]) {
    let mut upload = store.begin(name, &Terms::default()).await.unwrap();
    upload.feed(Bytes::copy_from_slice(text)).await.unwrap();
    upload.finish().await.unwrap();
}

/// Stores a whole backup of the manifest's lengths.
pub async fn store_backup(store: &dyn Store, manifest: &Manifest) -> String {
    let folder = format!("{}{}/", names::home(manifest.kind, &manifest.database), manifest.id);
    for object in std::iter::once(&manifest.object).chain(&manifest.proof) {
        let bytes = vec![b'x'; object.stored_bytes as usize];
        put(store, &format!("{folder}{}", object.name), &bytes).await;
    }
    put(store, &format!("{folder}{MANIFEST}"), &serde_json::to_vec(manifest).unwrap()).await;
    folder
}

fn version(name: &str, bytes: u64, stored_at: &str) -> Version {
    let stored_at = time(stored_at);
    Version { name: name.into(), id: String::new(), bytes, stored_at, is_marker: false, locked_until: None }
}

const FOLDER: &str = "hr/20261101T000000Z-0a1b2c3d";

/// One folder of the given objects, judged with `manifest`.
fn judged(objects: &[(&str, u64)], manifest: &Manifest) -> Inventory {
    let mut listed = vec![version(&format!("{FOLDER}/{MANIFEST}"), 9, "2026-11-01T00:01:00Z")];
    let object =
        |(name, bytes): &(&str, u64)| version(&format!("{FOLDER}/{name}"), *bytes, "2026-11-01T00:00:30Z");
    listed.extend(objects.iter().map(object));
    let mut inventory = Inventory::default();
    for folder in sort(listed).folders {
        judge(folder, Some(Ok(serde_json::to_vec(manifest).unwrap())), "default", &mut inventory);
    }
    inventory
}

fn hr() -> Manifest {
    manifest(Kind::Database, "hr", time("2026-11-01T00:00:00Z"), 100)
}

const DUMP: &str = "dump.pgc.zstd.age";

#[test]
fn a_backup_is_good_when_every_object_is_listed_in_its_length() {
    let state = |objects: &[(&str, u64)]| judged(objects, &hr()).backups[0].state.clone();
    assert_eq!(state(&[(DUMP, 100), (PROOF, 5)]), State::Good);
    assert_eq!(state(&[(DUMP, 100)]), State::Incomplete("proof.age is missing".into()));
    let short = "dump.pgc.zstd.age has 99 bytes instead of 100, proof.age is missing";
    assert_eq!(state(&[(DUMP, 99)]), State::Incomplete(short.into()));
    let other = Manifest { environment: "dev".into(), ..hr() };
    assert_eq!(
        judged(&[(DUMP, 100), (PROOF, 5)], &other).backups[0].state,
        State::OfEnvironment("dev".into())
    );
}

#[test]
fn a_manifest_that_lies_about_its_place_is_no_backup() {
    let elsewhere = Manifest { database: "other".into(), ..hr() };
    let renamed = Manifest { id: names::id(time("2026-11-01T00:00:00Z"), "ffff"), ..hr() };
    let escaping = Manifest { object: Object { name: "../x".into(), ..hr().object }, ..hr() };
    let crossed = Manifest { object: Object { name: PROOF.into(), ..hr().object }, ..hr() };
    for lying in [elsewhere, renamed, escaping, crossed] {
        let found = judged(&[(DUMP, 100), (PROOF, 5)], &lying);
        assert_eq!((found.backups.len(), found.unreadable.len()), (0, 1), "{:?}", found.unreadable);
    }
}

#[test]
fn a_manifest_of_a_newer_program_is_told_apart_from_a_damaged_one() {
    let mut newer = serde_json::to_value(hr()).unwrap();
    newer["schema"] = 9.into();
    newer["codec"] = "brotli".into();
    let newer = parse(newer.to_string().as_bytes()).unwrap_err();
    assert_eq!(newer, "its manifest has schema 9, and this sankofa reads up to 1");
    for damaged in ["", "{", "[]", r#"{"schema": 1}"#, r#"{"schema": "1"}"#, r#"{"schema": 0}"#] {
        let why = parse(damaged.as_bytes()).unwrap_err();
        assert!(why.starts_with("its manifest ") && !why.contains("up to"), "{damaged}: {why}");
    }
}

#[test]
fn the_oldest_manifest_and_the_oldest_object_of_its_length_count_and_markers_are_ignored() {
    let name = |file: &str| format!("{FOLDER}/{file}");
    let marker = Version { is_marker: true, ..version(&name(MANIFEST), 0, "2026-11-04T00:00:00Z") };
    let listed = vec![
        Version { id: "late".into(), ..version(&name(DUMP), 100, "2026-11-03T00:00:00Z") },
        Version { id: "first".into(), ..version(&name(DUMP), 100, "2026-11-02T00:00:00Z") },
        Version { id: "cut".into(), ..version(&name(DUMP), 7, "2026-11-01T00:00:00Z") },
        marker,
        Version { id: "late".into(), ..version(&name(MANIFEST), 9, "2026-11-03T00:00:00Z") },
        Version { id: "first".into(), ..version(&name(MANIFEST), 8, "2026-11-02T00:00:00Z") },
        version(&name(PROOF), 5, "2026-11-02T00:00:00Z"),
    ];
    let folder = sort(listed).folders.remove(0);
    assert_eq!(folder.oldest_manifest().unwrap().id, "first");
    let mut inventory = Inventory::default();
    judge(folder, Some(Ok(serde_json::to_vec(&hr()).unwrap())), "default", &mut inventory);
    assert!(inventory.backups[0].is_good());
    assert_eq!(inventory.backups[0].archive.as_ref().unwrap().id, "first");
    assert_eq!(inventory.backups[0].stored_at, time("2026-11-02T00:00:00Z"));
    let notes: Vec<&str> = inventory.notes.iter().map(|(_, note)| note.as_str()).collect();
    let expected = [
        "1 newer version(s) of its manifest are ignored: somebody has written over it",
        "manifest.json is hidden by a marker, which is ignored",
    ];
    assert_eq!(notes, expected);
}

#[test]
fn what_is_not_named_like_ours_is_foreign() {
    let ours = ["hr/20261101T000000Z-1/manifest.json", "_servers/a/20261101T000000Z-1/globals.sql.age"];
    let foreign = [
        "manifest.json",
        "hr/manifest.json",
        "hr/notes/manifest.json",
        "hr/20261101T000000Z-1/notes.txt",
        "hr/20261101T000000Z-1/dump.pgc..age",
        "hr/x/20261101T000000Z-1/manifest.json",
        "_other/20261101T000000Z-1/manifest.json",
        "a b/20261101T000000Z-1/manifest.json",
        "drills/readme.txt",
    ];
    let all = ours.iter().chain(&foreign).map(|name| version(name, 1, "2026-11-01T00:00:00Z"));
    let sorted = sort(all.chain([version("drills/hr-1.json", 1, "2026-11-01T00:00:00Z")]).collect());
    assert_eq!((sorted.folders.len(), sorted.drills.len()), (ours.len(), 1));
    assert_eq!(sorted.foreign.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), foreign);
}

#[tokio::test]
async fn an_inventory_of_a_directory_tells_backups_orphans_and_strangers_apart() {
    let place = TempDir::new().unwrap();
    let store = Directory::new(place.path());
    let day = |day: u32| time(&format!("2026-11-{day:02}T00:00:00Z"));
    for at in 1..=20 {
        store_backup(&store, &manifest(Kind::Database, "hr", day(at), 10 + u64::from(at))).await;
    }
    store_backup(&store, &manifest(Kind::Database, "hr x", day(1), 10)).await;
    store_backup(&store, &manifest(Kind::Globals, "hr_db", day(1), 10)).await;
    put(&store, "hr/20261121T000000Z-1/proof.age", b"12345").await;
    put(&store, "hr/20261122T000000Z-1/manifest.json", b"{").await;
    put(&store, "hr/mine.txt", b"hands off").await;
    let found = take(&store, "hr/", "default").await.unwrap();
    let starts: Vec<Timestamp> = found.of("hr/").map(|backup| backup.manifest.started_at).collect();
    assert_eq!(starts, (1..=20).rev().map(day).collect::<Vec<_>>());
    assert!(found.backups.iter().all(Backup::is_good));
    assert_eq!((found.orphans.len(), found.unreadable.len(), found.foreign.len()), (1, 1, 1));
    assert_eq!(found.orphans[0].id, "20261121T000000Z-1");
    let all = take(&store, "", "default").await.unwrap();
    assert_eq!(all.backups.len(), 22);
    assert_eq!(all.of("hr.20x/").count() + all.of("_servers/hr_db/").count(), 2);
}
