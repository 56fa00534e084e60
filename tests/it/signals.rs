//! A signal in each phase of a run: gone in time, nothing half done, the ledger told.

use std::time::{Duration, Instant};

use crate::pair::*;
use crate::support::*;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL, v text);
    INSERT INTO t SELECT g, now() - g * interval '1 s', 'a' FROM generate_series(1, 50) g";
const BY_U: &str = "tables: {public.t: {mode: incremental, replication_key: u}}";
const OURS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sankofa/%' AND datname = current_database()";

/// Something that holds a run up in one phase, and the query that is then seen.
struct Hold {
    phase: &'static str,
    in_source: bool,
    sql: &'static str,
}

const HOLDS: [Hold; 3] = [
    // A reader waits for this lock.
    Hold { phase: "reading", in_source: true, sql: "LOCK TABLE t IN ACCESS EXCLUSIVE MODE" },
    // The merge waits for this row.
    Hold { phase: "merging", in_source: false, sql: "UPDATE w.t SET v = v WHERE id = 7" },
    // The ledger's last word, in the same transaction, waits for this row.
    Hold { phase: "committing", in_source: false, sql: "LOCK TABLE sankofa.table_state IN EXCLUSIVE MODE" },
];

async fn signalled(hold: &Hold, signal: i32, code: i32) {
    let pair = Pair::new(TABLE, BY_U).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("UPDATE t SET v = 'b', u = now()").await;
    let before = pair.versions().await;
    let held = if hold.in_source { &pair.source } else { &pair.warehouse };
    let holder = held.connect().await;
    holder.batch_execute(&format!("BEGIN; {}", hold.sql)).await.unwrap();
    let result = pair.sankofa.folder().join("result.json");
    let mut args = vec!["sync", "p", "--run", "one"];
    args.push("-v");
    let runner = Sankofa::new()
        .file("sankofa.yaml", PROJECT)
        .file("pipelines/p.yaml", pair.sankofa.read("pipelines/p.yaml"))
        .connection("src", &pair.source)
        .connection("wh", &pair.warehouse)
        .env("SANKOFA_RESULT_FILE", result.to_str().unwrap());
    let running = runner.spawn(&args);
    let waits = format!("{OURS} AND wait_event_type = 'Lock'");
    let begun = Instant::now();
    while held.value(&waits).await == "0" && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waited = held.value(&waits).await;
    let begun = Instant::now();
    running.signal(signal);
    let done = running.wait().await;
    let told = format!("{}: {}", hold.phase, done.told());
    assert_ne!(waited, "0", "it did not wait: {told}");
    assert_eq!(done.code(), Some(code), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?} {told}", begun.elapsed());
    for database in [&pair.source, &pair.warehouse] {
        while database.value(OURS).await != "0" && begun.elapsed() < Duration::from_secs(4) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = lines(database, &OURS.replace("count(*)", "state, wait_event, query")).await;
        assert_eq!(left, "", "a session is left: {told}");
    }
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert_eq!(result["status"], "cancelled", "{told}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(pair.versions().await, before, "{told}");
    assert_eq!(
        pair.there("SELECT status FROM sankofa.run WHERE run_id = 'one'").await,
        "cancelled",
        "{told}"
    );
    pair.sync(&["--run", "one"]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*), min(v) FROM w.t").await, "50|b", "{told}");
}

#[tokio::test]
async fn a_signal_in_each_phase_ends_it_in_time_with_nothing_half_done_and_the_ledger_told() {
    for hold in &HOLDS {
        for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
            signalled(hold, signal, code).await;
        }
    }
}
