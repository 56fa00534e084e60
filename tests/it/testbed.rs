//! The test bed itself: what every other test relies on.

use crate::support::*;
use std::process::Command;
use std::time::Duration;

#[tokio::test]
async fn every_supported_major_starts_and_says_its_version() {
    for major in 13..=18 {
        let database = Server::major(major).fresh_database("version").await;
        let number: u32 = database.value("SHOW server_version_num").await.parse().unwrap();
        assert_eq!(number / 10_000, u32::from(major));
    }
}

#[tokio::test]
async fn a_fresh_database_is_reached_by_its_uri_with_its_password_only() {
    let database = Server::major(17).fresh_database("Odd \"name\" é").await;
    let (client, connection) =
        tokio_postgres::connect(&database.connection_uri(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_database()", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), database.name());

    let wrong = database.connection_uri().replace("not", "xxx");
    assert!(tokio_postgres::connect(&wrong, tokio_postgres::NoTls).await.is_err());
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_when_a_session_is_still_open() {
    let server = Server::major(17);
    let database = server.fresh_database("short_lived").await;
    let _open = database.connect().await;
    let name = database.name().to_owned();
    drop(database);
    let client = server.connect().await;
    let is_there = "SELECT 1 FROM pg_database WHERE datname = $1";
    for _ in 0..600 {
        if client.query(is_there, &[&name]).await.unwrap().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} is still there");
}

#[tokio::test]
async fn every_statement_is_found_in_the_log_of_its_database() {
    let database = Server::major(17).fresh_database("logged").await;
    database.sql("SELECT 'a marked\nstatement'").await;
    let log = database.log().join("\n");
    assert!(log.contains("a marked\n\tstatement"), "{log}");
}

#[tokio::test]
async fn rows_come_as_text_and_null_is_none() {
    let database = Server::major(13).fresh_database("rows").await;
    let rows = database.query_text("SELECT 1, NULL, 'x' UNION ALL SELECT 2, 'y', ''").await;
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(rows, [[text("1"), None, text("x")], [text("2"), text("y"), text("")]]);
}

#[tokio::test]
async fn the_binary_runs_in_its_project_folder_with_an_empty_environment() {
    let finished = Sankofa::new().file("sankofa.yaml", "version: 1\n").run(&["--help"]).await;
    assert!(finished.status.code().is_some(), "{}", finished.told());
}

#[tokio::test]
async fn a_server_of_its_own_has_its_settings_and_survives_a_crash() {
    let server = Server::with_settings(16, &[("max_connections", "7")]);
    let database = server.fresh_database("own").await;
    assert_eq!(database.value("SHOW max_connections").await, "7");
    database.sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").await;
    server.stop(Stop::Crash);
    server.start();
    assert_eq!(database.value("SELECT count(*) FROM kept").await, "1");
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_tls_and_refuses_plain_text() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let server = Server::new(18)
        .setting("ssl", "on")
        .file("server.crt", key.cert.pem())
        .file("server.key", key.signing_key.serialize_pem())
        .hba("hostnossl all all all reject")
        .start();
    let database = server.fresh_database("tls").await;
    assert_eq!(database.value("SHOW ssl").await, "on");
    let plain = tokio_postgres::connect(&database.connection_uri(), tokio_postgres::NoTls).await;
    assert_eq!(plain.err().unwrap().code().unwrap().code(), "28000");
}

#[tokio::test]
async fn a_standby_of_every_major_replays_what_the_primary_writes_and_is_read_only() {
    for major in MAJORS {
        let primary = Server::with_settings(major, &[]);
        let database = primary.fresh_database("replayed").await;
        let standby = primary.standby_with(&[("max_standby_streaming_delay", "0")]);
        database.sql("CREATE TABLE t AS SELECT 1 AS id").await;
        standby.catch_up(&primary).await;
        let there = database.on(&standby);
        assert_eq!(there.value("SELECT count(*) FROM t").await, "1");
        let refused = there.connect().await.batch_execute("INSERT INTO t VALUES (2)").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "25006");
    }
}

#[tokio::test]
async fn the_real_data_is_loaded_once_and_each_clone_moves_on_alone() {
    let server = Server::major(15);
    for which in Real::ALL {
        let (Some(one), Some(two)) = (server.real_database(which).await, server.real_database(which).await)
        else {
            return;
        };
        let rows = "SELECT sum(reltuples)::bigint FROM pg_class WHERE relnamespace = 'history'::regnamespace";
        assert!(one.value(rows).await.parse::<u64>().unwrap() > 5_000);
        two.sql("DROP SCHEMA history CASCADE").await;
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'history'";
        assert_eq!(one.value(schemas).await, "1");
    }
}

#[tokio::test]
async fn behind_the_pooler_two_transactions_of_one_client_may_use_two_sessions() {
    let server = Server::major(14);
    let Some(pooler) = Pooler::before(&server) else { return };
    let database = server.fresh_database("pooled").await;
    let uri = database.connection_uri_through(pooler.port());
    let (one, connection) = tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (two, connection) = tokio_postgres::connect(&uri, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    one.batch_execute("BEGIN").await.unwrap();
    two.batch_execute("SELECT set_config('sankofa.mark', 'left behind', false)").await.unwrap();
    one.batch_execute("COMMIT").await.unwrap();
    let sessions = database.value("SELECT count(*) FROM pg_stat_activity WHERE application_name <> 'testbed' AND datname = current_database()");
    assert_eq!(sessions.await, "2");
}

#[tokio::test]
async fn a_cleared_environment_holds_only_what_the_test_gives() {
    let database = Server::major(17).fresh_database("runner").await;
    let sankofa = Sankofa::new().connection("hr_db", &database);
    assert!(
        sankofa.environment().iter().any(|(name, uri)| name == "AIRFLOW_CONN_HR_DB" && uri.contains("@127"))
    );
    assert!(!sankofa.environment().iter().any(|(name, _)| name == "PATH"));
}

mod when_the_tests_are_killed {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::support::*;

    const MARK: &str = "SANKOFA_TESTBED_KILLED";

    /// The process to be killed: this binary again, running this test only.
    #[test]
    #[ignore = "run by the test below; does nothing by itself"]
    fn a_process_with_a_server() {
        if std::env::var_os(MARK).is_some() {
            let server = Server::with_settings(13, &[]);
            println!("{MARK} {}", server.socket_folder().display());
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    fn their_server_ends_and_its_folder_is_gone_within_five_seconds() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "a_process_with_a_server"])
            .env(MARK, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let folder =
            lines.filter_map(|line| Some(line.split_once(MARK)?.1.trim().to_owned())).next().unwrap();
        let pid = std::fs::read_to_string(Path::new(&folder).join("data/postmaster.pid")).unwrap();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        let process = Path::new("/proc").join(pid.lines().next().unwrap()).join("cwd");
        let start = Instant::now();
        while Path::new(&folder).exists() || process.read_link().is_ok() {
            assert!(start.elapsed() < Duration::from_secs(5), "{folder} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

mod through_the_proxy {
    use std::time::{Duration, Instant};

    use tokio_postgres::{Client, Error, NoTls};

    use crate::support::*;

    async fn connect(database: &Database, proxy: &Proxy) -> Result<Client, Error> {
        let uri = database.connection_uri_through(proxy.port());
        let (client, connection) = tokio_postgres::connect(&uri, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn insert(client: &Client) -> Result<(), Error> {
        client.batch_execute("BEGIN").await?;
        client.batch_execute("INSERT INTO t VALUES (1)").await?;
        client.batch_execute("COMMIT").await
    }

    async fn table() -> Database {
        let database = Server::major(17).fresh_database("proxied").await;
        database.sql("CREATE TABLE t (id int)").await;
        database
    }

    /// The rows in `t`, once no other session is in a transaction.
    async fn rows(database: &Database) -> String {
        let busy = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        while database.value(busy).await != "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        database.value("SELECT count(*) FROM t").await
    }

    #[tokio::test]
    async fn a_lost_commit_answer_is_an_error_for_the_client_and_a_commit_on_the_server() {
        let database = table().await;
        let lost = Rule::on(Direction::FromServer, 'C').containing("COMMIT").before(Deed::Cut);
        let proxy = Proxy::to(database.server().port()).rule(lost);
        let client = connect(&database, &proxy).await.unwrap();
        assert!(insert(&client).await.is_err());
        assert_eq!((rows(&database).await.as_str(), proxy.fired().len()), ("1", 1));
        insert(&connect(&database, &proxy).await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_commit_that_never_reached_the_server_is_rolled_back() {
        let database = table().await;
        let lost = Rule::on(Direction::FromClient, 'Q').containing("COMMIT").before(Deed::Cut);
        let proxy = Proxy::to(database.server().port()).rule(lost);
        assert!(insert(&connect(&database, &proxy).await.unwrap()).await.is_err());
        assert_eq!(rows(&database).await, "0");
    }

    #[tokio::test]
    async fn cut_at_every_message_of_a_clean_run_the_row_is_there_once_or_not_at_all() {
        let database = table().await;
        let proxy = Proxy::to(database.server().port());
        insert(&connect(&database, &proxy).await.unwrap()).await.unwrap();
        let clean = proxy.messages_seen();
        assert!(clean.iter().any(|seen| seen.kind == '^'), "{clean:?}");
        for (index, seen) in clean.iter().enumerate() {
            database.sql("TRUNCATE t").await;
            let proxy = Proxy::to(database.server().port()).rule(Rule::at(index).after(Deed::Cut));
            if let Ok(client) = connect(&database, &proxy).await {
                let _ = insert(&client).await;
            }
            assert_eq!(proxy.fired().len(), 1, "{seen}");
            assert!(["0", "1"].contains(&rows(&database).await.as_str()), "{seen}");
        }
    }

    #[tokio::test]
    async fn bytes_are_counted_and_a_message_may_be_cut_in_two() {
        let database = table().await;
        let rule = Rule::after_bytes(Direction::FromClient, 1000).after(Deed::Down);
        let proxy = Proxy::to(database.server().port()).rule(rule);
        let client = connect(&database, &proxy).await.unwrap();
        assert!(client.batch_execute(&format!("SELECT '{}'", "x".repeat(1000))).await.is_err());
        assert!(connect(&database, &proxy).await.is_err());
        proxy.up();
        insert(&connect(&database, &proxy).await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_frozen_network_says_nothing_until_it_thaws() {
        let database = table().await;
        let proxy = Proxy::to(database.server().port());
        let client = connect(&database, &proxy).await.unwrap();
        proxy.freeze();
        let mut answer = Box::pin(client.batch_execute("SELECT 1"));
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut answer).await.is_err());
        proxy.up();
        answer.await.unwrap();
    }

    #[tokio::test]
    async fn a_slow_link_passes_everything_slowly() {
        let database = table().await;
        let slow = Deed::Trickle { bytes: 100, pause: Duration::from_millis(5) };
        let proxy = Proxy::to(database.server().port()).rule(Rule::at(0).after(slow));
        let client = connect(&database, &proxy).await.unwrap();
        let start = Instant::now();
        let row = client.query_one("SELECT repeat('x', 4000)", &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0).len(), 4000);
        assert!(start.elapsed() > Duration::from_millis(200), "{:?}", start.elapsed());
    }
}

#[test]
fn the_client_programs_of_each_major_say_their_version_and_find_each_other() {
    let server = Server::major(13);
    for major in CLIENT_MAJORS.into_iter().filter(|major| has_clients(*major)) {
        for program in ["pg_dump", "pg_restore", "psql"] {
            let said = Command::new(client_program(major, program)).arg("--version").output().unwrap();
            let said = String::from_utf8(said.stdout).unwrap();
            assert!(said.starts_with(&format!("{program} (PostgreSQL) {major}.")), "{said}");
        }
        // pg_dumpall looks for a pg_dump of its own version beside it.
        let mut all = Command::new(client_program(major, "pg_dumpall"));
        all.arg("-h").arg(server.socket_folder()).args(["-p", &server.port().to_string(), "-U", USER]);
        let done = all.args(["-l", "postgres", "--globals-only"]).output().unwrap();
        assert!(done.status.success(), "{major}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(String::from_utf8_lossy(&done.stdout).contains(USER));
    }
}
