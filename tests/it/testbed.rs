//! The test bed itself: what every other test relies on.

use crate::support::*;

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
    let left = server.connect().await.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await;
    assert!(left.unwrap().is_empty());
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
