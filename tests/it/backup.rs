//! One backup from end to end: what is stored is whole, private and proven, or it is not there.

use crate::support::*;
use age::x25519;
use sankofa::backup::codec::{self, Codec};
use sankofa::backup::manifest::{Kind, Manifest};
use sankofa::backup::proof::Proof;
use sankofa::backup::seal::{self, Identities};
use sankofa::backup::tally::Tally;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A text that no stored byte may show.
const MARK: &str = "MARKED-CELL-4711";

const TABLES: &str = "
    CREATE TABLE pupil (id int PRIMARY KEY, name text, at timestamptz DEFAULT now(), raw bytea);
    INSERT INTO pupil SELECT g, 'MARKED-CELL-4711 ' || g, now(), decode(md5(g::text), 'hex') FROM generate_series(1, 2000) g;
    CREATE TABLE mark (pupil int REFERENCES pupil, points numeric, paid money);
    INSERT INTO mark SELECT g, g / 7.0, g FROM generate_series(1, 700) g;
    CREATE TABLE nothing_in_it (id int);
    CREATE TABLE no_columns ();
    CREATE MATERIALIZED VIEW best AS SELECT max(points) FROM mark;
    SELECT lo_from_bytea(0, 'a large object')";

/// One database `src`, one directory store, one key pair.
struct Bed {
    database: Database,
    sankofa: Sankofa,
    identities: Identities,
    recipient: String,
}

/// The folders of the client programs that are there, as SANKOFA_PG_BIN.
fn programs() -> String {
    let folders = CLIENT_MAJORS.iter().filter(|major| has_clients(**major));
    let folder = |major: &u16| client_program(*major, "pg_dump").parent().unwrap().display().to_string();
    folders.map(folder).collect::<Vec<_>>().join(":")
}

impl Bed {
    async fn new(major: u16, sql: &str) -> Bed {
        let server = Server::major(major);
        let database = server.fresh_database("backup").await;
        if !sql.is_empty() {
            database.sql(sql).await;
        }
        Bed::of(database)
    }

    fn of(database: Database) -> Bed {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let text = identity.to_string().expose_secret().to_owned();
        let identities = Identities::parse(&text.into(), "a test").unwrap();
        let sankofa = Sankofa::new().connection("src", &database).env("SANKOFA_PG_BIN", &programs());
        let bed = Bed { database, sankofa, identities, recipient };
        bed.project("", "");
        bed
    }

    /// Writes the operator's file; `more` goes into the defaults, `environments` behind all.
    fn project(&self, more: &str, environments: &str) {
        let recipient = &self.recipient;
        self.sankofa.write(
            "sankofa.yaml",
            format!(
                "version: 1\nsecrets: [environment]\nwarehouse: {{connection: wh}}\n\
                 stores: {{local: {{directory: ./store}}}}\n\
                 backups:\n  defaults: {{store: local, encrypt_to: [{recipient}]{more}}}\n  \
                 databases: {{hr: {{connection: src}}}}\n{environments}"
            ),
        );
    }

    /// The same through a proxy or as somebody else.
    fn through(self, uri: &str) -> Bed {
        Bed { sankofa: self.sankofa.connection_uri("src", uri), ..self }
    }

    fn store(&self) -> PathBuf {
        self.sankofa.folder().join("store")
    }

    /// Every file of the store, by its path in it.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.store(), &self.store(), &mut found);
        found.sort();
        found
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.store().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// The manifests of a kind, oldest first.
    fn manifests(&self, kind: Kind) -> Vec<(String, Manifest)> {
        let all = self.files().into_iter().filter(|name| name.ends_with("/manifest.json"));
        let read = |name: String| {
            let manifest: Manifest = serde_json::from_slice(&self.bytes(&name)).unwrap();
            (name.strip_suffix("manifest.json").unwrap().to_owned(), manifest)
        };
        all.map(read).filter(|(_, manifest)| manifest.kind == kind).collect()
    }

    /// What is in a sealed object.
    fn opened(&self, name: &str, codec: Option<Codec>) -> Vec<u8> {
        let sealed = self.bytes(name);
        let input = seal::open(&self.identities, sealed.as_slice(), name).unwrap();
        let mut plain = Vec::new();
        match codec {
            Some(codec) => codec::reader(codec, input).unwrap().read_to_end(&mut plain).unwrap(),
            None => { input }.read_to_end(&mut plain).unwrap(),
        };
        plain
    }

    async fn backup(&self, more: &[&str]) -> Finished {
        let args: Vec<&str> = ["backup", "hr"].into_iter().chain(more.iter().copied()).collect();
        self.sankofa.run(&args).await
    }

    fn start(&self, more: &[&str]) -> Running {
        let args: Vec<&str> = ["backup", "hr"].into_iter().chain(more.iter().copied()).collect();
        self.sankofa.spawn(&args)
    }

    /// Waits until a session of a backup runs a query like this.
    async fn waits_for(&self, query: &str) {
        let begun = Instant::now();
        let seen = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sankofa/% backup %'
             AND datname = current_database() AND query ILIKE '{query}'"
        );
        while self.database.value(&seen).await == "0" {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody runs {query}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Nothing that looks like a backup, nor a part of one.
    fn assert_empty(&self, told: &str) {
        assert_eq!(self.files(), Vec::<String>::new(), "{told}");
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(root, &path, found),
            path => found.push(path.strip_prefix(root).unwrap().display().to_string()),
        }
    }
}

fn sha256(bytes: &[u8]) -> (u64, String) {
    let mut tally = Tally::new(std::io::sink());
    std::io::Write::write_all(&mut tally, bytes).unwrap();
    let (_, sum) = tally.finish();
    (sum.bytes(), sum.sha256())
}

/// The pg_dump that process `parent` has started, once it is there.
async fn pg_dump_of(parent: u32) -> i32 {
    let begun = Instant::now();
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
            let parent_of: u32 = tail.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
            if parent_of == parent && head.ends_with("(pg_dump") {
                return head.split(' ').next().unwrap().parse().unwrap();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no pg_dump was started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(pid: i32) {
    // SAFETY: it touches no memory; the process is a child of one that this test has started.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

/// Runs pg_restore of `major` on an archive.
fn pg_restore(major: u16, archive: &[u8], args: &[&str]) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, archive).unwrap();
    let mut command = Command::new(client_program(major, "pg_restore"));
    command.args(args).arg(file.path()).env("PGPASSWORD", PASSWORD).stdin(Stdio::null());
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), told)
}

async fn round_trip(major: u16, codec: Codec) {
    let bed = Bed::new(major, TABLES).await;
    if codec == Codec::Gzip {
        bed.project(", codec: gzip", "");
    }
    let done = bed.backup(&["--run", "one"]).await.succeeds();
    let (folder, manifest) = bed.manifests(Kind::Database).pop().unwrap();
    let object = format!("dump.pgc.{}.age", codec::extension(codec));
    assert_eq!(manifest.object.name, object);
    assert_eq!((manifest.run_id.as_str(), manifest.environment.as_str()), ("one", "default"));
    assert_eq!(manifest.source.pg_dump_version.split('.').next().unwrap(), major.to_string());
    assert_eq!(sha256(&bed.bytes(&format!("{folder}{object}"))), {
        (manifest.object.stored_bytes, manifest.object.stored_sha256.clone())
    });
    let archive = bed.opened(&format!("{folder}{object}"), Some(codec));
    assert_eq!(sha256(&archive), (manifest.object.plain_bytes, manifest.object.plain_sha256.clone()));
    let proof: Proof = serde_json::from_slice(&bed.opened(&format!("{folder}proof.age"), None)).unwrap();
    let counted: BTreeMap<_, _> =
        proof.tables.iter().map(|table| (table.table.as_str(), table.set.count)).collect();
    for table in ["pupil", "mark", "nothing_in_it", "no_columns"] {
        let there: u64 = bed.database.value(&format!("SELECT count(*) FROM {table}")).await.parse().unwrap();
        assert_eq!(counted[table], there, "{table}");
    }
    assert_eq!((manifest.counts.tables, manifest.counts.rows, manifest.counts.large_objects), (4, 2700, 1));
    assert_eq!(done.json()["rows"], 2700, "{}", done.told());
    assert_eq!(proof.settings["TimeZone"], "UTC");

    let copy = bed.database.server().fresh_database("copy").await;
    let uri = copy.connection_uri();
    let (is_well, told) = pg_restore(major, &archive, &["--dbname", &uri, "--exit-on-error"]);
    assert!(is_well, "{told}");
    let sum = "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM pupil p";
    assert_eq!(copy.value(sum).await, bed.database.value(sum).await);

    let (home, globals) = bed.manifests(Kind::Globals).pop().unwrap();
    assert_eq!(manifest.globals.as_deref(), Some(home.trim_end_matches('/')));
    assert!(home.starts_with("_servers/src/") && globals.source.database_oid.is_none());
    let sql = String::from_utf8(bed.opened(&format!("{home}globals.sql.age"), None)).unwrap();
    assert!(sql.contains(&format!("CREATE ROLE {USER}")) && !sql.contains("SCRAM-SHA-256"), "{sql}");
}

#[tokio::test]
async fn the_verifiers_of_roles_are_kept_only_when_asked_for() {
    let bed = Bed::new(16, "CREATE TABLE t (id int)").await;
    let role = bed.database.server().role("keeper", "").await;
    bed.backup(&["--run", "plain"]).await.succeeds();
    bed.backup(&["--run", "asked", "--role-passwords"]).await.succeeds();
    let mut kept = Vec::new();
    for (home, manifest) in bed.manifests(Kind::Globals) {
        let sql = String::from_utf8(bed.opened(&format!("{home}globals.sql.age"), None)).unwrap();
        let own = sql.lines().find(|line| line.starts_with(&format!("ALTER ROLE {role} "))).unwrap();
        kept.push((manifest.run_id, own.contains("PASSWORD 'SCRAM-SHA-256")));
    }
    kept.sort();
    assert_eq!(kept, [("asked".to_owned(), true), ("plain".to_owned(), false)]);
}

#[tokio::test]
async fn a_backup_of_each_major_restores_and_its_proof_counts_what_select_counts() {
    for major in MAJORS {
        if CLIENT_MAJORS.contains(&major) && has_clients(major) {
            round_trip(major, Codec::Zstd).await;
        }
    }
    round_trip(18, Codec::Gzip).await;
}

#[tokio::test]
async fn no_stored_byte_and_no_word_of_the_command_shows_a_cell_or_the_password() {
    let bed = Bed::new(16, TABLES).await;
    let done = bed.backup(&["-vv"]).await.succeeds();
    let mut all = vec![
        ("stdout".to_owned(), done.stdout.into_bytes()),
        ("stderr".to_owned(), done.stderr.into_bytes()),
    ];
    all.extend(bed.files().into_iter().map(|name| (name.clone(), bed.bytes(&name))));
    assert_eq!(all.len(), 2 + 5, "manifest, proof and dump; manifest and globals");
    for (name, bytes) in all {
        for secret in [MARK, PASSWORD] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} in {name}");
        }
        let is_listed = name.starts_with("std") || name.ends_with("manifest.json");
        assert!(
            !name.ends_with("manifest.json") || !String::from_utf8_lossy(&bytes).contains("pupil"),
            "{name}"
        );
        assert!(is_listed || bytes.starts_with(b"age-encryption.org/v1\n"), "{name}");
    }
}

/// A database of about `mib` MiB of text that does not pack well, behind a proxy.
async fn behind_a_proxy(mib: u32) -> (Bed, Proxy) {
    let bed = Bed::new(16, &format!(
        "CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 32) AS v FROM generate_series(1, {mib} * 1024) g;
         CREATE TABLE small AS SELECT 1 AS id"
    ))
    .await;
    let proxy = Proxy::to(bed.database.server().port());
    let uri = bed.database.connection_uri_through(proxy.port());
    (bed.through(&uri), proxy)
}

#[tokio::test]
async fn a_dump_that_is_killed_at_its_start_middle_or_end_leaves_nothing() {
    let (bed, proxy) = behind_a_proxy(4).await;
    bed.backup(&["--run", "whole"]).await.succeeds();
    let whole: usize = proxy
        .messages_seen()
        .iter()
        .filter(|seen| seen.direction == Direction::FromServer)
        .map(|seen| seen.length)
        .sum();
    std::fs::remove_dir_all(bed.store()).unwrap();
    for percent in [0, 50, 99] {
        let proxy = Proxy::to(bed.database.server().port());
        let bed = Bed::of(bed.database.on(bed.database.server()))
            .through(&bed.database.connection_uri_through(proxy.port()));
        let blocker = bed.database.connect().await;
        match percent {
            0 => blocker.batch_execute("BEGIN; LOCK TABLE small IN ACCESS EXCLUSIVE MODE").await.unwrap(),
            _ => {
                proxy.add(Rule::after_bytes(Direction::FromServer, whole * percent / 100).after(Deed::Freeze))
            }
        }
        let running = bed.start(&["--run", "killed"]);
        match percent {
            0 => bed.waits_for("%LOCK TABLE%").await,
            _ => {
                while proxy.fired().is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
            }
        }
        kill(pg_dump_of(running.pid()).await);
        proxy.up();
        let done = running.wait().await.exits(75);
        assert!(done.stderr.contains("pg_dump was ended by signal 9"), "{}", done.told());
        bed.assert_empty(&format!("killed at {percent} %: {}", done.told()));
        drop(blocker);
        bed.backup(&["--run", "killed"]).await.succeeds();
        bed.database.forget();
    }
}

#[tokio::test]
async fn a_signal_withdraws_the_upload_ends_pg_dump_and_is_told() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let (bed, proxy) = behind_a_proxy(4).await;
        proxy.add(Rule::after_bytes(Direction::FromServer, 3 << 20).after(Deed::Freeze));
        let running = bed.start(&[]);
        while proxy.fired().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = pg_dump_of(running.pid()).await;
        let begun = Instant::now();
        running.signal(signal);
        let done = running.wait().await.exits(code);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?} {}", begun.elapsed(), done.told());
        assert_eq!(done.json()["status"], "cancelled");
        assert_eq!(done.json()["database"], "hr");
        bed.assert_empty(&done.told());
        // SAFETY: it touches no memory.
        assert_eq!(unsafe { libc::kill(pid, 0) }, -1, "pg_dump is still there");
    }
}

#[tokio::test]
async fn a_backup_that_outlives_its_deadline_is_75_and_leaves_nothing() {
    let (bed, proxy) = behind_a_proxy(4).await;
    proxy.add(Rule::after_bytes(Direction::FromServer, 3 << 20).after(Deed::Freeze));
    let done = bed.backup(&["--deadline", "4s"]).await.exits(75);
    assert!(done.stderr.contains("not done within the deadline of 4"), "{}", done.told());
    bed.assert_empty(&done.told());
}

#[tokio::test]
async fn a_standby_is_backed_up_and_what_it_cannot_give_is_said() {
    let primary = Server::new(16).start();
    let here = primary.fresh_database("primary").await;
    here.sql(TABLES).await;
    here.sql("CREATE UNLOGGED TABLE passing AS SELECT 1 AS id").await;
    let standby = primary.standby();
    standby.catch_up(&primary).await;
    let bed = Bed::of(here.on(&standby));
    let done = bed.backup(&[]).await.succeeds();
    let (_, manifest) = bed.manifests(Kind::Database).pop().unwrap();
    assert!(manifest.source.standby);
    assert_eq!(
        (manifest.counts.rows, manifest.left_out.get("unlogged_table")),
        (2700, Some(&1)),
        "{}",
        done.told()
    );
    assert!(done.json()["warnings"].to_string().contains("not in the dump: unlogged table public.passing"));
    bed.database.forget();
}

#[tokio::test]
async fn a_killed_sankofa_leaves_no_manifest_and_no_pg_dump_and_the_same_run_is_done_next() {
    let (bed, proxy) = behind_a_proxy(4).await;
    proxy.add(Rule::after_bytes(Direction::FromServer, 3 << 20).after(Deed::Freeze));
    let running = bed.start(&["--run", "one"]);
    while proxy.fired().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pid = pg_dump_of(running.pid()).await;
    assert_eq!(running.kill_after(Duration::ZERO).await.code(), None);
    assert_eq!(
        bed.manifests(Kind::Database).len() + bed.manifests(Kind::Globals).len(),
        0,
        "{:?}",
        bed.files()
    );
    let begun = Instant::now();
    // SAFETY: it touches no memory.
    while unsafe { libc::kill(pid, 0) } == 0 && !is_zombie(pid) {
        assert!(begun.elapsed() < Duration::from_secs(10), "pg_dump has outlived it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.up();
    proxy.cut();
    let again = bed.backup(&["--run", "one", "--take-over"]).await.succeeds();
    assert_eq!(again.json()["status"], "ok");
    assert_eq!(bed.manifests(Kind::Database).len(), 1);
}

#[tokio::test]
async fn a_backup_killed_at_any_moment_leaves_no_manifest_without_its_object() {
    let bed = Bed::new(16, TABLES).await;
    let begun = Instant::now();
    bed.backup(&["--run", "whole"]).await.succeeds();
    let whole = begun.elapsed();
    let mut random = crate::stored::Random(11);
    let mut killed = 0;
    for round in 0..rounds(15, 200) {
        let delay = whole.mul_f64(random.below(1100) as f64 / 1000.0);
        let run = format!("killed {round}");
        killed +=
            usize::from(bed.start(&["--run", &run, "--take-over"]).kill_after(delay).await.code().is_none());
        for kind in [Kind::Database, Kind::Globals] {
            for (folder, manifest) in bed.manifests(kind) {
                let bytes = bed.bytes(&format!("{folder}{}", manifest.object.name)).len() as u64;
                assert_eq!(bytes, manifest.object.stored_bytes, "round {round}: {folder}");
            }
        }
    }
    assert!(killed > 5, "{killed}");
    bed.backup(&["--run", "last", "--take-over"]).await.succeeds();
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_second_backup_names_the_first_and_one_that_takes_over_is_the_only_one() {
    let bed = Bed::new(17, TABLES).await;
    let blocker = bed.database.connect().await;
    blocker.batch_execute("BEGIN; LOCK TABLE mark IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let first = bed.start(&["--run", "first"]);
    bed.waits_for("%LOCK TABLE%").await;
    let second = bed.backup(&["--run", "second"]).await.exits(75);
    assert!(
        second.stderr.contains("cannot back up hr: another run holds its lock: sankofa/"),
        "{}",
        second.told()
    );
    assert!(second.stderr.contains("backup hr first"), "{}", second.told());
    let third = bed.start(&["--run", "third", "--take-over"]);
    let ended = first.wait().await.exits(75);
    assert!(ended.stderr.contains("the session that holds its lock was ended"), "{}", ended.told());
    blocker.batch_execute("ROLLBACK").await.unwrap();
    third.wait().await.succeeds();
    let runs: Vec<String> = bed.manifests(Kind::Database).into_iter().map(|(_, one)| one.run_id).collect();
    assert_eq!(runs, ["third"]);
}

#[tokio::test]
async fn memory_stays_below_128_mib_whatever_the_size_and_the_codec() {
    // Half of a hundred MiB, in rows of 1 MiB and of 1 KiB.
    let bed = Bed::new(
        16,
        "CREATE TABLE wide AS SELECT string_agg(md5((g * 40000 + n)::text), '') AS v
             FROM generate_series(1, 24) g, generate_series(1, 32768) n GROUP BY g;
         CREATE TABLE narrow AS SELECT repeat(md5(g::text), 32) AS v FROM generate_series(1, 24 * 1024) g",
    )
    .await;
    for codec in ["zstd", "gzip"] {
        bed.project(&format!(", codec: {codec}"), "");
        let done = bed.backup(&[]).await.succeeds();
        assert!(done.json()["bytes"].as_u64().unwrap() > 48 << 20, "{}", done.told());
        assert!((1..128 * 1024).contains(&done.peak_kib), "{codec}: {} KiB", done.peak_kib);
        eprintln!("{codec}: peak {} KiB, {} ms", done.peak_kib, done.json()["duration_ms"]);
    }
}

#[tokio::test]
async fn the_same_run_again_is_already_done_with_the_recorded_result() {
    let bed = Bed::new(16, TABLES).await;
    let first = bed.backup(&["--run", "etl/scheduled__2026-11-21"]).await.succeeds().json();
    bed.database.sql("DROP TABLE mark CASCADE").await;
    let again = bed.backup(&["--run", "etl/scheduled__2026-11-21"]).await.succeeds().json();
    assert_eq!(again["status"], "already_done");
    for field in ["rows", "bytes", "folder", "stored_sha256", "globals"] {
        assert_eq!(again[field], first[field], "{field}");
    }
    assert_eq!(bed.manifests(Kind::Database).len(), 1);
    let other = bed.backup(&["--run", "another"]).await.succeeds().json();
    assert_eq!((other["status"].as_str(), other["rows"].as_u64()), (Some("ok"), Some(2000)));
}

#[tokio::test]
async fn a_wrong_password_a_hidden_row_and_a_missing_right_are_77() {
    let bed = Bed::new(17, TABLES).await;
    let server = bed.database.server().clone();
    let wrong = bed.database.connection_uri().replace("not%2Da%2Dsecret", "MARKED%2Dpassword");
    let bed = bed.through(&wrong);
    let done = bed.backup(&[]).await.exits(77);
    assert!(!done.told().contains("MARKED"), "{}", done.told());
    let role = server.role("reader", "").await;
    let uri = bed.database.connection_uri_as(&role);
    let bed = bed.through(&uri);
    let done = bed.backup(&[]).await.exits(77);
    assert!(done.stderr.contains("permission denied for"), "{}", done.told());
    bed.database
        .sql(&format!(
            "SELECT lo_unlink(oid) FROM pg_largeobject_metadata;
         GRANT pg_read_all_data TO {role}; ALTER TABLE pupil ENABLE ROW LEVEL SECURITY"
        ))
        .await;
    let done = bed.backup(&[]).await.exits(77);
    assert!(
        done.stderr.contains("row-level security") && done.stderr.contains("BYPASSRLS"),
        "{}",
        done.told()
    );
    bed.assert_empty(&done.told());
    bed.database.sql(&format!("ALTER ROLE {role} BYPASSRLS")).await;
    let done = bed.backup(&[]).await.succeeds().json();
    assert_eq!(done["rows"], 2700, "a role that reads everything is enough");
    let (_, manifest) = bed.manifests(Kind::Database).pop().unwrap();
    assert!(!manifest.source.system_identifier.is_empty(), "{done}");
    bed.database
        .sql(&format!("DROP OWNED BY {role}; REVOKE pg_read_all_data FROM {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_missing_program_a_pooler_and_another_environment_are_78_before_anything_is_stored() {
    let bed = Bed::new(14, TABLES).await; // nobody has clients of 14
    let done = bed.backup(&[]).await.exits(78);
    assert!(done.stderr.contains("cannot find pg_dump and pg_dumpall of PostgreSQL 14"), "{}", done.told());
    assert!(done.stderr.contains("postgresql-client-14"), "{}", done.told());
    bed.assert_empty(&done.told());

    let bed = Bed::new(16, TABLES).await;
    if let Some(pooler) =
        Pooler::with_settings(bed.database.server(), &[("ignore_startup_parameters", "options")])
    {
        let uri = bed.database.connection_uri_through(pooler.port());
        let pooled = Bed::of(bed.database.on(bed.database.server())).through(&uri);
        let done = pooled.backup(&[]).await.exits(78);
        assert!(done.stderr.contains("pooler"), "{}", done.told());
        pooled.assert_empty(&done.told());
        pooled.database.forget();
    }
    bed.backup(&[]).await.succeeds();
    bed.project("", "environments: {dev: {}}\n");
    let done = bed.backup(&["--env", "dev"]).await.exits(78);
    assert!(done.stderr.contains("environment default keeps its backups there"), "{}", done.told());
    assert_eq!(bed.manifests(Kind::Database).len(), 1);
}

#[tokio::test]
async fn what_is_written_and_altered_while_a_dump_runs_is_not_in_it() {
    let (bed, proxy) = behind_a_proxy(4).await;
    proxy.add(Rule::after_bytes(Direction::FromServer, 3 << 20).after(Deed::Freeze));
    let running = bed.start(&[]);
    while proxy.fired().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let writer = bed.database.connect().await;
    writer.batch_execute("INSERT INTO small SELECT 2; CREATE TABLE late AS SELECT 1 AS id").await.unwrap();
    let altered =
        tokio::spawn(async move { writer.batch_execute("ALTER TABLE small ADD COLUMN more int").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.up();
    let done = running.wait().await.succeeds();
    altered.await.unwrap().unwrap();
    assert_eq!(done.json()["rows"], 4 * 1024 + 1, "{}", done.told());
    let (folder, _) = bed.manifests(Kind::Database).pop().unwrap();
    let proof: Proof = serde_json::from_slice(&bed.opened(&format!("{folder}proof.age"), None)).unwrap();
    let small = proof.tables.iter().find(|table| table.table == "small").unwrap();
    assert_eq!((small.columns.as_slice(), small.set.count), (["id".to_owned()].as_slice(), 1));
    assert!(proof.tables.iter().all(|table| table.table != "late"));
}

#[tokio::test]
async fn a_database_that_is_dropped_before_or_meanwhile_leaves_nothing() {
    let (bed, proxy) = behind_a_proxy(4).await;
    proxy.add(Rule::after_bytes(Direction::FromServer, 3 << 20).after(Deed::Freeze));
    let running = bed.start(&[]);
    while proxy.fired().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bed.database.server().sql(&format!("DROP DATABASE {} WITH (FORCE)", quote(bed.database.name()))).await;
    proxy.up();
    let done = running.wait().await.exits(75);
    bed.assert_empty(&done.told());
    let done = bed.backup(&[]).await.exits(78);
    assert!(done.stderr.contains("does not exist"), "{}", done.told());
    bed.assert_empty(&done.told());
}

/// A stand-in of B2 in the place of the directory, reached with a key that may not delete.
fn into_b2(bed: Bed, more: &str) -> (Bed, b2::B2) {
    let offsite = b2::B2::start();
    offsite.bucket("school", b2::BucketOptions { has_lock: true, ..Default::default() });
    let key = offsite.key(b2::KeySpec::all().without("deleteFiles"));
    let sankofa = bed.sankofa.connection_uri("offsite", &offsite.connection_uri(&key));
    let bed = Bed { sankofa, ..bed };
    bed.project(more, "");
    let text = bed.sankofa.read("sankofa.yaml");
    bed.sankofa.write(
        "sankofa.yaml",
        text.replace("{directory: ./store}", "{b2: {connection: offsite, bucket: school, prefix: prod}}"),
    );
    (bed, offsite)
}

#[tokio::test]
async fn a_key_that_may_not_delete_is_enough_and_what_it_stores_is_locked_with_the_manifest_last() {
    let (bed, offsite) = into_b2(Bed::new(16, TABLES).await, ", lock: {days: 7, mode: compliance}");
    bed.backup(&["--run", "one"]).await.succeeds();
    let stored = offsite.versions("school");
    let mut names: Vec<&str> = stored.iter().map(|one| one.name.rsplit('/').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["dump.pgc.zst.age", "globals.sql.age", "manifest.json", "manifest.json", "proof.age"]);
    assert!(stored.iter().all(|one| one.name.starts_with("prod/")));
    let day = 24 * 3600 * 1000;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    for one in &stored {
        let (mode, until) = one.retention.as_ref().unwrap();
        assert!(mode == "compliance" && (now + 6 * day..now + 8 * day).contains(until), "{one:?}");
    }
    let last = offsite.seen().into_iter().rfind(|call| call.call == "b2_upload_file").unwrap();
    assert!(format!("{last:?}").contains("manifest.json"), "{last:?}");
    let again = bed.backup(&["--run", "one"]).await.succeeds().json();
    assert_eq!((again["status"].as_str(), offsite.versions("school").len()), (Some("already_done"), 5));
}

#[tokio::test]
async fn a_dump_that_dies_after_parts_were_uploaded_leaves_no_unfinished_file() {
    let noise =
        "CREATE TABLE noise AS SELECT md5(g::text) || md5((-g)::text) AS v FROM generate_series(1, 750000) g";
    let bed = Bed::new(16, noise).await;
    let proxy = Proxy::to(bed.database.server().port());
    let uri = bed.database.connection_uri_through(proxy.port());
    let (bed, offsite) = into_b2(bed.through(&uri), "");
    proxy.add(Rule::after_bytes(Direction::FromServer, 45 << 20).after(Deed::Freeze));
    let running = bed.start(&["--run", "one"]);
    let begun = Instant::now();
    while offsite.unfinished("school").is_empty() || proxy.fired().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no part was uploaded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    kill(pg_dump_of(running.pid()).await);
    proxy.up();
    let done = running.wait().await.exits(75);
    assert_eq!(offsite.unfinished("school"), Vec::<String>::new(), "{}", done.told());
    // The globals were whole by then, and this key may not delete: an orphan without a manifest.
    let left: Vec<String> = offsite.versions("school").into_iter().map(|one| one.name).collect();
    assert!(left.iter().all(|name| name.ends_with("/globals.sql.age")), "{left:?}");
}

/// A file system of a few hundred KiB; `None` where this user may not mount one.
struct Small(PathBuf);

impl Small {
    fn mounted(at: &Path) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(at).output();
        match done {
            Ok(done) if done.status.success() => Some(Small(at.to_owned())),
            _ => {
                eprintln!("\n!!! NOT TESTED: a full store (this user may not mount a tmpfs)\n");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_store_that_is_full_is_75_and_nothing_is_left() {
    let bed = Bed::new(
        16,
        "CREATE TABLE big AS SELECT md5(g::text) || md5((-g)::text) AS v FROM generate_series(1, 20000) g",
    )
    .await;
    let Some(_small) = Small::mounted(&bed.store()) else { return };
    let done = bed.backup(&[]).await.exits(75);
    assert!(
        done.stderr.contains("No space left on device") || done.stderr.contains("disk"),
        "{}",
        done.told()
    );
    bed.assert_empty(&done.told());
}

#[tokio::test]
async fn names_and_encodings_that_are_unusual_are_backed_up_as_they_are() {
    let server = Server::major(16);
    let latin = server
        .database_with("a=b 'c\" Año", "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
        .await;
    latin.sql("CREATE TABLE t AS SELECT chr(233) AS v").await;
    let bed = Bed::of(latin);
    bed.backup(&[]).await.succeeds();
    let (folder, manifest) = bed.manifests(Kind::Database).pop().unwrap();
    assert_eq!(
        (manifest.source.encoding.as_str(), manifest.settings["client_encoding"].as_str()),
        ("LATIN1", "UTF8")
    );
    let proof: Proof = serde_json::from_slice(&bed.opened(&format!("{folder}proof.age"), None)).unwrap();
    assert_eq!(proof.database, bed.database.name());
    let archive = bed.opened(&format!("{folder}dump.pgc.zst.age"), Some(Codec::Zstd));
    assert!(archive.windows(3).any(|part| part == "é\n".as_bytes()));

    let ascii = server
        .database_with("ascii", "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
        .await;
    ascii.sql("CREATE TABLE t AS SELECT E'\\xe9'::text AS v").await;
    let bed = Bed::of(ascii);
    bed.backup(&[]).await.succeeds();
    let (_, manifest) = bed.manifests(Kind::Database).pop().unwrap();
    assert_eq!((manifest.settings["client_encoding"].as_str(), manifest.counts.rows), ("SQL_ASCII", 1));
}

#[tokio::test]
async fn a_dry_run_looks_and_touches_nothing() {
    let bed = Bed::new(16, TABLES).await;
    let done = bed.backup(&["--dry-run"]).await.succeeds().json();
    assert_eq!((done["dry_run"].as_bool(), done["folder"].as_str()), (Some(true), Some("hr/")));
    assert!(!bed.store().exists());
    let unknown = bed.sankofa.run(&["backup", "hrr"]).await.exits(78);
    assert!(unknown.stderr.contains("Did you mean hr?"), "{}", unknown.told());
}

#[tokio::test]
async fn a_monitor_is_told_of_start_success_and_failure_and_its_url_is_kept_quiet() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/MARKED-check", listener.local_addr().unwrap());
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
    let here = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut wire, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut head = vec![0; 4096];
            let count = wire.read(&mut head).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&head[..count]).lines().next().unwrap_or_default().to_owned();
            here.lock().unwrap().push(line);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = wire.write_all(answer.as_bytes()).await;
        }
    });
    let bed = Bed::new(16, TABLES).await;
    let done = bed.backup(&["--ping", &url, "-vv"]).await.succeeds();
    assert!(!done.told().replace(&url, "").contains("MARKED"), "{}", done.told());
    let no_programs = Sankofa::new()
        .file("sankofa.yaml", bed.sankofa.read("sankofa.yaml"))
        .connection_uri("src", "postgres://nobody:x@127.0.0.1:1/none")
        .env("SANKOFA_PING", &url);
    no_programs.run(&["backup", "hr"]).await.exits(75);
    let lines = heard.lock().unwrap().clone();
    let of = |end: &str| format!("GET /MARKED-check{end} HTTP/1.1");
    assert_eq!(lines, [of("/start"), of(""), of("/start"), of("/fail")]);
    let gone = bed.backup(&["--ping", "http://127.0.0.1:1/MARKED", "--run", "x"]).await.succeeds();
    assert!(gone.stderr.contains("the monitor of --ping was not reached"), "{}", gone.told());
    assert!(!gone.stderr.contains("MARKED"), "{}", gone.told());
}
