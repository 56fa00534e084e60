//! What is told of errors that real servers raise.

use crate::support::*;
use sankofa::error::{Failure, Kind, classify};
use sankofa::pg::{Session, SessionOptions, connect, public};
use sankofa::secret::Connection;

async fn open(uri: &str) -> Session {
    connect(&Connection::parse("hr_db", uri).unwrap(), &SessionOptions::named("sankofa/test")).await.unwrap()
}

async fn told(session: &Session, sql: &str) -> (Failure, String) {
    let error = session.client.batch_execute(sql).await.expect_err(sql);
    let error = public::failure(error, "cannot do it");
    let code = public::sqlstate(&error).unwrap_or_default();
    (classify(&error.context("cannot load hr")), code)
}

const TABLES: &str = "\
CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE, age int CHECK (age > 0), born date NOT NULL DEFAULT '2000-01-01');
CREATE TABLE child (t int REFERENCES t);
INSERT INTO t VALUES (1, 'MARK@example.org', 1);
CREATE VIEW v AS SELECT * FROM t;
CREATE SCHEMA closed;
CREATE DOMAIN word AS text CHECK (VALUE <> 'MARK');";

#[tokio::test]
async fn each_class_of_error_has_its_kind_and_no_cell_value_is_told() {
    for major in [13, 18] {
        let database = Server::major(major).fresh_database("classes").await;
        database.sql(TABLES).await;
        let session = open(&database.connection_uri()).await;
        let cases: &[(&str, &str, Kind)] = &[
            ("INSERT INTO t VALUES (2, 'MARK@example.org', 1)", "23505", Kind::Data),
            ("INSERT INTO t VALUES (2, 'MARK', -1)", "23514", Kind::Data),
            ("INSERT INTO t VALUES (2, 'MARK', 1, NULL)", "23502", Kind::Data),
            ("INSERT INTO child VALUES (4711)", "23503", Kind::Data),
            ("SELECT 'MARK'::int", "22P02", Kind::Data),
            ("SELECT 'MARK'::word", "23514", Kind::Data),
            ("SELECT '2000-13-01 MARK'::date", "22007", Kind::Data),
            ("SELECT 1 / 0", "22012", Kind::Data),
            ("SELECT * FROM nowhere", "42P01", Kind::Config),
            ("SELECT nothing FROM t", "42703", Kind::Config),
            ("CREATE TABLE nowhere.t ()", "3F000", Kind::Config),
            ("SELEC 1", "42601", Kind::Unclassified),
            ("SET statement_timeout = 20; SELECT pg_sleep(5)", "57014", Kind::Temporary),
            ("BEGIN READ ONLY; DELETE FROM t", "25006", Kind::Config),
        ];
        for (sql, code, kind) in cases {
            let (failure, found) = told(&session, sql).await;
            assert_eq!((found.as_str(), failure.kind), (*code, *kind), "{sql}: {}", failure.what);
            let start = format!("cannot load hr: cannot do it: SQLSTATE {code}");
            assert!(failure.what.starts_with(&start), "{}", failure.what);
            let all = format!("{} {:?}", failure.what, failure.hint);
            assert!(!all.contains("MARK") && !all.contains("4711"), "{all}");
            session.client.batch_execute("ROLLBACK; RESET statement_timeout").await.unwrap();
        }
        let (failure, _) = told(&session, "INSERT INTO t VALUES (2, 'MARK@example.org', 1)").await;
        assert!(
            failure.what.ends_with("SQLSTATE 23505: duplicate key (public.t, t_email_key)"),
            "{}",
            failure.what
        );
        let (failure, _) = told(&session, "DO $$ BEGIN RAISE 'stop' USING DETAIL = 'MARK'; END $$").await;
        assert!(failure.what.ends_with("SQLSTATE P0001: stop"), "{}", failure.what);
    }
}

#[tokio::test]
async fn a_missing_right_is_77_and_names_the_grant() {
    let server = Server::major(17);
    let database = server.fresh_database("rights").await;
    database.sql(TABLES).await;
    let role = server.role("reader", "").await;
    let session = open(&database.connection_uri_as(&role)).await;
    for (sql, grant) in [
        ("SELECT * FROM t", "GRANT SELECT ON t TO"),
        ("SELECT * FROM v", "GRANT SELECT ON v TO"),
        ("CREATE TABLE closed.x ()", "GRANT USAGE ON SCHEMA closed TO"),
    ] {
        let (failure, code) = told(&session, sql).await;
        assert_eq!((failure.kind, code.as_str()), (Kind::Permission, "42501"));
        assert!(failure.hint.as_deref().unwrap_or_default().contains(grant), "{:?}", failure.hint);
    }
}

#[tokio::test]
async fn a_lock_that_is_held_and_a_deadlock_are_75() {
    let database = Server::major(17).fresh_database("locks").await;
    database.sql(TABLES).await;
    let holder = open(&database.connection_uri()).await;
    holder.client.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let session = open(&database.connection_uri()).await;
    let (failure, code) = told(&session, "SET lock_timeout = 50; SELECT * FROM t").await;
    assert_eq!((failure.kind, code.as_str()), (Kind::Temporary, "55P03"));

    session.client.batch_execute("RESET lock_timeout; BEGIN; LOCK TABLE child").await.unwrap();
    let wait = async {
        let locked = session.client.batch_execute("LOCK TABLE t").await;
        session.client.batch_execute("ROLLBACK").await.unwrap();
        locked
    };
    let wait_too = async {
        let locked = holder.client.batch_execute("LOCK TABLE child").await;
        holder.client.batch_execute("ROLLBACK").await.unwrap();
        locked
    };
    let (one, other) = tokio::join!(wait, wait_too);
    let error = one.err().or(other.err()).expect("one of the two is chosen");
    let error = public::failure(error, "cannot lock");
    assert_eq!(public::sqlstate(&error).as_deref(), Some("40P01"));
    assert_eq!(classify(&error).kind, Kind::Temporary);
}

#[tokio::test]
async fn a_read_that_a_standby_cancels_is_75_with_a_hint_of_its_own() {
    for major in [13, 15, 18] {
        let primary = Server::new(major).start();
        let standby = primary.standby_with(&[("max_standby_streaming_delay", "0")]);
        primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id").await;
        standby.catch_up(&primary).await;
        let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", standby.port());
        let session = open(&uri).await;
        assert!(session.in_recovery && session.read_only);
        session
            .client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t")
            .await
            .unwrap();
        let read = session.client.batch_execute("SELECT pg_sleep(20), count(*) FROM t");
        let vacuum = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            primary.sql("DELETE FROM t").await;
            primary.sql("VACUUM t").await;
        };
        let (done, ()) = tokio::join!(read, vacuum);
        let failure = classify(&session.failure(done.unwrap_err(), "cannot read t"));
        assert_eq!(failure.kind, Kind::Temporary, "{}", failure.what);
        assert!(
            failure.hint.as_deref().unwrap_or_default().contains("hot_standby_feedback"),
            "{}",
            failure.what
        );

        let session = open(&uri).await;
        for sql in ["CREATE TABLE u ()", "VACUUM t"] {
            let error = session.client.batch_execute(sql).await.unwrap_err();
            let error = session.failure(error, "cannot write");
            assert_eq!(public::sqlstate(&error).as_deref(), Some("25006"));
            assert_eq!(classify(&error).kind, Kind::Temporary, "{sql}: {error:#}");
        }
    }
}
