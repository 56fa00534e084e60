//! Once per run id; one run at a time; what a warehouse may be like.

use std::time::Duration;

use crate::pair::*;
use crate::stored::Disk;
use crate::support::*;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz DEFAULT clock_timestamp(), v text);
    INSERT INTO t SELECT g, clock_timestamp(), 'a' FROM generate_series(1, 10) g";
const BY_U: &str = "tables: {public.t: {mode: incremental, replication_key: u}}";

#[tokio::test]
async fn a_run_id_is_published_once_and_then_tells_what_it_did() {
    for id in ["nightly/2024-05-05", "../../etc/passwd", "with space and ünïcode 学", "a\\b'c\"d;--", "."]
    {
        let pair = Pair::new(TABLE, BY_U).await;
        let first = pair.steps(id, &[]).await.succeeds().json();
        pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp()").await;
        for command in ["extract", "validate", "load"] {
            let again = pair.command(command, &["--run", id]).await.succeeds().json();
            assert_eq!(again["status"], "already_done", "{id}");
            assert_eq!((&again["rows"], &again["tables"]), (&first["rows"], &first["tables"]), "{id}");
        }
        assert_eq!(pair.there("SELECT DISTINCT v FROM w.t").await, "a");
        let outside = std::fs::read_dir(pair.sankofa.folder()).unwrap().count();
        assert_eq!(outside, 3, "sankofa.yaml, pipelines, stage");
        says(&pair.sync(&["--run", id]).await.exits(2), &["begun by `extract`"]);
    }
    let pair = Pair::new(TABLE, BY_U).await;
    let first = pair.sync(&["--run", "one"]).await.succeeds().json();
    let again = pair.sync(&["--run", "one"]).await.succeeds().json();
    assert_eq!((&again["status"], &again["tables"]), (&"already_done".into(), &first["tables"]));
    pair.command("extract", &["--run", "one"]).await.exits(2);
}

#[tokio::test]
async fn a_run_id_that_is_too_long_or_has_control_characters_is_a_usage_error() {
    let pair = Pair::new(TABLE, BY_U).await;
    let long = "x".repeat(10_240);
    for id in [long.as_str(), "", "a\nb", "a\u{7f}b"] {
        pair.sync(&["--run", id]).await.exits(2);
    }
    let unicode = "学".repeat(83);
    pair.steps(&unicode, &[]).await.succeeds();
}

#[tokio::test]
async fn a_load_whose_base_has_moved_is_refused_and_names_who_moved_it() {
    let pair = Pair::new(TABLE, BY_U).await;
    pair.sync(&[]).await.succeeds();
    pair.command("extract", &["--run", "old"]).await.succeeds();
    pair.source.sql("UPDATE t SET v = 'new', u = clock_timestamp()").await;
    pair.sync(&["--run", "newer"]).await.succeeds();
    let before = pair.versions().await;
    says(&pair.command("load", &["--run", "old"]).await.exits(65), &["superseded by run newer"]);
    assert_eq!(pair.versions().await, before);
    pair.command("extract", &["--run", "old2"]).await.succeeds();
    pair.sankofa.run(&["state", "reset", "p", "--table", "public.t"]).await.succeeds();
    pair.command("load", &["--run", "old2"]).await.exits(65);
    assert_eq!(pair.versions().await, before);
}

#[tokio::test]
async fn what_a_crash_of_the_warehouse_has_emptied_is_copied_again_and_no_row_is_missed() {
    let warehouse = Server::new(17).start();
    let large = TABLE.replace("'a'", "repeat('a', 200)").replace("10)", "3000)");
    // A check that asks the rows, so that `validate` fills the staging tables that `load` finds there.
    let checked = BY_U.replace("u}", "u, checks: {sql: {none: \"SELECT 1 FROM {table} WHERE v IS NULL\"}}}");
    let pair = Pair::on(&Server::major(17), &warehouse, &large, &checked).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp()").await;
    for command in ["extract", "validate"] {
        pair.command(command, &["--run", "crash"]).await.succeeds();
    }
    warehouse.stop(Stop::Crash);
    warehouse.start();
    let done = pair.command("load", &["--run", "crash"]).await.succeeds();
    assert_eq!(figure(&done, "updated"), 3000);
    assert_eq!(pair.there("SELECT v, count(*) FROM w.t GROUP BY v").await, "b|3000");
}

#[tokio::test]
async fn a_missing_or_torn_stage_is_an_error_and_an_empty_one_is_not() {
    let pair = Pair::new(TABLE, BY_U).await;
    for command in ["validate", "load"] {
        let done = pair.command(command, &["--run", "none"]).await;
        assert_ne!(done.code(), Some(0), "{}", done.told());
        says(&done, &["extract"]);
    }
    pair.command("extract", &["--run", "torn"]).await.succeeds();
    let stage = pair.sankofa.folder().join("stage");
    let mut tried = 0;
    for file in files(&stage) {
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for torn in [
            Some(&whole[..whole.len() / 2]),
            Some(&whole[..whole.len() - 1]),
            Some(&flipped[..]),
            Some(&[][..]),
            None,
        ] {
            match torn {
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let done = pair.command("load", &["--run", "torn"]).await;
            assert!([Some(65), Some(75)].contains(&done.code()), "{file:?}: {}", done.told());
            assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
            tried += 1;
        }
        std::fs::write(&file, whole).unwrap();
    }
    assert!(tried >= 10);
    pair.command("validate", &["--run", "torn"]).await.succeeds();
    pair.command("load", &["--run", "torn"]).await.succeeds();
    pair.source.sql("CREATE TABLE e (id int PRIMARY KEY)").await;
    pair.pipeline("tables: {public.e: {mode: full_refresh}}");
    pair.steps("empty", &[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.e").await, "0");
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn an_encrypted_stage_opens_with_its_own_identity_only_and_holds_no_cell_in_clear() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'CANARYCELL' || g FROM generate_series(1, 100) g";
    let mut pair = Pair::new(table, "tables: {public.t: {mode: full_refresh}}").await;
    let (right, wrong) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let secret = |identity: &age::x25519::Identity| {
        secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned()
    };
    let stage = format!("{{store: local, encrypt_to: [{}], identity: stage_identity}}", right.to_public());
    pair.sankofa.write("sankofa.yaml", PROJECT.replace("{store: local}", &stage));
    pair.command("extract", &["--run", "r"]).await.succeeds();
    for file in files(&pair.sankofa.folder().join("stage")) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("CANARYCELL"), "{file:?}");
    }
    pair.command("load", &["--run", "r"]).await.exits(77);
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_STAGE_IDENTITY", "nonsense");
    let done = pair.command("load", &["--run", "r"]).await.exits(77);
    assert!(!done.told().contains("nonsense"));
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_STAGE_IDENTITY", &secret(&wrong));
    let done = pair.command("load", &["--run", "r"]).await.exits(77);
    assert!(!done.told().contains("AGE-SECRET-KEY-1Q") && !done.told().contains(&secret(&wrong)));
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_STAGE_IDENTITY", &secret(&right));
    pair.command("validate", &["--run", "r"]).await.succeeds();
    pair.command("load", &["--run", "r"]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE v LIKE 'CANARYCELL%'").await, "100");
}

/// A source whose reading takes until the test lets it go.
async fn held(pair: &Pair) -> tokio_postgres::Client {
    let client = pair.source.connect().await;
    client.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    client
}

/// Waits until a run has begun: it holds the pipeline's lock.
async fn until_begun(pair: &Pair) {
    let start = std::time::Instant::now();
    while pair.there("SELECT to_regclass('sankofa.run')").await == "-"
        || pair.there("SELECT count(*) FROM sankofa.run WHERE status = 'running'").await == "0"
    {
        assert!(start.elapsed() < Duration::from_secs(60), "no run begins");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_second_run_ends_with_75_naming_the_first_and_take_over_ends_it() {
    let pair = Pair::new(TABLE, BY_U).await;
    let holder = held(&pair).await;
    let first = pair.sankofa.spawn(&["sync", "p", "--run", "the-first"]);
    until_begun(&pair).await;
    let second = pair.sync(&[]).await.exits(75);
    says(&second, &["the-first", "server process", "--take-over"]);
    let taking = pair.sankofa.spawn(&["sync", "p", "--run", "taker", "--take-over"]);
    while pair.there("SELECT count(*) FROM sankofa.run WHERE run_id = 'taker'").await == "0" {
        assert!(!taking.log_so_far().contains("error:"), "{}", taking.log_so_far());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    let ended = first.wait().await;
    assert_eq!(ended.code(), Some(75), "{}", ended.told());
    taking.wait().await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "10");
    pair.sync(&["--run", "the-first"]).await.succeeds();
}

#[tokio::test]
async fn a_killed_run_frees_its_lock_and_the_next_does_its_work() {
    let pair = Pair::new(TABLE, BY_U).await;
    let holder = held(&pair).await;
    let run = pair.sankofa.spawn(&["sync", "p", "--run", "killed"]);
    until_begun(&pair).await;
    run.signal(libc::SIGKILL);
    run.wait().await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    pair.sync(&["--run", "next"]).await.succeeds();
    assert_eq!(pair.there("SELECT status FROM sankofa.run ORDER BY id").await, "lost\npublished");
    pair.sync(&["--run", "killed"]).await.succeeds();
}

#[tokio::test]
async fn a_run_killed_while_the_server_works_for_it_frees_its_lock_within_sixty_seconds() {
    let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh, checks: {sql: {slow: \"SELECT 1 FROM pg_sleep(100) AS p WHERE p IS NULL\"}}}}").await;
    let run = pair.sankofa.spawn(&["sync", "p"]);
    while pair.there("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'").await == "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    run.signal(libc::SIGKILL);
    run.wait().await;
    pair.pipeline(BY_U);
    let started = std::time::Instant::now();
    loop {
        match pair.sync(&[]).await.code() {
            Some(0) => break,
            Some(75) => assert!(started.elapsed() < Duration::from_secs(60)),
            _ => panic!("neither done nor locked"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "10");
}

#[tokio::test]
async fn behind_a_transaction_pooler_the_warehouse_is_refused() {
    let server = Server::major(17);
    let Some(pooler) = Pooler::before(&server) else { return };
    let mut pair = Pair::new(TABLE, BY_U).await;
    pair.sankofa = pair.sankofa.connection_uri("wh", &pair.warehouse.connection_uri_through(pooler.port()));
    says(&pair.sync(&[]).await.exits(78), &["pooler"]);
    assert_eq!(pair.there("SELECT to_regclass('sankofa.run')").await, "-");
}

#[tokio::test]
async fn a_warehouse_of_another_environment_is_refused() {
    let pair = Pair::new(TABLE, BY_U).await;
    pair.project("environments: {dev: {}}");
    pair.sync(&[]).await.succeeds();
    let before = pair.versions().await;
    let done = pair.sync(&["--env", "dev"]).await.exits(78);
    says(&done, &["belongs to environment", "dev"]);
    pair.command("extract", &["--env", "dev"]).await.exits(78);
    assert_eq!(pair.versions().await, before);
}

#[tokio::test]
async fn a_warehouse_role_that_lacks_a_right_is_told_which() {
    let mut pair = Pair::new(TABLE, BY_U).await;
    let role = pair.warehouse.server().role("loader", "").await;
    pair.sankofa = pair.sankofa.connection_uri("wh", &pair.warehouse.connection_uri_as(&role));
    says(&pair.sync(&[]).await.exits(77), &["permission denied"]);
    pair.warehouse.sql(&format!("GRANT CREATE ON DATABASE \"{}\" TO {role}", pair.warehouse.name())).await;
    pair.sync(&[]).await.succeeds();
    pair.warehouse.sql("ALTER TABLE w.t OWNER TO sankofa_test").await;
    pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp()").await;
    says(&pair.sync(&[]).await.exits(77), &["permission denied"]);
    assert_eq!(pair.there("SELECT DISTINCT v FROM w.t").await, "a");
}

#[tokio::test]
async fn a_warehouse_that_is_a_standby_is_75_and_a_read_only_one_78() {
    let primary = Server::with_settings(16, &[]);
    let mut pair = Pair::on(&Server::major(17), &primary, TABLE, BY_U).await;
    let standby = primary.standby();
    standby.catch_up(&primary).await;
    let uri = pair.warehouse.connection_uri();
    pair.sankofa = pair.sankofa.connection_uri("wh", &pair.warehouse.connection_uri_through(standby.port()));
    says(&pair.sync(&[]).await.exits(75), &["standby"]);
    pair.warehouse
        .sql(&format!("ALTER DATABASE \"{}\" SET default_transaction_read_only = on", pair.warehouse.name()))
        .await;
    pair.sankofa = pair.sankofa.connection_uri("wh", &uri);
    says(&pair.sync(&[]).await.exits(78), &["read only"]);
}

#[tokio::test]
async fn a_server_out_of_connections_is_75() {
    let server =
        Server::with_settings(17, &[("max_connections", "8"), ("superuser_reserved_connections", "3")]);
    let mut pair = Pair::on(&server, &Server::major(16), TABLE, BY_U).await;
    let role = server.role("plain", "IN ROLE pg_read_all_stats").await;
    pair.source.sql(&format!("GRANT SELECT ON t TO {role}")).await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_as(&role));
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(pair.source.connect_as(&role).await);
    }
    let done = pair.sync(&[]).await.exits(75);
    says(&done, &["53300"]);
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
    drop(taken);
}

#[tokio::test]
async fn a_warehouse_whose_disk_is_full_is_75_with_nothing_half_done() {
    // A quota in place of a full disk: temporary files and tables of a role are limited by the server.
    let pair = Pair::new(TABLE, BY_U).await;
    pair.sync(&[]).await.succeeds();
    let before = pair.versions().await;
    // 53100 is what a full disk is; a trigger says it as the server would.
    pair.warehouse.sql("CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON w.t FOR EACH ROW EXECUTE FUNCTION public.full_disk()").await;
    pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp()").await;
    says(&pair.sync(&[]).await.exits(75), &["disk is full"]);
    assert_eq!(pair.versions().await, before);
    pair.warehouse.sql("DROP TRIGGER full_disk ON w.t").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT DISTINCT v FROM w.t").await, "b");
}

#[tokio::test]
async fn a_warehouse_on_a_disk_that_really_runs_full_is_75_and_keeps_what_it_had() {
    // 60,000 rows of 1 KB do not fit, 1,000 do.
    let Some(disk) = Disk::of_mib(24) else { return };
    let server = Server::with_settings(17, &[]);
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old')";
    let pair = Pair::on(
        &Server::major(16),
        &server,
        table,
        "tables: {public.t: {mode: full_refresh, deletes: {mode: hard, at_most: 100%}}}",
    )
    .await;
    let place = server.tablespace("small", disk.path()).await;
    pair.warehouse
        .sql(&format!("ALTER DATABASE \"{}\" SET default_tablespace = {place}", pair.warehouse.name()))
        .await;
    pair.sync(&[]).await.succeeds();
    let before = pair.versions().await;
    let more = "INSERT INTO t SELECT g, repeat(md5(g::text), 30) FROM generate_series(2, 60000) g";
    pair.source.sql(more).await;
    for steps in [false, true] {
        let run = format!("full-{steps}");
        let done = if steps {
            pair.command("extract", &["--run", &run]).await.succeeds();
            pair.command("load", &["--run", &run]).await.exits(75)
        } else {
            pair.sync(&["--run", &run]).await.exits(75)
        };
        says(&done, &["disk is full"]);
        assert_eq!(pair.versions().await, before, "what readers see has not changed");
        let staged = "SELECT count(*) FROM pg_class WHERE relnamespace = 'sankofa_stage'::regnamespace";
        assert_eq!(pair.there(staged).await, "0", "what it has staged no longer fills the disk");
    }
    pair.source.sql("DELETE FROM t WHERE id > 1000").await;
    pair.sync(&["--run", "full-false"]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "1000");
}

#[tokio::test]
async fn a_dry_run_of_any_step_tells_what_it_would_do_and_touches_nothing() {
    let pair = Pair::new(TABLE, BY_U).await;
    for command in ["sync", "extract"] {
        pair.command(command, &["--run", "dry", "--dry-run"]).await.succeeds();
    }
    assert_eq!(pair.there("SELECT to_regnamespace('sankofa'), to_regnamespace('w')").await, "-|-");
    pair.command("extract", &["--run", "dry"]).await.succeeds();
    let before = pair.there("SELECT status, attempt FROM sankofa.run").await;
    for command in ["validate", "load"] {
        let told = pair.command(command, &["--run", "dry", "--dry-run"]).await.succeeds().json();
        assert_eq!(told["tables"][0]["staged"], 10);
    }
    assert_eq!(pair.there("SELECT status, attempt FROM sankofa.run").await, before);
    assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
}
