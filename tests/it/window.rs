//! Nothing is missed, nothing is read for nothing: watermarks against real transactions.

use std::time::Duration;

use crate::pair::*;
use crate::support::*;

const STAMPED: &str =
    "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), v text)";
const BY_U: &str = "tables: {public.t: {mode: incremental, replication_key: u}}";
const BY_ID: &str = "tables: {public.t: {mode: append, replication_key: id}}";
const BY_XMIN: &str = "tables: {public.t: {mode: incremental, replication_key: xmin}}";

/// T1 stamps and stays open, T2 stamps later and commits, a run, T1 commits, a run.
async fn late_commit(table: &str, pipeline: &str, early: &str, later: &str) {
    let server = Server::with_settings(16, &[]); // alone: other tests' transactions would hold us back
    let pair = Pair::on(&server, &server, table, pipeline).await;
    pair.sync(&[]).await.succeeds();
    let open = pair.source.connect().await;
    open.batch_execute(&format!("BEGIN; {early}")).await.unwrap();
    pair.source.sql(later).await;
    pair.sync(&[]).await.succeeds();
    open.batch_execute("COMMIT").await.unwrap();
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(
        pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await,
        "1,2",
        "{}",
        done.told()
    );
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "inserted"), figure(&done, "updated")), (0, 0));
    assert_eq!(reason(&done), "");
}

#[tokio::test]
async fn a_row_stamped_before_and_committed_after_a_run_arrives_with_the_next() {
    late_commit(STAMPED, BY_U, "INSERT INTO t VALUES (1, now(), 'late')", "INSERT INTO t VALUES (2)").await;
}

#[tokio::test]
async fn the_same_with_a_timestamp_written_in_a_zone_of_its_own() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, u timestamp NOT NULL)";
    let pipeline = "tables: {public.t: {mode: incremental, replication_key: u, timezone: America/New_York}}";
    let stamp =
        |id| format!("INSERT INTO t VALUES ({id}, clock_timestamp() AT TIME ZONE 'America/New_York')");
    late_commit(table, pipeline, &stamp(1), &stamp(2)).await;
}

#[tokio::test]
async fn the_same_with_a_date() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, u date NOT NULL)";
    let pipeline = "tables: {public.t: {mode: incremental, replication_key: u, timezone: UTC}}";
    late_commit(table, pipeline, "INSERT INTO t VALUES (1, now())", "INSERT INTO t VALUES (2, now())").await;
}

#[tokio::test]
async fn an_integer_committed_after_a_greater_one_arrives_with_the_next_run() {
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    late_commit(table, BY_ID, "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)").await;
}

#[tokio::test]
async fn an_integer_taken_before_a_run_and_written_after_it_arrives_with_the_next() {
    // As object mappers do: SELECT nextval first, INSERT later; the transaction has no id meanwhile.
    let table = "CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE s";
    let server = Server::with_settings(16, &[]);
    let pair = Pair::on(&server, &server, table, BY_ID).await;
    pair.source.sql("INSERT INTO t SELECT nextval('s') FROM generate_series(1, 5)").await;
    pair.sync(&[]).await.succeeds();
    let open = pair.source.connect().await;
    open.batch_execute("BEGIN; SELECT nextval('s')").await.unwrap();
    pair.source.sql("INSERT INTO t SELECT nextval('s')").await;
    pair.sync(&[]).await.succeeds();
    open.batch_execute("INSERT INTO t VALUES (6); COMMIT").await.unwrap();
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await, "1,2,3,4,5,6,7");
}

#[tokio::test]
async fn updates_without_a_column_of_their_own_are_found_by_xmin() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 1000) g";
    let server = Server::with_settings(16, &[]);
    let pair = Pair::on(&server, &server, table, BY_XMIN).await;
    pair.sync(&[]).await.succeeds();
    let open = pair.source.connect().await;
    open.batch_execute("BEGIN; UPDATE t SET v = 'late' WHERE id = 7").await.unwrap();
    pair.source.sql("UPDATE t SET v = 'b' WHERE id <= 5").await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "updated"), reason(&done).as_str()), (5, ""));
    open.batch_execute("COMMIT").await.unwrap();
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(figure(&done, "updated"), 1);
    assert!(figure(&done, "read") < 20, "{}", done.told());
    for rewrite in ["VACUUM FULL t", "CLUSTER t USING t_pkey", "VACUUM (FREEZE) t", "VACUUM (FULL, FREEZE) t"]
    {
        pair.source.sql(rewrite).await;
        pair.source.sql("UPDATE t SET v = v || 'x' WHERE id = 9").await;
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(figure(&done, "updated"), 1, "{rewrite}: {}", done.told());
    }
    let same = "SELECT md5(string_agg(id || v, ',' ORDER BY id)) FROM";
    let there = pair.there(&format!("{same} w.t")).await;
    assert_eq!(there, lines(&pair.source, &format!("{same} t")).await);
}

#[tokio::test]
async fn a_transaction_counter_that_went_back_means_a_full_read_that_says_why() {
    // What pg_resetwal, or a restore of an old copy under the same identifier, leaves behind.
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";
    let pair = Pair::new(table, BY_XMIN).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("UPDATE t SET v = 'b'").await;
    let ahead = "UPDATE sankofa.table_state SET watermark = watermark || '{\"xmax\": 8589934592, \"value\": 8589934592}'";
    pair.warehouse.sql(ahead).await;
    let done = pair.sync(&[]).await.succeeds();
    assert!(reason(&done).contains("transaction counter went back"), "{}", done.told());
    assert_eq!(pair.there("SELECT v FROM w.t").await, "b");
    let promoted = "UPDATE sankofa.table_state SET watermark = watermark || '{\"timeline\": 9}'";
    pair.warehouse.sql(promoted).await;
    assert!(reason(&pair.sync(&[]).await.succeeds()).contains("promoted"));
}

#[tokio::test]
async fn a_transaction_counter_moved_by_pg_resetwal_means_a_full_read_that_says_why() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 100) g";
    let server = Server::with_settings(16, &[]);
    let pair = Pair::on(&server, &Server::major(17), table, BY_XMIN).await;
    pair.sync(&[]).await.succeeds();
    for (epoch, why) in [("1", "transactions"), ("0", "transaction counter went back")] {
        server.stop(Stop::Fast);
        server.reset_wal(&["-e", epoch]);
        server.start();
        pair.source.sql(&format!("UPDATE t SET v = 'epoch {epoch}' WHERE id = 7")).await;
        let done = pair.sync(&[]).await.succeeds();
        assert!(reason(&done).contains(why), "epoch {epoch}: {}", done.told());
        assert_eq!((figure(&done, "read"), figure(&done, "updated")), (100, 1), "{}", done.told());
        assert_eq!(pair.there("SELECT v FROM w.t WHERE id = 7").await, format!("epoch {epoch}"));
        pair.source.sql("UPDATE t SET v = v || '!' WHERE id = 8").await;
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!((reason(&done).as_str(), figure(&done, "updated")), ("", 1), "{}", done.told());
    }
}

#[tokio::test]
async fn while_a_prepared_transaction_is_open_its_rows_are_waited_for() {
    let server = Server::with_settings(15, &[("max_prepared_transactions", "2")]);
    let pair = Pair::on(&server, &server, STAMPED, BY_U).await;
    pair.source.sql("INSERT INTO t VALUES (1)").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("BEGIN; INSERT INTO t VALUES (2, now()); PREPARE TRANSACTION 'held'").await;
    pair.source.sql("INSERT INTO t VALUES (3)").await;
    let done = pair.sync(&[]).await.succeeds();
    says(&done, &["a prepared transaction is open"]);
    pair.sync(&[]).await.succeeds();
    pair.source.sql("COMMIT PREPARED 'held'").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await, "1,2,3");
}

#[tokio::test]
async fn on_a_standby_the_watermark_stays_while_the_primary_has_open_transactions() {
    let primary = Server::with_settings(16, &[]);
    let standby = primary.standby();
    let mut pair = Pair::on(&primary, &Server::major(17), STAMPED, BY_U).await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_through(standby.port()));
    pair.source.sql("INSERT INTO t VALUES (1)").await;
    standby.catch_up(&primary).await;
    pair.sync(&[]).await.succeeds();
    let with_id = pair.source.connect().await;
    with_id.batch_execute("BEGIN; INSERT INTO t VALUES (2, now())").await.unwrap();
    let without_id = pair.source.connect().await;
    without_id.batch_execute("BEGIN; SELECT now()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    pair.source.sql("INSERT INTO t VALUES (3)").await;
    standby.catch_up(&primary).await;
    pair.sync(&[]).await.succeeds();
    without_id.batch_execute("INSERT INTO t VALUES (4, now()); COMMIT").await.unwrap();
    pair.source.sql("INSERT INTO t VALUES (5)").await;
    standby.catch_up(&primary).await;
    pair.sync(&[]).await.succeeds();
    with_id.batch_execute("COMMIT").await.unwrap();
    standby.catch_up(&primary).await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await, "1,2,3,4,5");
}

#[tokio::test]
async fn a_read_that_a_standby_cancels_ends_right_or_with_75_and_nothing_half_done() {
    let primary = Server::with_settings(16, &[("autovacuum", "off")]);
    let standby =
        primary.standby_with(&[("max_standby_streaming_delay", "0"), ("hot_standby_feedback", "off")]);
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g";
    let mut pair =
        Pair::on(&primary, &Server::major(17), table, "tables: {public.t: {mode: full_refresh}}").await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_through(standby.port()));
    standby.catch_up(&primary).await;
    let run = pair.sankofa.spawn(&["sync", "p"]);
    tokio::time::sleep(Duration::from_millis(150)).await;
    pair.source.sql("DELETE FROM t WHERE id > 30000").await;
    pair.source.sql("VACUUM t").await;
    let done = run.wait().await;
    let loaded = pair.there("SELECT to_regclass('w.t')").await;
    match done.code() {
        Some(0) => {
            assert!(["30000", "60000"].contains(&pair.there("SELECT count(*) FROM w.t").await.as_str()))
        }
        Some(75) => {
            assert_eq!(loaded, "-");
            says(&done, &["standby"]);
        }
        _ => panic!("{}", done.told()),
    }
    standby.catch_up(&primary).await;
    pair.sync(&["--allow-deletes"]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE _sankofa_deleted_at IS NULL").await, "30000");
}

#[tokio::test]
async fn a_source_role_that_cannot_see_open_transactions_is_refused_for_keys_by_value() {
    let mut pair = Pair::new(STAMPED, BY_U).await;
    let role = pair.source.server().role("blind", "").await;
    pair.source.sql(&format!("GRANT SELECT ON t TO {role}")).await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_as(&role));
    let done = pair.sync(&[]).await.exits(77);
    says(&done, &["pg_read_all_stats"]);
    pair.pipeline("tables: {public.t: {mode: full_refresh}}");
    pair.sync(&[]).await.succeeds();
    pair.source.sql(&format!("GRANT pg_read_all_stats TO {role}")).await;
    pair.pipeline(BY_U);
    pair.sync(&[]).await.succeeds();
}

#[tokio::test]
async fn of_sixty_rows_of_one_microsecond_none_is_lost_and_none_doubled() {
    let stamp = "SELECT g, '2024-05-05 05:05:05.123456+00' FROM generate_series";
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.source.sql(&format!("INSERT INTO t (id, u) {stamp}(1, 30) g")).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql(&format!("INSERT INTO t (id, u) {stamp}(31, 60) g")).await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "inserted"), figure(&done, "unchanged")), (30, 30));
    assert_eq!(pair.there("SELECT count(*), count(DISTINCT id) FROM w.t").await, "60|60");
}

#[tokio::test]
async fn a_second_run_over_an_unchanged_table_writes_no_row_and_next_to_no_log() {
    let server = Server::with_settings(17, &[("autovacuum", "off")]);
    let rows = "INSERT INTO t SELECT g, now(), repeat('x', 100) FROM generate_series(1, 20000) g";
    for pipeline in [BY_U, BY_XMIN, "tables: {public.t: {mode: full_refresh}}"] {
        let pair = Pair::on(&Server::major(17), &server, &format!("{STAMPED}; {rows}"), pipeline).await;
        pair.sync(&[]).await.succeeds();
        pair.warehouse.sql("CHECKPOINT").await;
        pair.sync(&[]).await.succeeds(); // the ledger's own pages are logged whole once
        let (before, at) = (pair.versions().await, pair.there("SELECT pg_current_wal_lsn()").await);
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(
            (figure(&done, "inserted"), figure(&done, "updated"), figure(&done, "deleted")),
            (0, 0, 0)
        );
        let written = pair.there(&format!("SELECT pg_current_wal_lsn() - '{at}'")).await;
        assert!(written.parse::<f64>().unwrap() < 400_000.0, "{pipeline}: {written} bytes of WAL");
        assert_eq!(pair.versions().await, before, "{pipeline}");
    }
}

#[tokio::test]
async fn rows_without_a_replication_key_are_loaded_each_time_or_refused() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz, v text);
                 INSERT INTO t VALUES (1, now(), 'a'), (2, NULL, 'a')";
    let pair = Pair::new(table, BY_U).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("UPDATE t SET v = 'b'").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT v FROM w.t WHERE id = 2").await, "b");
    pair.pipeline("tables: {public.t: {mode: incremental, replication_key: u, null_keys: refuse}}");
    pair.source.sql("INSERT INTO t VALUES (3, now(), 'new')").await;
    let done = pair.sync(&[]).await.exits(65);
    says(&done, &["1 rows have no replication key"]);
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "2");
}

#[tokio::test]
async fn a_row_stamped_within_the_lookback_is_found_and_one_before_it_is_not() {
    let pair =
        Pair::new(STAMPED, "tables: {public.t: {mode: incremental, replication_key: u, lookback: 10m}}")
            .await;
    pair.source.sql("INSERT INTO t VALUES (1)").await;
    pair.sync(&[]).await.succeeds();
    pair.source
        .sql("INSERT INTO t VALUES (2, now() - interval '9 min'), (3, now() - interval '11 min')")
        .await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await, "1,2");
}

#[tokio::test]
async fn a_lookback_of_the_other_unit_is_refused_as_the_tables_own_and_ignored_as_a_default() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1)";
    let pair =
        Pair::new(table, "tables: {public.t: {mode: append, replication_key: id, lookback: 10m}}").await;
    pair.sync(&[]).await.exits(78);
    pair.pipeline("defaults: {lookback: 10m}\ntables: {public.t: {mode: append, replication_key: id}}");
    pair.sync(&[]).await.succeeds();
    pair.sync(&[]).await.succeeds();
    pair.pipeline("tables: {public.t: {mode: append, replication_key: id, lookback: 100}}");
    pair.sync(&[]).await.succeeds();
    pair.sync(&[]).await.succeeds();
}

#[tokio::test]
async fn a_clock_that_went_back_and_another_server_mean_a_full_read_that_says_why() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.source.sql("INSERT INTO t VALUES (1)").await;
    pair.sync(&[]).await.succeeds();
    for (change, why) in [
        ("'{clock}', to_jsonb((watermark->>'clock')::int8 + 3600000000)", "clock went back"),
        ("'{system}', '7'", "another server"),
    ] {
        let set = format!("UPDATE sankofa.table_state SET watermark = jsonb_set(watermark, {change})");
        pair.warehouse.sql(&set).await;
        let done = pair.sync(&[]).await.succeeds();
        assert!(reason(&done).contains(why), "{}", done.told());
        assert_eq!(reason(&pair.sync(&[]).await.succeeds()), "");
    }
}

#[tokio::test]
async fn a_backfill_reads_a_half_open_window_any_number_of_times_and_leaves_the_watermark_alone() {
    let pair = Pair::new(STAMPED, BY_U).await;
    let rows = "INSERT INTO t SELECT g, '2024-01-01 00:00:00+00'::timestamptz + g * interval '1 day', 'a' FROM generate_series(0, 9) g";
    pair.source.sql(rows).await;
    pair.sync(&[]).await.succeeds();
    let state = "SELECT watermark_text FROM sankofa.table_state";
    let watermark = pair.there(state).await;
    pair.source.sql("UPDATE t SET v = 'b'").await;
    let window = ["--from", "2024-01-03", "--to", "2024-01-06"];
    let done = pair.sync(&window).await.succeeds();
    assert_eq!((figure(&done, "read"), figure(&done, "updated")), (3, 3));
    assert_eq!(
        pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t WHERE v = 'b'").await,
        "2,3,4"
    );
    assert_eq!(figure(&pair.sync(&window).await.succeeds(), "unchanged"), 3);
    assert_eq!(pair.there(state).await, watermark);
}

#[tokio::test]
async fn a_backfill_of_a_table_that_is_not_incremental_is_refused() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1)";
    for mode in [
        "{mode: full_refresh}",
        "{mode: append, replication_key: id}",
        "{mode: incremental, replication_key: xmin}",
    ] {
        let pair = Pair::new(table, &format!("tables: {{public.t: {mode}}}")).await;
        pair.sync(&[]).await.succeeds();
        pair.sync(&["--from", "1", "--to", "5"]).await.exits(78);
    }
}

#[tokio::test]
async fn a_backfill_is_refused_when_rows_outside_its_window_would_be_wrong_afterwards() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.source.sql("INSERT INTO t VALUES (1, '2024-01-01', 'secret'), (2, '2024-02-01', 'secret')").await;
    pair.sync(&[]).await.succeeds();
    let window = ["--from", "2024-02-01", "--to", "2024-03-01"];
    pair.pipeline("tables: {public.t: {mode: incremental, replication_key: u, mask: {v: redact}}}");
    pair.sync(&window).await.exits(65);
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT DISTINCT v FROM w.t").await, "[redacted]");
    pair.source.sql("ALTER TABLE t ADD extra int DEFAULT 7").await;
    pair.sync(&window).await.exits(65);
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT DISTINCT extra FROM w.t").await, "7");
}

#[tokio::test]
async fn a_transaction_open_since_before_the_last_run_is_named_with_its_process_and_age() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.source.sql("INSERT INTO t VALUES (1)").await;
    let forgotten = pair.source.connect().await;
    forgotten.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let pid: i32 = forgotten.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    pair.sync(&[]).await.succeeds();
    let done = pair.sync(&[]).await.succeeds();
    says(&done, &["the watermark is pinned", &format!("process {pid}"), "idle in transaction"]);
}

#[tokio::test]
async fn locks_that_hold_up_somebody_for_five_seconds_are_let_go_with_75() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', 5000) FROM generate_series(1, 40000) g";
    let pair = Pair::new(table, "tables: {public.t: {mode: full_refresh}}").await;
    // A warehouse that takes its time: whoever copies waits for this lock.
    let slow = Deed::Trickle { bytes: 20_000, pause: Duration::from_millis(20) };
    let proxy = Proxy::to(pair.source.server().port()).rule(Rule::on(Direction::FromServer, 'd').after(slow));
    let Pair { source, warehouse, sankofa } = pair;
    let sankofa = sankofa.connection_uri("src", &source.connection_uri_through(proxy.port()));
    let pair = Pair { source, warehouse, sankofa };
    let run = pair.sankofa.spawn(&["sync", "p"]);
    let holds = "SELECT count(*) FROM pg_locks l WHERE relation = 't'::regclass AND mode = 'AccessShareLock'";
    while pair.source.value(holds).await == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let client = pair.source.connect().await;
    // To the end, the copy would take more than three minutes.
    client.batch_execute("SET lock_timeout = '60s'; ALTER TABLE t ADD COLUMN w int").await.unwrap();
    let done = run.wait().await.exits(75);
    says(&done, &["our locks have held up"]);
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
}

#[tokio::test]
async fn a_snapshot_that_a_slow_warehouse_keeps_for_too_long_is_let_go_with_75() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', 5000) FROM generate_series(1, 4000) g";
    let pair = Pair::new(table, "max_snapshot_age: 2s\ntables: {public.t: {mode: full_refresh}}").await;
    let slow = Deed::Trickle { bytes: 20_000, pause: Duration::from_millis(20) };
    let proxy =
        Proxy::to(pair.warehouse.server().port()).rule(Rule::on(Direction::FromClient, 'd').after(slow));
    let Pair { source, warehouse, sankofa } = pair;
    let sankofa = sankofa.connection_uri("wh", &warehouse.connection_uri_through(proxy.port()));
    let mut pair = Pair { source, warehouse, sankofa };
    // To the end, the copy would take 20 s.
    says(&pair.sync(&[]).await.exits(75), &["max_snapshot_age", "2 s", "`extract` does not wait"]);
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
    let held = "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND application_name LIKE 'sankofa%'
        AND datname = current_database()";
    assert_eq!(pair.source.value(held).await, "0", "nothing holds VACUUM back any more");
    pair.sankofa = pair.sankofa.connection("wh", &pair.warehouse);
    let done = pair.sync(&[]).await.succeeds();
    assert!((1..20_000).contains(&done.json()["snapshot_ms"].as_u64().unwrap_or(0)), "{}", done.told());
}

#[tokio::test]
async fn a_table_locked_by_somebody_else_ends_with_75_that_names_it_and_them() {
    let mut pair =
        Pair::new("CREATE TABLE t (id int PRIMARY KEY)", "tables: {public.t: {mode: full_refresh}}").await;
    let role = pair.source.server().role("plain", "").await; // sees nobody's application_name
    pair.source.sql(&format!("GRANT SELECT ON t TO {role}")).await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_as(&role));
    let holder = pair.source.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let done = pair.sync(&[]).await.exits(75);
    says(&done, &["public.t", &pid.to_string()]);
}

#[tokio::test]
async fn in_the_hour_that_repeats_in_autumn_the_watermark_waits_at_its_first_reading() {
    use sankofa::etl::source::{self, Options};
    let pair = Pair::new("CREATE TABLE t (id int)", BY_U).await;
    let connection = sankofa::secret::Connection::parse("src", &pair.source.connection_uri()).unwrap();
    let options = Options {
        application_name: "test".into(),
        statement_timeout: Duration::from_secs(60),
        readers: 1,
        raw_encoding: false,
        max_snapshot_age: None,
        needs_activity: false,
    };
    let names = [sankofa::table::TableName::new("public", "t")];
    let cancelling = sankofa::etl::cancel::Cancelling::on(&sankofa::stop::StopSignal::new());
    let source = source::open(&connection, &names, &options, &cancelling).await.unwrap();
    let local = async |utc: &str, zone: &str| {
        let of = |sql: &str| format!("SELECT (extract(epoch FROM {sql} - '2000-01-01') * 1000000)::bigint");
        let micros = pair.source.value(&of(&format!("timestamp '{utc}'"))).await.parse().unwrap();
        let found = source.local(micros, zone).await.unwrap();
        pair.source
            .value(&format!("SELECT timestamp '2000-01-01' + {found} * interval '1 microsecond'"))
            .await
    };
    // 01:50 in New York, first time: at 01:00 the clocks show it again.
    assert_eq!(local("2024-11-03 05:50:00", "America/New_York").await, "2024-11-03 01:00:00");
    assert_eq!(local("2024-11-03 06:10:00.000001", "America/New_York").await, "2024-11-03 01:10:00.000001");
    assert_eq!(local("2024-11-03 03:30:00", "America/New_York").await, "2024-11-02 23:30:00");
    assert_eq!(local("2024-04-06 14:50:00", "Australia/Lord_Howe").await, "2024-04-07 01:30:00");
    assert_eq!(local("2024-03-10 07:10:00", "America/New_York").await, "2024-03-10 03:10:00");
    assert_eq!(local("2024-11-03 05:50:00", "Africa/Accra").await, "2024-11-03 05:50:00");
}
