//! `backups list|verify|prune|coverage` and `keygen`, on stores made by hand.

use super::stored::Stored;
use crate::support::*;
use jiff::{SignedDuration, Timestamp};
use sankofa::backup::manifest::{Codec, Counts, Kind, MANIFEST, Manifest, Object, PROOF, SCHEMA, Source};
use sankofa::backup::names;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PROJECT: &str = "version: 1
secrets: [environment]
warehouse: {connection: wh}
stores: {off: {directory: ./off}}
backups:
  defaults: {store: off, encrypt_to: [age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg], keep: {days: 30, at_least: 2}}
  databases:
    hr: {connection: hr_db}
    records: {connection: records_db}
";

/// An identity that opens nothing here.
const ANOTHER: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

/// A project with a store in the directory `off`.
struct Bench {
    sankofa: Sankofa,
}

/// What differs between hand-made backups.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    pub database: &'a str,
    pub hours: i64,
    pub environment: &'a str,
    pub source: (&'a str, u32),
}

/// A backup of database hr.
pub fn hr(hours: i64) -> Made<'static> {
    Made { database: "hr", hours, environment: "default", source: ("7", 1) }
}

impl Made<'_> {
    /// Its folder, and its objects in the order in which they are stored.
    pub fn objects(&self, at: Timestamp) -> (String, Vec<(&'static str, Vec<u8>)>) {
        let id = names::id(at, "0a1b2c3d");
        let folder = format!("{}{id}", names::home(Kind::Database, self.database));
        let (dump, proof) = (id.repeat(40).into_bytes(), b"proof".to_vec());
        let manifest = Manifest {
            schema: SCHEMA,
            kind: Kind::Database,
            environment: self.environment.into(),
            database: self.database.into(),
            id,
            run_id: "run".into(),
            started_at: at,
            finished_at: at,
            sankofa: "0.1.0".into(),
            source: Source {
                system_identifier: self.source.0.into(),
                database_oid: Some(self.source.1),
                server_version: "17.10".into(),
                pg_dump_version: "17.10".into(),
                encoding: "UTF8".into(),
                database_bytes: 1,
                standby: false,
            },
            object: object("dump.pgc.zst.age", &dump),
            proof: Some(object(PROOF, &proof)),
            globals: None,
            codec: Codec::Zstd,
            recipients: vec!["age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg".into()],
            settings: Default::default(),
            counts: Counts { tables: 1, rows: 1204, large_objects: 0, entries: 3 },
            warnings: Default::default(),
            left_out: Default::default(),
            timings_ms: Default::default(),
        };
        let text = serde_json::to_vec(&manifest).unwrap();
        (folder, vec![("dump.pgc.zst.age", dump), (PROOF, proof), (MANIFEST, text)])
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn object(name: &str, bytes: &[u8]) -> Object {
    Object {
        name: name.into(),
        plain_bytes: 4 * bytes.len() as u64,
        plain_sha256: hex(b""),
        stored_bytes: bytes.len() as u64,
        stored_sha256: hex(bytes),
    }
}

impl Bench {
    fn new(more: &str) -> Bench {
        let sankofa = Sankofa::new().file("sankofa.yaml", format!("{PROJECT}{more}"));
        fs::create_dir(sankofa.folder().join("off")).unwrap();
        Bench { sankofa }
    }

    fn store(&self) -> PathBuf {
        self.sankofa.folder().join("off")
    }

    /// Puts a whole backup there, as old as it says by its own time and by the store's; its folder.
    fn put(&self, made: Made) -> PathBuf {
        let at = Timestamp::now() - SignedDuration::from_hours(made.hours);
        let (folder, objects) = made.objects(at);
        let folder = self.store().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in objects {
            fs::write(folder.join(name), bytes).unwrap();
            let file = fs::File::options().append(true).open(folder.join(name)).unwrap();
            file.set_modified(at.into()).unwrap();
        }
        folder
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.sankofa.run(&[&["backups"], args].concat()).await
    }

    /// Every file in the store, and its content.
    fn files(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut BTreeSet<(PathBuf, Vec<u8>)>) {
            // What prune deletes meanwhile is not there.
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    walk(&path, found);
                } else if let Ok(bytes) = fs::read(&path) {
                    found.insert((path, bytes));
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.store(), &mut found);
        found
    }
}

pub fn list<'a>(done: &'a Value, field: &str) -> &'a Vec<Value> {
    done[field].as_array().unwrap_or_else(|| panic!("no {field} in {done}"))
}

#[tokio::test]
async fn list_tells_good_backups_from_all_that_are_not() {
    let bench = Bench::new("");
    bench.put(hr(1));
    let torn = bench.put(hr(25));
    fs::write(torn.join("dump.pgc.zst.age"), "short").unwrap();
    bench.put(Made { environment: "dev", ..hr(50) });
    let damaged = bench.put(hr(75));
    fs::write(damaged.join(MANIFEST), "{").unwrap();
    fs::remove_file(bench.put(hr(100)).join(MANIFEST)).unwrap();
    bench.put(Made { database: "old one", ..hr(5) });
    let done = bench.run(&["list"]).await.succeeds();
    let result = done.json();
    let states: Vec<&str> =
        list(&result, "backups").iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["good", "INCOMPLETE", "other"]);
    let first = &list(&result, "backups")[0];
    assert_eq!(
        (&first["rows"], &first["proven"], &first["restore_ms"]),
        (&json!(1204), &Value::Null, &Value::Null)
    );
    let summary = list(&result, "databases");
    assert_eq!((&summary[0]["good"], &summary[1]["good"]), (&json!(1), &json!(0)));
    assert_eq!(summary[1]["newest_at"], Value::Null);
    let warnings = result["warnings"].to_string();
    for part in
        ["its manifest is damaged", "has no manifest", "old.20one/ holds backups of a database that is not"]
    {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    let only = bench.run(&["list", "records"]).await.succeeds().json();
    assert_eq!((list(&only, "backups").len(), list(&only, "databases").len()), (0, 1));
    let wrong = bench.run(&["list", "hrr"]).await.exits(78);
    assert!(wrong.stderr.contains("Did you mean hr?"), "{}", wrong.told());
}

#[tokio::test]
async fn list_shows_what_a_drill_has_proven() {
    let bench = Bench::new("");
    let folder = bench.put(hr(30));
    let id = folder.file_name().unwrap().to_str().unwrap();
    let drill = json!({"schema": 1, "environment": "default", "database": "hr", "backup": id,
        "ended_at": "2026-11-01T00:00:00Z", "proven": true, "stored_bytes": 1000, "plain_bytes": 4000,
        "fetch_ms": 1000, "decrypt_ms": 1000, "restore_ms": 2000, "prove_ms": 1000});
    fs::create_dir(bench.store().join("drills")).unwrap();
    fs::write(bench.store().join("drills/hr-1.json"), drill.to_string()).unwrap();
    for args in [&["list"][..], &["list", "hr"]] {
        let result = bench.run(args).await.succeeds().json();
        let one = &list(&result, "backups")[0];
        assert_eq!((&one["proven"], &one["drilled_at"]), (&json!(true), &json!("2026-11-01T00:00:00Z")));
        assert!(one["restore_ms"].as_u64().unwrap() > 1000, "{result}");
    }
}

#[tokio::test]
async fn verify_reads_every_byte_back_and_names_what_differs() {
    let bench = Bench::new("");
    let (new, old) = (bench.put(hr(1)), bench.put(hr(25)));
    let done = bench.run(&["verify", "hr"]).await.succeeds().json();
    assert_eq!((&done["verified"], &done["backups"][0]["opened"]), (&json!(1), &json!(false)));

    let mut bytes = fs::read(old.join(PROOF)).unwrap();
    bytes[2] ^= 1;
    fs::write(old.join(PROOF), bytes).unwrap();
    bench.run(&["verify", "hr"]).await.succeeds();
    let done = bench.run(&["verify", "hr", "--all"]).await.exits(65);
    assert!(done.stderr.contains("proof.age in directory"), "{}", done.told());
    assert!(done.stderr.contains("another SHA-256 than its manifest says"), "{}", done.told());
    assert_eq!((&done.json()["verified"], &done.json()["damaged"]), (&json!(1), &json!(1)));

    let id = new.file_name().unwrap().to_str().unwrap();
    bench.run(&["verify", "hr", "--backup", id]).await.succeeds();
    fs::write(new.join("dump.pgc.zst.age"), "cut").unwrap();
    let done = bench.run(&["verify", "hr", "--backup", id]).await.exits(65);
    assert!(done.stderr.contains("dump.pgc.zst.age: it is missing, or not"), "{}", done.told());
    bench.run(&["verify", "hr", "--backup", "20260101T000000Z-1"]).await.exits(78);
    let done = bench.run(&["verify", "records"]).await.exits(65);
    assert!(done.stderr.contains("there is no good backup"), "{}", done.told());
}

#[tokio::test]
async fn prune_does_what_its_dry_run_said_and_keeps_what_is_not_its_own() {
    let bench = Bench::new("");
    for days in [1, 2, 31, 32, 33] {
        bench.put(hr(24 * days));
        bench.put(Made { database: "records", ..hr(24 * days) });
    }
    bench.put(Made { environment: "dev", ..hr(24 * 90) });
    fs::remove_file(bench.put(hr(24 * 20)).join(MANIFEST)).unwrap();
    fs::write(bench.store().join("hr/mine.txt"), "hands off").unwrap();
    let before = bench.files();
    let dry = bench.run(&["prune", "hr", "--dry-run"]).await.succeeds().json();
    assert_eq!(bench.files(), before);
    assert_eq!((list(&dry, "deleted").len(), &dry["kept"], &dry["foreign"]), (4, &json!(2), &json!(1)));
    let real = bench.run(&["prune", "hr"]).await.succeeds().json();
    for field in ["deleted", "kept", "bytes_freed"] {
        assert_eq!(dry[field], real[field], "{field}");
    }
    let after = bench.files();
    assert!(after.is_subset(&before));
    let freed: usize = before.difference(&after).map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(real["bytes_freed"], json!(freed));
    assert!(after.iter().filter(|(path, _)| path.starts_with(bench.store().join("records"))).count() == 15);
    let again = bench.run(&["prune", "hr"]).await.succeeds().json();
    assert_eq!((list(&again, "deleted").len(), &again["bytes_freed"]), (0, &json!(0)));
}

/// Numbers that look random and are the same each time.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[tokio::test]
async fn prune_killed_at_any_moment_leaves_no_manifest_without_its_objects() {
    let bench = Bench::new("");
    let kills = rounds(20, 200);
    for days in 0..10 * kills as i64 {
        bench.put(hr(24 * (31 + days)));
    }
    let mut seed = 0x5a4b_0fa1;
    let mut counts = BTreeSet::new();
    for _ in 0..kills {
        // A kill that came late may have left fewer.
        let goal = (bench.files().len() as u64).saturating_sub(random(&mut seed) % 25);
        let running = bench.sankofa.spawn(&["backups", "prune"]);
        while bench.files().len() as u64 > goal.max(6) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.signal(libc::SIGKILL);
        running.wait().await;
        let files: BTreeSet<PathBuf> = bench.files().into_iter().map(|(path, _)| path).collect();
        for manifest in files.iter().filter(|path| path.ends_with(MANIFEST)) {
            for object in ["dump.pgc.zst.age", PROOF] {
                assert!(files.contains(&manifest.with_file_name(object)), "{}", manifest.display());
            }
        }
        counts.insert(files.len());
    }
    println!("files left after each kill: {counts:?}");
    bench.run(&["prune"]).await.succeeds();
    let good = bench.run(&["list", "hr"]).await.succeeds().json();
    assert_eq!((list(&good, "backups").len(), &good["databases"][0]["good"]), (2, &json!(2)));
}

#[tokio::test]
async fn verify_with_an_identity_opens_the_archive_and_finds_every_flipped_byte_and_every_cut() {
    let source = Server::major(16).fresh_database("verify").await;
    source.sql("CREATE TABLE t AS SELECT n, 'row ' || n AS text FROM generate_series(1, 2000) n").await;
    let stored = Stored::of(source).await;
    let verify = || async { stored.project().run(&["backups", "verify", "db"]).await };
    let done = verify().await.succeeds().json();
    assert_eq!((&done["backups"][0]["opened"], &done["rows"]), (&json!(true), &json!(2000)));
    let mut seed = 0x0bad_5eed;
    for file in ["dump.pgc.zst.age", PROOF] {
        let path = stored.place().join(&stored.id).join(file);
        let whole = fs::read(&path).unwrap();
        for _ in 0..12 {
            let mut bytes = whole.clone();
            let at = random(&mut seed) as usize % bytes.len();
            bytes[at] ^= 1 << (random(&mut seed) % 8);
            fs::write(&path, &bytes).unwrap();
            verify().await.exits(65);
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        verify().await.exits(65);
        fs::write(&path, &whole).unwrap();
    }
    verify().await.succeeds();
    let manifest = stored.place().join(&stored.id).join(MANIFEST);
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(
        &manifest,
        text.replace("\"rows\": 2000", "\"rows\": 2001").replace("\"rows\":2000", "\"rows\":2001"),
    )
    .unwrap();
    let done = verify().await.exits(65);
    assert!(done.stderr.contains("counts what it does not hold"), "{}", done.told());
}

#[tokio::test]
async fn coverage_finds_what_nobody_listed_what_is_late_and_what_cannot_be_reached() {
    let server = Server::new(17).start();
    let (one, other) = (server.fresh_database("cov").await, server.database_with("odd \"n/ä", "").await);
    let reader = server.role("coverage", "").await;
    let identity = one.value("SELECT system_identifier::text FROM pg_control_system()").await;
    let oid = |name: &str| format!("SELECT oid::text FROM pg_database WHERE datname = '{name}'");
    let oid: u32 = one.value(&oid(one.name())).await.parse().unwrap();
    let project = |ignore: &str, servers: &str| {
        format!("{PROJECT}  servers: [{servers}]\n  ignore: [{ignore}]\n")
            .replace("    records: {connection: records_db}\n", "")
    };
    let sankofa = Sankofa::new()
        .connection_uri("hr_db", &one.connection_uri_as(&reader))
        .connection_uri("srv", &one.connection_uri_as(&reader))
        .connection_uri("down", "postgres://a:b@127.0.0.1:1/x");
    let bench = Bench { sankofa };
    fs::create_dir(bench.store()).unwrap();
    let row = |done: &Finished, name: &str| -> Value {
        let result = done.json();
        let row = list(&result, "databases").iter().find(|row| row["database"] == name);
        row.unwrap_or_else(|| panic!("no {name} in {result}")).clone()
    };

    bench.sankofa.write("sankofa.yaml", project("", "srv"));
    let done = bench.run(&["coverage"]).await.exits(65);
    assert_eq!(row(&done, one.name())["said"], "it has no good backup");
    assert_eq!(row(&done, other.name())["verdict"], "gap");
    assert_eq!(row(&done, "template0")["verdict"], "exempt");

    let others = format!("postgres, sankofa_test, {}", serde_json::to_string(other.name()).unwrap());
    let known = done.json().to_string();
    let others =
        if known.contains("\"sankofa_test\"") { others } else { others.replace("sankofa_test, ", "") };
    bench.sankofa.write("sankofa.yaml", project(&others, "srv"));
    bench.put(Made { source: (&identity, oid), ..hr(2) });
    let done = bench.run(&["coverage"]).await.succeeds();
    assert_eq!(
        (row(&done, one.name())["verdict"].as_str(), &done.json()["gaps"]),
        (Some("covered"), &json!(0))
    );

    bench.sankofa.write("sankofa.yaml", project(&format!("{others}, gone"), "srv"));
    let done = bench.run(&["coverage"]).await.exits(65);
    assert!(row(&done, "gone")["said"].as_str().unwrap().contains("no server has it"));

    bench.sankofa.write("sankofa.yaml", project(&others, "srv, down"));
    let done = bench.run(&["coverage"]).await.exits(65);
    let gap = list(&done.json(), "databases")[0].clone();
    assert_eq!((&gap["server"], &gap["database"]), (&json!("down"), &Value::Null));

    bench.sankofa.write("sankofa.yaml", project(&others, "srv"));
    one.sql(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", quote(one.name()))).await;
    let done = bench.run(&["coverage"]).await.exits(65);
    assert!(done.stderr.contains("not covered"), "{}", done.told());
    one.sql(&format!("GRANT CONNECT ON DATABASE {} TO PUBLIC", quote(one.name()))).await;
    fs::remove_dir_all(bench.store().join("hr")).unwrap();
    bench.put(Made { source: (&identity, oid), ..hr(30) });
    let done = bench.run(&["coverage"]).await.exits(65);
    assert_eq!(row(&done, one.name())["said"], "late by 4 h");
}

#[tokio::test]
async fn keygen_makes_a_pair_that_age_can_use_and_shows_no_secret() {
    let sankofa = Sankofa::new();
    let done = sankofa.run(&["keygen", "--out", "key.txt"]).await.succeeds();
    assert!(!done.told().contains("AGE-SECRET"), "{}", done.told());
    let recipient = done.json()["recipient"].as_str().unwrap().to_owned();
    let file = sankofa.read("key.txt");
    let identity: age::x25519::Identity = file.lines().last().unwrap().parse().unwrap();
    assert_eq!(identity.to_public().to_string(), recipient);
    sankofa.run(&["keygen", "--out", "key.txt"]).await.exits(2);
    assert_eq!(sankofa.read("key.txt"), file);
    let printed = sankofa.run(&["keygen", "--out", "-"]).await.succeeds().stdout;
    assert_eq!(printed.lines().count(), 3);
    assert!(printed.lines().nth(2).unwrap().starts_with("AGE-SECRET-KEY-1"));
}

#[tokio::test]
async fn doctor_tries_the_store_the_database_and_the_programs_and_leaves_nothing_behind() {
    let source = Server::major(16).fresh_database("doctor").await;
    let programs = client_program(16, "pg_dump");
    let project = PROJECT.replace("    records: {connection: records_db}\n", "");
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", &project)
        .connection("hr_db", &source)
        .env("SANKOFA_PG_BIN", programs.parent().unwrap().to_str().unwrap());
    let bench = Bench { sankofa };
    fs::create_dir(bench.store()).unwrap();
    let done = bench.sankofa.run(&["doctor", "--for", "backup"]).await.succeeds();
    let said = done.json()["findings"].to_string();
    for part in ["takes uploads for hr", "dumped by the programs of 16", "there is no good backup of it yet"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(done.json()["next"], "`sankofa backup hr`, then `sankofa drill hr`.");
    assert_eq!(bench.files(), BTreeSet::new());

    let done = bench.sankofa.run(&["doctor", "--for", "drill"]).await.exits(77);
    assert!(
        done.stderr.contains("no identity is at hand: cannot resolve variable age_identity"),
        "{}",
        done.told()
    );
    let other = Bench { sankofa: bench.sankofa.env("AIRFLOW_VAR_AGE_IDENTITY", ANOTHER) };
    other.sankofa.run(&["doctor", "--for", "backup"]).await.succeeds();
    let done = other.sankofa.run(&["doctor", "--for", "drill"]).await.exits(77);
    assert!(done.stderr.contains("no identity in age_identity opens"), "{}", done.told());
    assert!(!done.told().contains(ANOTHER), "{}", done.told());
    let locked = project.replace("encrypt_to:", "lock: {days: 7, mode: governance}, encrypt_to:");
    other.sankofa.write("sankofa.yaml", locked);
    let done = other.sankofa.run(&["doctor", "--for", "backup"]).await.exits(78);
    assert!(done.stderr.contains("needs a bucket with Object Lock"), "{}", done.told());
    other.sankofa.write("sankofa.yaml", project.replace("directory: ./off", "directory: /nonexistent/a/b"));
    other.sankofa.run(&["doctor", "--for", "backup"]).await.exits(78);
}

#[tokio::test]
async fn doctor_names_what_the_role_that_dumps_may_not_read() {
    for major in [16, 18] {
        let server = Server::major(major);
        let source = server.fresh_database("doctor_reads").await;
        let role = server.role("dumper", "").await;
        source
            .sql(&format!(
                "CREATE TABLE shut (id serial); CREATE TABLE hides (id int); ALTER TABLE hides ENABLE ROW LEVEL SECURITY;
                 GRANT SELECT ON hides TO {}; SELECT lo_from_bytea(4711, 'ab')",
                quote(&role)
            ))
            .await;
        let programs = client_program(major, "pg_dump");
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", PROJECT.replace("    records: {connection: records_db}\n", ""))
            .connection_uri("hr_db", &source.connection_uri_as(&role))
            .env("SANKOFA_PG_BIN", programs.parent().unwrap().to_str().unwrap());
        fs::create_dir(sankofa.folder().join("off")).unwrap();
        let done = sankofa.run(&["doctor", "--for", "backup"]).await.exits(77);
        let said = done.json()["findings"].to_string();
        for part in [
            "may not read public.shut and 1 more",
            "does not see every row (row security) of public.hides",
            "may not read large object 4711",
            "GRANT SELECT ON LARGE OBJECT 4711 TO ",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(done.json()["next"].as_str().unwrap().starts_with("GRANT pg_read_all_data TO "));
        let grants =
            "GRANT pg_read_all_data TO {}; ALTER ROLE {} BYPASSRLS; GRANT SELECT ON LARGE OBJECT 4711 TO {}";
        source.sql(&grants.replace("{}", &quote(&role))).await;
        let done = sankofa.run(&["doctor", "--for", "backup"]).await.succeeds();
        assert!(done.stdout.contains("may read all of it"), "{}", done.told());
    }
}

#[tokio::test]
async fn what_backup_has_stored_is_good_opens_and_goes_with_its_globals_when_its_time_has_come() {
    let source = Server::major(16).fresh_database("whole").await;
    source.sql("CREATE TABLE t AS SELECT n FROM generate_series(1, 500) n").await;
    let (identity, recipient) = super::stored::key_pair();
    let project = format!(
        "version: 1\nsecrets: [environment]\nwarehouse: {{connection: wh}}\nstores: {{off: {{directory: ./off}}}}\n\
         backups:\n  defaults: {{store: off, encrypt_to: [{recipient}], keep: {{days: 0, at_least: 1}}}}\n  \
         databases: {{hr: {{connection: hr_db}}}}\n"
    );
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", project)
        .connection("hr_db", &source)
        .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
        .env("SANKOFA_PG_BIN", client_program(16, "pg_dump").parent().unwrap().to_str().unwrap());
    let bench = Bench { sankofa };
    bench.sankofa.run(&["backup", "hr", "--run", "one"]).await.succeeds();
    bench.sankofa.run(&["backup", "hr", "--run", "two"]).await.succeeds();
    let result = bench.run(&["list"]).await.succeeds().json();
    assert_eq!((&result["databases"][0]["good"], &result["warnings"]), (&json!(2), &json!([])));
    let result = bench.run(&["verify", "--all"]).await.succeeds().json();
    assert_eq!((&result["verified"], &result["rows"]), (&json!(2), &json!(1000)), "{result}");

    let result = bench.run(&["prune"]).await.succeeds().json();
    assert_eq!((list(&result, "deleted").len(), &result["foreign"]), (1, &json!(0)), "{result}");
    let manifests = || bench.files().into_iter().filter(|(path, _)| path.ends_with(MANIFEST)).count();
    assert_eq!(manifests(), 3, "one backup is left, and young globals");
    // Two days later the older globals go as well, which nothing refers to any more.
    for (path, _) in bench.files() {
        let file = fs::File::options().append(true).open(&path).unwrap();
        let at = Timestamp::now() - SignedDuration::from_hours(72);
        file.set_modified(at.into()).unwrap();
    }
    let dry = bench.run(&["prune", "--dry-run"]).await.succeeds().json();
    assert_eq!(list(&dry, "deleted").len(), 0, "the time they began is not two days ago: {dry}");
}
