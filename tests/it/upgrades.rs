//! What older versions have left is read by this one: kept files, an older ledger, a run that is on.
//!
//! In:    `tests/fixtures/kept/<version>`, each written by the version that had it (see its README).
//! Holds: a kept file is never written again: for as long as a backup may live, it must be read.

use crate::pair::*;
use crate::support::*;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every version that was ever given out.
const VERSIONS: [u32; 1] = [1];
/// The migrations that were given out, and their SHA-256: they have run somewhere, and never change.
const MIGRATIONS: [(&str, &str); 3] = [
    (
        include_str!("../../src/ledger/migrations/0001.sql"),
        "625c0149a1bb3f79a01e0147cafbdc435312f24b666eaad820a76203275e0af8",
    ),
    (
        include_str!("../../src/ledger/migrations/0002.sql"),
        "87344043bc2fbaf20e7e3dc11e93f8c74a16b07cdabae5f69bcc6e69125addca",
    ),
    (
        include_str!("../../src/ledger/migrations/0003.sql"),
        "dcb94702b29bb945c7111fbf72167f89af432a1ab74cf82deab6dea5b93cf5c4",
    ),
];

fn kept(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/kept/{version}"))
}

/// Copies a folder: a kept one is not written to.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

fn project(recipient: &str) -> String {
    format!(
        "version: 1\nsecrets: [environment]\nstores: {{here: {{directory: store}}}}\n\
         backups: {{databases: {{hr: {{connection: hr_db, store: here, encrypt_to: [{recipient}]}}}}}}\ndrill: {{connection: target}}\n"
    )
}

const SUM: &str = "SELECT count(*) || ' ' || md5(string_agg(t::text, '' ORDER BY id)) FROM public.employee t";
const EMPLOYEES: &str = "CREATE TABLE public.employee (id int PRIMARY KEY, name text, hired date);
    INSERT INTO public.employee SELECT g, 'person ' || g, date '2020-01-01' + g FROM generate_series(1, 200) g;
    CREATE INDEX ON public.employee (hired)";

/// Identity and recipient of the kept backups.
fn identity() -> (String, String) {
    let text = std::fs::read_to_string(kept(1).join("identity.txt")).unwrap();
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
    (text.clone(), line("# public key: "))
}

#[tokio::test]
#[ignore = "writes tests/fixtures/kept/<version> when a version is given out"]
async fn keep_what_this_version_writes() {
    let to = PathBuf::from(std::env::var("KEEP_IN").expect("KEEP_IN: the folder to write"));
    let source = Server::major(15).fresh_database("kept").await;
    source.sql(EMPLOYEES).await;
    let programs = client_program(15, "pg_dump").parent().unwrap().display().to_string();
    let (identity, recipient) = identity();
    let sankofa = Sankofa::new()
        .connection("hr_db", &source)
        .connection("target", &Server::major(16).fresh_database("kept").await)
        .env("SANKOFA_PG_BIN", &programs)
        .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
        .file("sankofa.yaml", project(&recipient))
        .file(
            "pipelines/hr.yaml",
            "source: hr_db\nschema: hr\ntables: {public.employee: {mode: full_refresh}}\n",
        );
    sankofa.run(&["backup", "hr"]).await.succeeds();
    sankofa.run(&["drill", "hr"]).await.succeeds();
    sankofa.run(&["config", "compile", "--out", "locks"]).await.succeeds();
    copy(&sankofa.folder().join("store"), &to.join("store"));
    std::fs::copy(sankofa.folder().join("locks/hr.lock.json"), to.join("hr.lock.json")).unwrap();
    std::fs::write(to.join("sum.txt"), source.value(SUM).await).unwrap();
}

#[tokio::test]
async fn a_backup_of_every_older_version_is_listed_verified_restored_and_proven() {
    for version in VERSIONS {
        let (identity, recipient) = identity();
        let programs = client_program(15, "pg_restore").parent().unwrap().display().to_string();
        let target = Server::new(15).start();
        let sankofa = Sankofa::new()
            .connection("target", &target.fresh_database("kept").await)
            .env("SANKOFA_PG_BIN", &programs)
            .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
            .file("sankofa.yaml", project(&recipient));
        copy(&kept(version).join("store"), &sankofa.folder().join("store"));
        let listed = sankofa.run(&["backups", "list"]).await.succeeds().json();
        let hr = listed["backups"].as_array().unwrap().iter().find(|one| one["database"] == "hr");
        assert_eq!(hr.unwrap_or_else(|| panic!("{listed}"))["proven"], true, "its drill is known too");
        sankofa.run(&["backups", "verify", "--all"]).await.succeeds();
        let done =
            sankofa.run(&["restore", "hr", "--into", "target", "--database", "hr", "--no-owner"]).await;
        assert!(done.stderr.contains("proven equal"), "{}", done.told());
        done.succeeds();
        let wanted = std::fs::read_to_string(kept(version).join("sum.txt")).unwrap();
        assert_eq!(target.existing("hr").value(SUM).await, wanted);
    }
}

#[tokio::test]
async fn a_lock_of_every_older_version_still_runs() {
    for version in VERSIONS {
        let text = std::fs::read_to_string(kept(version).join("hr.lock.json")).unwrap();
        let lock: Value = serde_json::from_str(&text).unwrap();
        let inline = lock["environments"]["default"]["pipeline"].to_string();
        let server = Server::major(17);
        let (source, warehouse) = (server.fresh_database("kept").await, server.fresh_database("kept").await);
        source.sql(EMPLOYEES).await;
        let sankofa = Sankofa::new()
            .connection("hr_db", &source)
            .connection("wh", &warehouse)
            .file("sankofa.yaml", "version: 1\nsecrets: [environment]\nwarehouse: {connection: wh}\n")
            .env("SANKOFA_PIPELINE", &inline);
        sankofa.run(&["sync", "hr", "--run", "r"]).await.succeeds();
        let there = warehouse.value("SELECT count(*)::text FROM hr.employee").await;
        assert_eq!(there, "200");
    }
}

#[test]
fn a_migration_that_was_given_out_never_changes() {
    for (number, (sql, sum)) in MIGRATIONS.iter().enumerate() {
        let found: String = Sha256::digest(sql).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, *sum, "migration {} has run in warehouses: add a new one", number + 1);
    }
}

/// Makes `warehouse` what version `version` has left: one run, `kept`, of `pipeline`.
pub async fn left_by(version: usize, warehouse: &Database, pipeline: &str) {
    for (sql, _) in &MIGRATIONS[..version] {
        warehouse.sql(sql).await;
    }
    warehouse
        .sql(&format!(
            "INSERT INTO sankofa.meta (schema_version, min_binary, environment) VALUES ({version}, '0.1.0', 'default');
             INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version, ended_at)
             VALUES ('{pipeline}', 'kept', 'sync', 'sync', 'published', '', '0.1.0', now())"
        ))
        .await;
}

#[tokio::test]
async fn a_ledger_of_every_older_version_is_upgraded_and_keeps_its_runs() {
    for version in 1..=MIGRATIONS.len() {
        let table = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
        let pair = Pair::new(table, "tables: {public.t: {mode: full_refresh}}").await;
        left_by(version, &pair.warehouse, "p").await;
        if version < sankofa::ledger::version().unsigned_abs() as usize {
            says(&pair.sync(&[]).await.exits(78), &["warehouse upgrade", &format!("version {version}")]);
        }
        pair.sankofa.run(&["warehouse", "upgrade"]).await.succeeds();
        says(&pair.sync(&["--run", "kept"]).await.succeeds(), &["already_done"]);
        pair.sync(&["--run", "new"]).await.succeeds();
        pair.sankofa.run(&["state", "show", "p"]).await.succeeds();
        assert_eq!(pair.there("SELECT run_id FROM sankofa.runs ORDER BY run_id").await, "kept\nnew");
    }
}

/// Waits until somebody waits for a lock in `database`.
async fn until_somebody_waits(database: &Database) {
    let waits = "SELECT count(*)::text FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while database.value(waits).await == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_run_that_is_on_during_an_upgrade_publishes_or_is_refused_with_nothing_changed() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old')";
    let pair = Pair::new(table, "tables: {public.t: {mode: full_refresh}}").await;
    pair.sync(&[]).await.succeeds();
    for (min_binary, code, wanted) in [("0.1.0", 0, "new"), ("99.0.0", 78, "new")] {
        let holder = pair.source.connect().await;
        holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let run = pair.sankofa.spawn(&["sync", "p", "--run", min_binary]);
        until_somebody_waits(&pair.source).await;
        // What `warehouse upgrade` of a newer version does meanwhile.
        let newer = format!(
            "UPDATE sankofa.meta SET schema_version = schema_version + 1, min_binary = '{min_binary}'"
        );
        pair.warehouse.sql(&newer).await;
        let said = if code == 0 { "new" } else { "too late" };
        holder.batch_execute(&format!("UPDATE t SET v = '{said}'; COMMIT")).await.unwrap();
        let done = run.wait().await.exits(code);
        if code != 0 {
            says(&done, &["needs sankofa 99.0.0", "Upgrade this binary"]);
        }
        assert_eq!(pair.there("SELECT v FROM w.t").await, wanted);
    }
}

#[tokio::test]
async fn an_upgrade_waits_for_a_run_that_is_publishing() {
    let pair = Pair::new("CREATE TABLE t (id int)", "tables: {public.t: {mode: full_refresh}}").await;
    left_by(1, &pair.warehouse, "p").await;
    let publishing = pair.warehouse.connect().await;
    publishing.batch_execute("BEGIN").await.unwrap();
    sankofa::ledger::hold(&publishing).await.unwrap();
    let upgrade = pair.sankofa.spawn(&["warehouse", "upgrade"]);
    until_somebody_waits(&pair.warehouse).await;
    let version = "SELECT schema_version FROM sankofa.meta";
    let seen = publishing.query_one(version, &[]).await.unwrap().get::<_, i32>(0);
    publishing.batch_execute("COMMIT").await.unwrap();
    upgrade.wait().await.succeeds();
    assert_eq!((seen, pair.there(version).await), (1, sankofa::ledger::version().to_string()));
}
