//! The three real data sets, as databases.
//!
//! In:    the folder `shared/data` (beside the checkout, or `SANKOFA_SHARED`).
//! Out:   a database as `load.sh` there makes it, cloned per test from one template per server.
//! Holds: where the data is missing the test says so loudly and ends; in CI that is a failure.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::SinkExt;

use super::bed;
use super::database::Database;
use super::server::Server;

/// One of the three real data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Real {
    /// Employees, departments, salaries over time.
    Hr,
    /// Students, courses, submissions.
    Records,
    /// Incidents of a service desk.
    ServiceDesk,
}

impl Real {
    /// All of them.
    pub const ALL: [Real; 3] = [Real::Hr, Real::Records, Real::ServiceDesk];

    /// The name of its folder and of the database in production.
    pub fn name(self) -> &'static str {
        match self {
            Real::Hr => "hr",
            Real::Records => "records",
            Real::ServiceDesk => "service_desk",
        }
    }

    /// The day that the data stands at first.
    pub fn first_day(self) -> &'static str {
        match self {
            Real::Hr => "1996-07-01",
            Real::Records => "2013-11-15",
            Real::ServiceDesk => "2016-03-02 00:00+00",
        }
    }
}

impl Server {
    /// A database with the real data as of its first day; None, loudly, where the data is missing.
    ///
    /// Cost: loading once per server (1 to 2 s), then a clone per call (0.1 to 0.4 s).
    ///
    /// # Panics
    /// In CI, when the data is missing.
    pub async fn real_database(&self, which: Real) -> Option<Database> {
        let Some(data) = bed::shared_data() else {
            assert!(!bed::is_ci(), "no real data: put `shared` beside the checkout or set SANKOFA_SHARED");
            eprintln!(
                "\n!!! NOT TESTED: no real data (put `shared` beside the checkout or set SANKOFA_SHARED)\n"
            );
            return None;
        };
        let template = format!("template_{}", which.name());
        let load = || self.make_template(which, &template, data.join(which.name()));
        self.template(which as usize).get_or_init(load).await;
        Some(self.database_with(which.name(), &format!("TEMPLATE {template}")).await)
    }

    async fn make_template(&self, which: Real, name: &str, folder: impl AsRef<Path>) {
        let folder = folder.as_ref();
        // One that was begun by a test that ended meanwhile.
        self.sql(&format!("DROP DATABASE IF EXISTS {name}")).await;
        self.sql(&format!("CREATE DATABASE {name}")).await;
        let database = Database::named(self, name);
        let schema = fs::read_to_string(folder.join("schema.sql")).expect("reading schema.sql");
        database.sql(&schema).await;
        for entry in fs::read_dir(folder).expect("listing the data").flatten() {
            let file = entry.file_name().into_string().expect("a name in UTF-8");
            if let Some(table) = file.strip_suffix(".csv.gz") {
                copy_csv(&database, table, &entry.path()).await;
            }
        }
        database.sql("ANALYZE").await; // advance_to takes ten times as long without
        database.advance_to(which.first_day()).await;
        database.sql("VACUUM ANALYZE").await;
        self.sql(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).await;
        database.forget();
    }
}

impl Database {
    /// Moves a real database's live tables forward to a day.
    pub async fn advance_to(&self, day: &str) {
        self.sql(&format!("SELECT advance_to('{day}')")).await;
    }
}

async fn copy_csv(database: &Database, table: &str, path: &Path) {
    let mut text = Vec::new();
    let file = File::open(path).expect("opening a data file");
    GzDecoder::new(file).read_to_end(&mut text).expect("unpacking a data file");
    let client = database.connect().await;
    let sink = client.copy_in(&format!("COPY history.{table} FROM STDIN CSV HEADER")).await;
    let mut sink = Box::pin(sink.expect("starting COPY"));
    sink.send(Bytes::from(text)).await.expect("sending data");
    sink.as_mut().finish().await.expect("ending COPY");
}
