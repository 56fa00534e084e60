//! What a person has taken on for one run: checks accepted although missed, tables set aside.
//!
//! In:    names, who, why. Out: what holds for a run, and what is still set aside.
//! Holds: it is kept before the run acts on it; it holds for that run alone, whichever of its steps or
//!        tries named it; a table counts as set aside until a later run has loaded it.
//! Not here: which names there are (`cmd`), what is left out (`etl`).

use crate::pg::public;
use crate::report::Report;
use anyhow::Result;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// What is asked for on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Checks to accept: table at the source, and check.
    pub accept: Vec<(String, String)>,
    /// Tables at the source to leave as they are.
    pub set_aside: Vec<String>,
    /// Who.
    pub by: String,
    /// Why.
    pub because: String,
}

/// Who took something on, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Who.
    pub by: String,
    /// Why.
    pub because: String,
    /// When.
    pub at: Timestamp,
    /// The run that it holds for.
    pub run_id: String,
}

/// What holds for one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// By table and check.
    pub accepted: BTreeMap<(String, String), Taken>,
    /// By table.
    pub set_aside: BTreeMap<String, Taken>,
}

impl Overrides {
    /// Who has accepted that `check` of `table` is missed.
    pub fn accepts(&self, table: &str, check: &str) -> Option<&Taken> {
        self.accepted.get(&(table.to_owned(), check.to_owned()))
    }

    /// The report with what is set aside.
    #[must_use]
    pub fn told(&self, mut report: Report) -> Report {
        if !self.set_aside.is_empty() {
            report.extra.insert("set_aside".into(), self.set_aside.keys().cloned().collect());
        }
        let told = self.set_aside.iter().map(|(table, taken)| {
            format!("{table} is set aside and stays as it was, by {}: {}", taken.by, taken.because)
        });
        report.warnings.extend(told);
        report
    }
}

fn failed(error: tokio_postgres::Error) -> anyhow::Error {
    public::failure(error, "cannot keep in the ledger what was taken on for this run")
}

/// Keeps what is asked for, and returns all that holds for `run`.
///
/// # Errors
/// As [`public::failure`].
pub async fn take(client: &Client, run: i64, asked: &Asked) -> Result<Overrides> {
    let accept = "INSERT INTO sankofa.acceptance (run, table_name, check_name, accepted_by, reason)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (run, table_name, check_name) DO UPDATE
        SET accepted_by = excluded.accepted_by, reason = excluded.reason, accepted_at = clock_timestamp()";
    for (table, check) in &asked.accept {
        client.execute(accept, &[&run, table, check, &asked.by, &asked.because]).await.map_err(failed)?;
    }
    let aside = "INSERT INTO sankofa.set_aside (run, table_name, set_aside_by, reason)
        VALUES ($1, $2, $3, $4) ON CONFLICT (run, table_name) DO UPDATE
        SET set_aside_by = excluded.set_aside_by, reason = excluded.reason, set_aside_at = clock_timestamp()";
    for table in &asked.set_aside {
        client.execute(aside, &[&run, table, &asked.by, &asked.because]).await.map_err(failed)?;
    }
    let sql = "SELECT o.table_name, o.check_name, o.by, o.reason, o.at, r.run_id FROM (
            SELECT run, table_name, check_name, accepted_by AS by, reason, accepted_at AS at FROM sankofa.acceptance
            UNION ALL SELECT run, table_name, NULL, set_aside_by, reason, set_aside_at FROM sankofa.set_aside) o
        JOIN sankofa.run r ON r.id = o.run WHERE o.run = $1";
    let mut overrides = Overrides::default();
    for row in client.query(sql, &[&run]).await.map_err(failed)? {
        let taken = Taken { by: row.get(2), because: row.get(3), at: row.get(4), run_id: row.get(5) };
        match row.get::<_, Option<String>>(1) {
            Some(check) => _ = overrides.accepted.insert((row.get(0), check), taken),
            None => _ = overrides.set_aside.insert(row.get(0), taken),
        }
    }
    Ok(overrides)
}

/// Notes, in the publishing transaction of `run`, that `tables` of `pipeline` are loaded again.
///
/// # Errors
/// As [`public::failure`].
pub async fn loaded(client: &Client, pipeline: &str, run: i64, tables: &[String]) -> Result<()> {
    let sql = "UPDATE sankofa.set_aside o SET loaded_run = $2, loaded_at = clock_timestamp() FROM sankofa.run r
        WHERE r.id = o.run AND r.pipeline = $1 AND o.run <> $2 AND o.loaded_at IS NULL AND o.table_name = ANY ($3::text[])";
    client.execute(sql, &[&pipeline, &run, &tables]).await.map(drop).map_err(failed)
}

/// Tables that a published run has left as they were and none has loaded since, by pipeline and table.
///
/// # Errors
/// As [`public::failure`].
pub async fn aside(client: &Client) -> Result<BTreeMap<(String, String), Taken>> {
    let sql = "SELECT r.pipeline, o.table_name, o.set_aside_by, o.reason, o.set_aside_at, r.run_id
        FROM sankofa.set_aside o JOIN sankofa.run r ON r.id = o.run
        WHERE o.loaded_at IS NULL AND r.status = 'published' ORDER BY o.run DESC";
    let cannot = |error| public::failure(error, "cannot read from the ledger what is set aside");
    let mut found = BTreeMap::new();
    for row in client.query(sql, &[]).await.map_err(cannot)? {
        let taken = Taken { by: row.get(2), because: row.get(3), at: row.get(4), run_id: row.get(5) };
        found.insert((row.get(0), row.get(1)), taken); // the oldest run in a row wins
    }
    Ok(found)
}

/// The newest `limit` misses of checks of `pipeline` that were accepted: table, check and who.
///
/// # Errors
/// As [`public::failure`].
pub async fn accepted(client: &Client, pipeline: &str, limit: i64) -> Result<Vec<(String, String, Taken)>> {
    let sql = "SELECT a.table_name, a.check_name, a.accepted_by, a.reason, a.accepted_at, r.run_id
        FROM sankofa.acceptance a JOIN sankofa.run r ON r.id = a.run
        WHERE r.pipeline = $1 ORDER BY a.accepted_at DESC LIMIT $2";
    let cannot = |error| public::failure(error, "cannot read from the ledger what was accepted");
    let rows = client.query(sql, &[&pipeline, &limit]).await.map_err(cannot)?;
    let taken = |row: &tokio_postgres::Row| {
        let taken = Taken { by: row.get(2), because: row.get(3), at: row.get(4), run_id: row.get(5) };
        (row.get(0), row.get(1), taken)
    };
    Ok(rows.iter().map(taken).collect())
}
