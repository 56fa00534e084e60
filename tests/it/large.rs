//! At least four gigabytes and the three real databases, through the binary, to B2 and back.
//!
//! Holds: every one is restored on a separate cluster and proven equal, in one go; no process of ours
//!        takes more than 128 MiB. Takes minutes and 12 GB: `make soak` runs it.

use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::*;
use std::time::{Duration, Instant};

const BUCKET: &str = "school-backups";
const MOST_KIB: u64 = 128 * 1024;

/// `DISK` tables of text, JSON and numbers: about 4.2 GB with their indexes.
const FILL: &str =
    "CREATE TABLE event AS SELECT i AS id, now() - (i * 37 % 100000000) * interval '1 second' AS at,
        (i * 7919) % 50000 AS student, md5(i::text) AS reference,
        jsonb_build_object('grade', i % 100, 'by', 'user' || i % 977, 'note', 'in week ' || i % 52) AS more
        FROM generate_series(1, 18000000::bigint) i;
    ALTER TABLE event ADD PRIMARY KEY (id);
    CREATE INDEX ON event (student);
    CREATE TABLE person AS SELECT i AS id, 'Name ' || i AS name, repeat('remark ', (i % 60)::int) AS remarks
        FROM generate_series(1, 4000000) i;
    ALTER TABLE person ADD PRIMARY KEY (id)";

/// The most memory that a process has had so far.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

async fn watched(sankofa: &Sankofa, args: &[&str]) -> (Finished, u64) {
    let running = sankofa.spawn(args);
    let pid = running.pid();
    let watching = tokio::spawn(async move {
        let mut peak = 0;
        while let now @ 1.. = peak_kib(pid) {
            peak = peak.max(now);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        peak
    });
    let done = running.wait().await.succeeds();
    (done, watching.await.expect("watching"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes and 12 GB: make soak"]
async fn four_gigabytes_and_the_real_databases_go_to_b2_and_come_back_equal() {
    let from = Server::new(16).setting("max_wal_size", "4GB").setting("log_statement", "none").start();
    let to = Server::new(17).setting("max_wal_size", "4GB").setting("log_statement", "none").start();
    let large = from.fresh_database("large").await;
    large.sql(FILL).await;
    let bytes: u64 = large.value("SELECT pg_database_size(current_database())").await.parse().unwrap();
    assert!(bytes >= 4_000_000_000, "{bytes}");
    let mut sources = vec![large];
    for which in Real::ALL {
        sources.extend(from.real_database(which).await);
    }
    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions::default());
    let key = b2.key(KeySpec::all());
    let (identity, recipient) = crate::stored::key_pair();
    let databases: String = (0..sources.len())
        .map(|number| format!("    db{number}: {{connection: source{number}}}\n"))
        .collect();
    let programs = client_program(16, "pg_dump").parent().unwrap().display().to_string();
    let target = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", to.port());
    let mut sankofa = Sankofa::new()
        .connection_uri("offsite", &b2.connection_uri(&key))
        .connection_uri("target", &target)
        .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
        .env("SANKOFA_PG_BIN", &programs)
        .file(
            "sankofa.yaml",
            format!(
                "version: 1\nwarehouse: {{connection: target}}\nstores: {{b2: {{b2: {{connection: offsite, bucket: {BUCKET}, prefix: prod}}}}}}\n\
                 backups:\n  defaults: {{store: b2, encrypt_to: [{recipient}]}}\n  databases:\n{databases}"
            ),
        );
    for (number, source) in sources.iter().enumerate() {
        sankofa = sankofa.connection(&format!("source{number}"), source);
    }
    for number in 0..sources.len() {
        let (name, begun) = (format!("db{number}"), Instant::now());
        let (_, backing_up) = watched(&sankofa, &["backup", &name]).await;
        let (backed_up, begun) = (begun.elapsed(), Instant::now());
        let (done, restoring) =
            watched(&sankofa, &["restore", &name, "--into", "target", "--database", &name]).await;
        assert_eq!(done.json()["proven"], true, "{}", done.told());
        eprintln!(
            "{name}: backup {backed_up:?}, {backing_up} KiB; restore {:?}, {restoring} KiB; {}",
            begun.elapsed(),
            done.json()["rows"]
        );
        assert!(backing_up <= MOST_KIB && restoring <= MOST_KIB, "{name}: {backing_up}, {restoring} KiB");
    }
}
