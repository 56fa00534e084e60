//! Opens a source so that all tables are seen as of one moment, on one server.
//!
//! In:    a connection, the tables of a pipeline.
//! Out:   a [`Source`]: what the tables look like, the [`Facts`] for watermarks, reading sessions
//!        that share one snapshot.
//! Holds: every table is locked (ACCESS SHARE) before the snapshot is taken, so none can be
//!        truncated, altered or swapped between; order: clock, open transactions, snapshot.
//! Not here: what is read (`etl::extract`), what the facts mean (`etl::window`).

mod watch;

use crate::error::{Failure, nearest_hint};
use crate::etl::cancel::Cancelling;
use crate::etl::window::Facts;
use crate::pg::introspect::Partitions;
use crate::pg::{Session, SessionOptions, connect, introspect};
use crate::report::Report;
use crate::secret::Connection;
use crate::table::{SourceTable, TableName};
use anyhow::Result;
use futures_util::future::{join_all, try_join_all};
use std::time::Duration;
use tokio_postgres::types::{FromSql, Type};

/// How a source is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// How long the snapshot may be held.
    pub max_snapshot_age: Option<Duration>,
    /// Reading sessions, beside the one that holds the locks.
    pub readers: usize,
    /// Pass bytes through as they are: the warehouse is told their encoding.
    pub raw_encoding: bool,
    /// Some table's replication key is a time: other sessions' starts must be seen.
    pub needs_activity: bool,
}

/// A source, held still.
pub struct Source {
    /// Holds the locks; watches who waits for them.
    lead: Session,
    /// Read in one snapshot; the first has exported it.
    pub readers: Vec<Session>,
    /// What the tables look like, in the order asked for.
    pub tables: Vec<SourceTable>,
    /// What is known of this moment.
    pub facts: Facts,
    /// When the snapshot was taken, and how long it may be held.
    held: watch::Held,
    /// Whose transaction holds the watermark back.
    pub oldest: Option<Oldest>,
    /// Name of the database.
    pub database: String,
    /// Its time zone.
    pub timezone: String,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// The oldest open transaction of another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Its server process.
    pub pid: i32,
    /// What that is doing, such as `idle in transaction`.
    pub state: String,
    /// Its age.
    pub seconds: i64,
}

/// Microseconds since 2000-01-01, as the server sends a timestamp.
struct Micros(i64);

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Micros(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::TIMESTAMPTZ | Type::TIMESTAMP)
    }
}

/// How long a table's lock is waited for.
const LOCK_TIMEOUT: &str = "10s";
/// Between the clock and the list of transactions: a transaction has its start time a moment
/// before other sessions can see it.
const SETTLE: Duration = Duration::from_millis(20);

/// Settings under which every value has one text, and nothing can be written.
fn settings(options: &Options) -> Vec<(String, String)> {
    let timeout = options.statement_timeout.as_millis().to_string();
    let encoding = if options.raw_encoding { "SQL_ASCII" } else { "UTF8" };
    [
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "read committed"),
        ("row_security", "off"),
        ("search_path", ""),
        ("client_encoding", encoding),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("extra_float_digits", "1"),
        ("xmloption", "content"),
        ("quote_all_identifiers", "off"),
        ("lock_timeout", LOCK_TIMEOUT),
        ("statement_timeout", &timeout),
        ("idle_in_transaction_session_timeout", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Opens the source for reading `names`.
///
/// # Errors
/// 75 unreachable, locked, or out of connections; 77 without a right; 78 for a table not there.
pub async fn open(
    connection: &Connection,
    names: &[TableName],
    options: &Options,
    cancelling: &Cancelling,
) -> Result<Source> {
    let mut how = SessionOptions::named(&options.application_name);
    how.settings = settings(options);
    let lead = connect(connection, &how).await?;
    cancelling.add(&lead);
    if lead.major() >= 17 {
        how.settings.push(("transaction_timeout".to_owned(), "0".to_owned()));
        lead.set(&how.settings[how.settings.len() - 1..]).await?;
    }
    let (database, timezone) = describe(&lead).await?;
    batch(&lead, "BEGIN READ ONLY", "cannot read the source").await?;
    lock(&lead, names).await?;
    let tables = introspect::tables(&lead.client, names).await?;
    if is_ascii(&lead).await? {
        // Such a server checks no text; asked for UTF8 it fails without saying where. The warehouse says.
        how.settings.push(("client_encoding".to_owned(), "SQL_ASCII".to_owned()));
    }
    let how = how.pinned(&lead.endpoint);
    let (mut facts, oldest) = observe(&lead, options).await?;
    let first = connect(connection, &how).await?;
    cancelling.add(&first);
    let held = watch::Held::now(options.max_snapshot_age);
    let snapshot = export(&first, &mut facts).await?;
    let others = (1..options.readers.max(1)).map(|_| async {
        let reader = connect(connection, &how).await?;
        cancelling.add(&reader);
        import(&reader, &snapshot).await?;
        anyhow::Ok(reader)
    });
    let mut readers = try_join_all(others).await?;
    readers.insert(0, first);
    let warning = "a prepared transaction is open: the watermark stays where it can be proven";
    let warnings = facts.prepared.then(|| warning.to_owned()).into_iter().collect();
    let source = Source { lead, readers, tables, facts, held, oldest, database, timezone, warnings };
    source.guarded(source.lock_readers(names)).await?;
    Ok(source)
}

async fn batch(session: &Session, sql: &str, cannot: &str) -> Result<()> {
    session.client.batch_execute(sql).await.map_err(|error| session.failure(error, cannot))
}

async fn describe(lead: &Session) -> Result<(String, String)> {
    // The database's own zone, whatever our role has; `reset_val` is what database and server say without
    // one, since the session itself runs in UTC.
    let query = "SELECT pg_catalog.current_database()::text, coalesce(
        (SELECT pg_catalog.substr(c, 10) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c
         WHERE s.setrole = 0 AND pg_catalog.lower(c) LIKE 'timezone=%' AND s.setdatabase =
            (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())),
        (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'))";
    let row = lead
        .client
        .query_one(query, &[])
        .await
        .map_err(|error| lead.failure(error, "cannot read the source"))?;
    Ok((row.get(0), row.get(1)))
}

/// Locks every table, its partitions and what its view reads. A query that returns nothing locks
/// any kind of relation, and needs no more than the right to read one column, unlike LOCK TABLE.
/// In READ COMMITTED it leaves no snapshot behind.
async fn lock(lead: &Session, names: &[TableName]) -> Result<()> {
    let found = introspect::names(&lead.client, Partitions::Named).await?;
    for name in names {
        if !found.contains(name) {
            let near = found.iter().map(TableName::to_string).collect::<Vec<_>>();
            return Err(Failure::config(format!("cannot read {name}: there is no such table in the source"))
                .hint(nearest_hint(&name.to_string(), near.iter().map(String::as_str)))
                .into());
        }
    }
    lock_all(lead, names).await
}

async fn lock_all(session: &Session, names: &[TableName]) -> Result<()> {
    for some in names.chunks(100) {
        let sql: Vec<String> =
            some.iter().map(|name| format!("SELECT FROM {} LIMIT 0", name.sql())).collect();
        if let Err(error) = session.client.batch_execute(&sql.join(";")).await {
            return Err(lock_failure(session, error, some).await);
        }
    }
    Ok(())
}

/// Whether the source keeps bytes of no encoding it knows.
async fn is_ascii(lead: &Session) -> Result<bool> {
    let query = "SELECT pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'";
    let row = lead.client.query_one(query, &[]).await;
    Ok(row.map_err(|error| lead.failure(error, "cannot read the source"))?.get(0))
}

/// Says which table could not be locked, and by whom it is held.
async fn lock_failure(lead: &Session, error: tokio_postgres::Error, names: &[TableName]) -> anyhow::Error {
    let waited = error.code().is_some_and(|code| code.code() == "55P03");
    let cannot = match names {
        [one] => format!("cannot lock {one}"),
        _ => format!(
            "cannot lock the tables from {} on",
            names.first().map(ToString::to_string).unwrap_or_default()
        ),
    };
    let failure = lead.failure(error, &cannot);
    if !waited || lead.client.batch_execute("ROLLBACK").await.is_err() {
        return failure;
    }
    let query = "SELECT l.relation::regclass::text, a.pid, coalesce(a.application_name, '') FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_stat_activity a USING (pid)
        WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) LIMIT 1";
    match lead.client.query_opt(query, &[]).await {
        Ok(Some(row)) => {
            let (table, pid, program): (String, i32, String) = (row.get(0), row.get(1), row.get(2));
            failure.context(format!("{table} is locked by server process {pid} ({program})"))
        }
        _ => failure,
    }
}

/// Clock, then the transactions that are open.
async fn observe(lead: &Session, options: &Options) -> Result<(Facts, Option<Oldest>)> {
    let cannot = "cannot see the source's clock and transactions";
    let failed = |error| lead.failure(error, cannot);
    let clock = lead.client.query_one("SELECT pg_catalog.clock_timestamp()", &[]).await.map_err(failed)?;
    let mut facts = Facts { clock: clock.get::<_, Micros>(0).0, ..Facts::default() };
    tokio::time::sleep(SETTLE).await;
    let query = "SELECT pg_catalog.pg_is_in_recovery(),
        EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()),
        pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
        (SELECT system_identifier FROM pg_catalog.pg_control_system()),
        (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())";
    let row = lead.client.query_one(query, &[]).await.map_err(failed)?;
    (facts.standby, facts.prepared) = (row.get(0), row.get(1));
    (facts.system, facts.timeline) = (row.get(3), row.get(4));
    let sees_others: bool = row.get(2);
    if options.needs_activity && !facts.standby && !sees_others {
        return Err(Failure::permission(
            "cannot see the source's open transactions: a watermark could pass them",
        )
        .hint("GRANT pg_read_all_stats TO the source role.")
        .into());
    }
    let query = "SELECT a.xact_start, a.pid, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::int8
        FROM pg_catalog.pg_stat_activity a
        WHERE a.datname = pg_catalog.current_database() AND a.xact_start IS NOT NULL
          AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
        ORDER BY a.xact_start LIMIT 1";
    let mut oldest = None;
    if let Some(row) = lead.client.query_opt(query, &[]).await.map_err(failed)? {
        facts.oldest_start = Some(row.get::<_, Micros>(0).0);
        let (pid, state, seconds): (i32, Option<String>, i64) = (row.get(1), row.get(2), row.get(3));
        oldest = Some(Oldest { pid, state: state.unwrap_or_default(), seconds });
    }
    Ok((facts, oldest))
}

/// Takes the snapshot and hands it out.
async fn export(first: &Session, facts: &mut Facts) -> Result<String> {
    let cannot = "cannot take a snapshot of the source";
    batch(first, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", cannot).await?;
    let query = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_snapshot_xmin(s)::text,
        pg_catalog.pg_snapshot_xmax(s)::text FROM pg_catalog.pg_current_snapshot() AS s";
    let row = first.client.query_one(query, &[]).await.map_err(|error| first.failure(error, cannot))?;
    facts.xmin = row.get::<_, String>(1).parse().unwrap_or(0);
    facts.xmax = row.get::<_, String>(2).parse().unwrap_or(u64::MAX);
    Ok(row.get(0))
}

async fn import(reader: &Session, snapshot: &str) -> Result<()> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
        crate::table::literal(snapshot)
    );
    batch(reader, &sql, "cannot share the source's snapshot").await
}

impl Source {
    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.lead.major()
    }

    /// The earlier of clock and oldest transaction as local time of `zone`, in microseconds; the
    /// earliest reading of that clock from then on, since local time runs twice through an hour
    /// in autumn.
    ///
    /// # Errors
    /// 78 when the server does not know the zone.
    pub async fn local(&self, micros: i64, zone: &str) -> Result<i64> {
        let query = "SELECT min(t AT TIME ZONE $2::text) FROM (
            SELECT '2000-01-01 00:00:00+00'::timestamptz + ($1::float8 * interval '1 microsecond') AS t
            UNION ALL SELECT q FROM generate_series(
                date_trunc('hour', '2000-01-01 00:00:00+00'::timestamptz + ($1::float8 * interval '1 microsecond')),
                '2000-01-01 00:00:00+00'::timestamptz + ($1::float8 * interval '1 microsecond') + interval '3 hours',
                interval '15 minutes') AS q
            WHERE q >= '2000-01-01 00:00:00+00'::timestamptz + ($1::float8 * interval '1 microsecond')) AS all_times";
        let row = self
            .lead
            .client
            .query_one(query, &[&(micros as f64), &zone])
            .await
            .map_err(|error| self.lead.failure(error, &format!("cannot use time zone {zone:?}")))?;
        Ok(row.get::<_, Micros>(0).0)
    }

    /// Handles that cancel whatever the sessions are doing.
    pub fn cancellers(&self) -> Vec<crate::pg::Canceller> {
        self.readers.iter().chain([&self.lead]).map(Session::canceller).collect()
    }

    /// Server processes of ours.
    async fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for session in self.readers.iter().chain([&self.lead]) {
            let row = session
                .client
                .query_one("SELECT pg_catalog.pg_backend_pid()", &[])
                .await
                .map_err(|error| session.failure(error, "cannot read the source"))?;
            pids.push(row.get(0));
        }
        Ok(pids)
    }

    /// Locks the tables in each reader: one that did so only when its turn came would wait behind
    /// whoever waits for us. Somebody may do so already.
    async fn lock_readers(&self, names: &[TableName]) -> Result<()> {
        for reader in &self.readers {
            lock_all(reader, names).await?;
        }
        Ok(())
    }

    /// Tells in the log and in `report` how long the snapshot was held.
    pub fn tell_age(&self, report: &mut Report) {
        self.held.tell(report);
    }

    /// Runs `reading` unless our locks hold up another session for 5 s, or the snapshot grows too old.
    ///
    /// # Errors
    /// `reading`'s own; 75 naming who waits, or the bound.
    pub async fn guarded<T>(&self, reading: impl Future<Output = Result<T>>) -> Result<T> {
        let pids = self.pids().await?;
        let gave_up = tokio::select! {
            done = reading => return done,
            held_up = watch::until_held_up(&self.lead.client, &pids) => held_up,
            too_old = self.held.until_too_old() => too_old,
        };
        // A server that is still sending would notice only later that nobody reads.
        let cancellers = self.cancellers();
        let cancelled = join_all(cancellers.iter().map(crate::pg::Canceller::cancel));
        let _ = tokio::time::timeout(Duration::from_secs(1), cancelled).await;
        Err(gave_up)
    }
}
