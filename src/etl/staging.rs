//! Rows on their way in the warehouse: tables that no reader sees.
//!
//! In:    a plan; batches of rows.
//! Out:   filled staging tables, committed; a new target, filled and with its key, not yet in place.
//! Holds: everything lies in schema `sankofa_stage` under the run's number, so that what a dead
//!        run has left is found and dropped.
//! Not here: how they are filled (`etl::filling`), when rows become visible (`etl::publish`).

use crate::error::Failure;
use crate::etl::create::{self, StagedIn};
use crate::etl::filling::refused_value;
use crate::etl::merge;
use crate::etl::plan::{Action, TablePlan};
use crate::ledger::STAGING_SCHEMA;
use crate::pg::Session;
use crate::table::{TableName, quote, quote_if_needed};
use anyhow::Result;
use futures_util::future::try_join_all;

/// Source tables of up to this size are small.
const SMALL_BYTES: u64 = 256 * 1024;
/// Small tables whose statements share a round trip.
const AT_ONCE: usize = 50;

/// Names of what one table of a run needs in the staging schema.
#[derive(Clone, Debug)]
pub struct Places {
    /// Staged rows, columns `c1` to `cn`.
    pub rows: TableName,
    /// Staged keys, for the search for rows that are gone.
    pub keys: TableName,
    /// The new target, until it is moved into place.
    pub hidden: TableName,
    /// The difference between staged rows and target.
    pub delta: TableName,
}

impl Places {
    /// The places of table number `table` of run `run`.
    pub fn of(run: i64, table: usize) -> Self {
        let name = |kind: &str| TableName::new(STAGING_SCHEMA, format!("r{run}_t{table}_{kind}"));
        Places { rows: name("rows"), keys: name("keys"), hidden: name("new"), delta: name("delta") }
    }
}

/// The table that says which stage the staging tables of `run` hold, once they do.
///
/// Without the log, as they are: what a crash of the server has emptied is not taken for filled.
pub fn seal(run: i64) -> TableName {
    TableName::new(STAGING_SCHEMA, format!("r{run}_t_seal"))
}

/// Whether rows go straight into the new target: nothing has to be cast on the way.
pub fn straight(plan: &TablePlan) -> bool {
    plan.action == Action::Create && !plan.layout.casts() && !plan.layout.columns.is_empty()
}

/// The table that is complete once [`complete`] has been through it.
pub fn ready(run: i64, number: usize, plan: &TablePlan) -> TableName {
    let places = Places::of(run, number);
    if plan.action == Action::Create { places.hidden } else { places.rows }
}

/// Makes the empty tables that a run's rows go into; the sessions share the work.
///
/// # Errors
/// As [`crate::pg::public::failure`]; 77 without CREATE in the staging schema.
pub async fn create(sessions: &[Session], run: i64, plans: &[TablePlan]) -> Result<()> {
    let work: Vec<(&TablePlan, String)> =
        plans.iter().enumerate().map(|(number, plan)| (plan, making(run, number, plan))).collect();
    let some: Vec<&[(&TablePlan, String)]> = work.chunks(AT_ONCE).collect();
    let shares = sessions.iter().enumerate().map(|(number, session)| {
        let share = some.iter().skip(number).step_by(sessions.len());
        async move {
            for few in share {
                together(session, few, |error, plan| {
                    session.failure(error, &format!("cannot make room for {} in the warehouse", plan.name))
                })
                .await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(shares).await.map(drop)
}

fn making(run: i64, number: usize, plan: &TablePlan) -> String {
    let places = Places::of(run, number);
    let room = if is_small(plan) { StagedIn::Logged } else { StagedIn::Unlogged };
    let mut sql = if is_whole(plan) {
        create::whole_target(&places.hidden, &plan.layout, run)
    } else if straight(plan) {
        create::target_table(&places.hidden, &plan.layout)
    } else {
        create::staging_table(&places.rows, &plan.layout, room)
    };
    if plan.compare_keys {
        sql.push(';');
        sql.push_str(&create::staging_table(&places.keys, &plan.layout.key_only(), room));
    }
    sql
}

/// Whether a new target is made with our columns and its key at once.
fn is_whole(plan: &TablePlan) -> bool {
    straight(plan) && is_small(plan) && (plan.layout.key.is_empty() || plan.layout.key_proven)
}

/// Whether a table is so small that what counts is the number of statements, files and answers it
/// takes, not its rows. A table whose size is not known, such as a view, is not.
pub fn is_small(plan: &TablePlan) -> bool {
    (1..=SMALL_BYTES).contains(&plan.source_bytes)
}

/// Runs the statements of several tables in one round trip. Where the server refuses one of them,
/// nothing has been done, and they run one by one: the error then names its table.
async fn together(
    session: &Session,
    work: &[(&TablePlan, String)],
    failed: impl Fn(tokio_postgres::Error, &TablePlan) -> anyhow::Error,
) -> Result<()> {
    let all: Vec<&str> = work.iter().map(|(_, sql)| sql.as_str()).collect();
    match (session.client.batch_execute(&all.join(";")).await, work) {
        (Ok(()), _) => return Ok(()),
        (Err(error), [(plan, _)]) => return Err(failed(error, plan)),
        (Err(error), [(plan, _), ..]) if !is_refusal(&error) => return Err(failed(error, plan)),
        (Err(_), _) => {}
    }
    for (plan, sql) in work {
        session.client.batch_execute(sql).await.map_err(|error| failed(error, plan))?;
    }
    Ok(())
}

/// The server says no to a statement, as it would again: feature, data, integrity, name or right.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| ["0A", "22", "23", "42"].contains(&&code.code()[..2]))
}

/// Drops what runs of `pipeline` have left in the staging schema; the caller holds its lock.
///
/// `keep` spares one run's tables; `more` sessions share the work. Seals go before what they vouch for.
///
/// # Errors
/// As [`crate::pg::public::failure`].
pub async fn sweep(session: &Session, more: &[Session], pipeline: &str, keep: Option<i64>) -> Result<()> {
    let query = "SELECT c.relname::text FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN sankofa.run r ON r.id = substring(c.relname FROM '^r([0-9]{1,18})_t')::bigint
        WHERE n.nspname = $1 AND c.relkind = 'r' AND r.pipeline = $2 AND r.id IS DISTINCT FROM $3
        ORDER BY c.relname ~ '_seal$' DESC";
    let cannot = "cannot sweep the staging schema of the warehouse";
    let rows = session
        .client
        .query(query, &[&STAGING_SCHEMA, &pipeline, &keep])
        .await
        .map_err(|error| session.failure(error, cannot))?;
    let names: Vec<String> =
        rows.iter().map(|row| format!("{STAGING_SCHEMA}.{}", quote(row.get::<_, &str>(0)))).collect();
    let drops: Vec<String> =
        names.chunks(AT_ONCE).map(|some| format!("DROP TABLE IF EXISTS {}", some.join(", "))).collect();
    let Some((first, rest)) = drops.split_first() else { return Ok(()) };
    batch(session, first, cannot).await?;
    let sessions: Vec<&Session> = std::iter::once(session).chain(more).collect();
    let shares = sessions.iter().enumerate().map(|(number, session)| {
        let share = rest.iter().skip(number).step_by(sessions.len());
        async move {
            for drops in share {
                batch(session, drops, cannot).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(shares).await.map(drop)
}

async fn batch(session: &Session, sql: &str, cannot: &str) -> Result<()> {
    session.client.batch_execute(sql).await.map_err(|error| session.failure(error, cannot))
}

/// Prepares what was filled: a new target gets our columns and its key; a staging table its
/// statistics, and its keys are proven where the source does not prove them.
///
/// # Errors
/// 65 for keys that are NULL or stand more than once; as [`crate::pg::public::failure`].
pub async fn complete(session: &Session, run: i64, tables: &[(usize, &TablePlan)]) -> Result<()> {
    for (number, plan) in tables.iter().filter(|(_, plan)| !straight(plan)) {
        let places = Places::of(run, *number);
        prove_casts(session, plan, &places).await?;
        prove_keys(session, plan, &places).await?;
    }
    // Small ones share a round trip; a large one has a transaction of its own.
    for some in tables.chunk_by(|(_, a), (_, b)| is_small(a) && is_small(b)) {
        for few in some.chunks(AT_ONCE) {
            let work: Vec<(&TablePlan, String)> =
                few.iter().map(|(number, plan)| (*plan, completing(run, *number, plan))).collect();
            if work.iter().all(|(_, sql)| sql.is_empty()) {
                continue;
            }
            let failed = |error, plan: &TablePlan| duplicate_or(session, error, plan);
            together(session, &work, failed).await?;
        }
    }
    Ok(())
}

fn completing(run: i64, number: usize, plan: &TablePlan) -> String {
    let places = Places::of(run, number);
    let filled = ready(run, number, plan);
    let mut sql = String::new();
    if plan.action == Action::Create {
        if !straight(plan) {
            sql.push_str(&create::target_table(&places.hidden, &plan.layout));
            sql.push(';');
            sql.push_str(&create::fill_target(&places.hidden, &places.rows, &plan.layout));
            sql.push(';');
        }
        sql.push_str(&match is_whole(plan) {
            true => create::drop_defaults(&places.hidden),
            false => create::complete_target(&places.hidden, &plan.layout.key, run),
        });
    }
    // The planner does without statistics of a few pages; autovacuum brings those of a new target.
    if !is_small(plan) {
        sql.push_str(&format!("ANALYZE {}", filled.sql()));
    }
    sql
}

/// A unique violation while the key is made means that the source's rows are not told apart by it.
fn duplicate_or(session: &Session, error: tokio_postgres::Error, plan: &TablePlan) -> anyhow::Error {
    match error.code().map(|code| code.code()) {
        Some("23505") => bad_keys(plan, "stand more than once").into(),
        Some("23502") => bad_keys(plan, "are NULL").into(),
        _ => session.failure(error, &format!("cannot prepare the rows of {}", plan.name)),
    }
}

/// Every value that travels as text must be one of its type here; the column that has another is named.
async fn prove_casts(session: &Session, plan: &TablePlan, places: &Places) -> Result<()> {
    let trial = |only: Option<&str>| merge::try_casts(&places.rows, &plan.layout, only);
    let Some(all) = trial(None) else { return Ok(()) };
    let Err(error) = session.client.batch_execute(&all).await else { return Ok(()) };
    for column in plan.layout.columns.iter().filter(|_| error.as_db_error().is_some()) {
        let Some(sql) = trial(Some(&column.name)) else { continue };
        if let Err(error) = session.client.batch_execute(&sql).await {
            let (name, sql) = (quote_if_needed(&column.name), &column.carried.target);
            let cannot =
                format!("cannot load {}: column {name} has a value that is no {sql} here", plan.name);
            return Err(refused_value(session, error, &cannot));
        }
    }
    Err(session.failure(error, &format!("cannot prepare the rows of {}", plan.name)))
}

async fn prove_keys(session: &Session, plan: &TablePlan, places: &Places) -> Result<()> {
    if plan.layout.key.is_empty() || plan.layout.key_proven {
        return Ok(());
    }
    let row = session
        .client
        .query_one(&merge::count_bad_keys(&places.rows, &plan.layout), &[])
        .await
        .map_err(|error| session.failure(error, &format!("cannot check the keys of {}", plan.name)))?;
    match (row.get::<_, i64>(0), row.get::<_, i64>(1)) {
        (0, 0) => Ok(()),
        (0, nulls) => Err(bad_keys(plan, &format!("are NULL in {nulls} rows")).into()),
        (twice, _) => Err(bad_keys(plan, &format!("stand more than once for {twice} of them")).into()),
    }
}

fn bad_keys(plan: &TablePlan, how: &str) -> Failure {
    Failure::data(format!("cannot load {}: keys ({}) {how}", plan.name, plan.layout.key.join(", ")))
        .hint("Name the columns that tell its rows apart with `key: [...]`; nothing was published.")
}
