//! One database per test.
//!
//! In:    a running [`Server`].
//! Out:   a database that no other test sees, dropped at the end of the test.
//! Holds: after a panic it stays, with its server, and the test says how to open it (not in CI).

use std::future::Future;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::bed;
use super::server::{PASSWORD, Server, USER};

/// One row of a simple query: each value as PostgreSQL prints it, None for NULL.
pub type Row = Vec<Option<String>>;

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    server: Server,
    name: String,
}

impl Server {
    /// Makes an empty database; `hint` becomes part of its name.
    ///
    /// Cost: about 20 ms in memory, 200 ms on disk; dropping it the same.
    pub async fn fresh_database(&self, hint: &str) -> Database {
        self.database_with(hint, "").await
    }

    /// As [`Server::fresh_database`], with more words for `CREATE DATABASE`, such as
    /// `TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`.
    pub async fn database_with(&self, hint: &str, options: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let hint: String = hint.char_indices().take_while(|(at, _)| *at < 40).map(|(_, char)| char).collect();
        let name = format!("{hint}_{count}"); // at most 63 bytes
        // Copying files is twice as fast as logging every page, which is the way of 15 and newer.
        let strategy = if self.number() >= 15 { "STRATEGY file_copy" } else { "" };
        self.sql(&format!("CREATE DATABASE {} {options} {strategy}", quote(&name))).await;
        Database { server: self.clone(), name }
    }

    /// Runs statements in database `postgres`, as superuser; panics with the server's words.
    #[track_caller]
    pub fn sql<'a>(&'a self, sql: &'a str) -> impl Future<Output = ()> + Send + 'a {
        let place = Location::caller();
        async move { execute(&self.config("postgres"), sql, place).await }
    }

    /// A session in database `postgres`, as superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.config("postgres")).await.expect("connecting to a test server")
    }

    /// How the tests themselves reach a database: by Unix socket, as superuser.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.socket_folder()).port(self.port());
        config.user(USER).password(PASSWORD).dbname(database).application_name("testbed");
        config
    }

    /// Makes a role that can log in, with a name of its own; roles belong to the whole server.
    pub async fn role(&self, hint: &str, attributes: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{hint}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql(&format!("CREATE ROLE {} LOGIN PASSWORD '{PASSWORD}' {attributes}", quote(&name))).await;
        name
    }

    /// Makes a tablespace of an empty `folder`, which is given to the server; its name, quoted.
    pub async fn tablespace(&self, name: &str, folder: &std::path::Path) -> String {
        super::account::give(folder);
        self.sql(&format!("CREATE TABLESPACE {} LOCATION '{}'", quote(name), folder.display())).await;
        quote(name)
    }
}

impl Database {
    /// One that is already there; it is dropped like any other.
    pub fn named(server: &Server, name: &str) -> Database {
        Database { server: server.clone(), name: name.to_owned() }
    }

    /// Leaves it on the server.
    pub fn forget(mut self) {
        self.name.clear();
    }

    /// The same database on a standby of its server.
    pub fn on(&self, standby: &Server) -> Database {
        Database::named(standby, &self.name)
    }

    /// Its name, unquoted.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server it is on.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// As `AIRFLOW_CONN_<ID>` has it, as superuser.
    pub fn connection_uri(&self) -> String {
        self.uri_of(USER, self.server.port())
    }

    /// As another role, made by [`Server::role`].
    pub fn connection_uri_as(&self, role: &str) -> String {
        self.uri_of(role, self.server.port())
    }

    /// Through another port: a proxy's, or pgbouncer's.
    pub fn connection_uri_through(&self, port: u16) -> String {
        self.uri_of(USER, port)
    }

    fn uri_of(&self, user: &str, port: u16) -> String {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        format!("postgres://{}:{}@127.0.0.1:{port}/{}", encode(user), encode(PASSWORD), encode(&self.name))
    }

    /// How this test reaches it; change what is needed and connect.
    pub fn config(&self) -> Config {
        self.server.config(&self.name)
    }

    /// A new session, as superuser.
    pub async fn connect(&self) -> Client {
        connect(&self.config()).await.expect("connecting to a test database")
    }

    /// A new session as a role made by [`Server::role`], by TCP and password.
    pub async fn connect_as(&self, role: &str) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.server.port()).user(role).password(PASSWORD).dbname(&self.name);
        connect(&config).await.expect("connecting as a role")
    }

    /// Runs statements in a session of their own; panics with the server's words.
    #[track_caller]
    pub fn sql<'a>(&'a self, sql: &'a str) -> impl Future<Output = ()> + Send + 'a {
        let place = Location::caller();
        async move { execute(&self.config(), sql, place).await }
    }

    /// The rows of one statement, as text.
    #[track_caller]
    pub fn query_text<'a>(&'a self, sql: &'a str) -> impl Future<Output = Vec<Row>> + Send + 'a {
        let place = Location::caller();
        async move {
            let client = self.connect().await;
            rows(&client, sql).await.unwrap_or_else(|why| fail(sql, &why, place))
        }
    }

    /// The first column of the first row, as text; panics when there is no row, or NULL.
    #[track_caller]
    pub fn value<'a>(&'a self, sql: &'a str) -> impl Future<Output = String> + Send + 'a {
        let place = Location::caller();
        async move {
            let client = self.connect().await;
            let rows = rows(&client, sql).await.unwrap_or_else(|why| fail(sql, &why, place));
            let first = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
            first.unwrap_or_else(|| panic!("{place}: no value from: {sql}"))
        }
    }

    /// Every line that the server logged for this database: each statement is in it.
    pub fn log(&self) -> Vec<String> {
        let mark = format!("|{}|", self.name);
        let mut is_ours = false;
        let mut lines = Vec::new();
        for line in self.server.log().lines() {
            // A line that goes on from the one before begins with a tab.
            is_ours = if line.starts_with('\t') { is_ours } else { line.contains(&mark) };
            if is_ours {
                lines.push(line.to_owned());
            }
        }
        lines
    }

    /// The command that opens it by hand.
    pub fn psql_command(&self) -> String {
        let (folder, port) = (self.server.socket_folder().display(), self.server.port());
        format!("psql \"host={folder} port={port} user={USER} dbname='{}'\"", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if !bed::is_ci() {
                self.server.keep();
                eprintln!("database kept until the next run: {}", self.psql_command());
            }
            return;
        }
        if self.name.is_empty() {
            return;
        }
        let config = self.server.config("postgres");
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(&self.name));
        // In a thread of its own, and nobody waits for it. The test's runtime must go on: DROP DATABASE
        // waits until every backend of the server has heard of it, and a backend that is sending rows
        // to a session of this very runtime hears of nothing until they are taken.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // A server that a test has stopped takes its databases with it.
            runtime.block_on(async { connect(&config).await?.batch_execute(&sql).await.map_err(Into::into) })
                as Result<(), Box<dyn std::error::Error + Send + Sync>>
        });
    }
}

/// Quotes an identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn execute(config: &Config, sql: &str, place: &Location<'_>) {
    let client = connect(config).await.unwrap_or_else(|why| fail(sql, &why, place));
    client.batch_execute(sql).await.unwrap_or_else(|why| fail(sql, &why, place));
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn fail(sql: &str, why: &tokio_postgres::Error, place: &Location<'_>) -> ! {
    match why.as_db_error() {
        Some(error) => panic!(
            "{place}: {error}{} in: {sql}",
            error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default()
        ),
        None => panic!("{place}: {why:?} in: {sql}"),
    }
}
