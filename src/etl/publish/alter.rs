//! Changes of warehouse tables, and the short locks that they need.
//!
//! A short change (a new column, a wider varchar) is its own small transaction just before the
//! rows, so that ACCESS EXCLUSIVE is not held while they are merged; a rewrite, which somebody has
//! allowed, is part of the publishing transaction; what is dropped is dropped last.

use super::{Publication, TableJob};
use crate::error::Failure;
use crate::etl::contract::{Change, Weight};
use crate::etl::plan::{Action, TablePlan};
use crate::pg::Session;
use crate::table::{TableName, quote, quote_list};
use anyhow::Result;
use std::time::Duration;

/// Tries for a short change, each at most 200 ms of waiting.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(300);

/// Short changes, each table in a transaction of its own.
pub async fn before(publication: &Publication<'_>) -> Result<()> {
    for plan in existing(publication).filter(|plan| plan.decision.weight(false) == Weight::Short) {
        let clauses = clauses(plan, false);
        if clauses.is_empty() {
            continue;
        }
        short(publication.session, &plan.target, &format!("ALTER TABLE {} {clauses}", plan.target.sql()))
            .await?;
    }
    Ok(())
}

/// Runs one short change: waits at most 200 ms a try, holds its lock at most 1 s.
///
/// # Errors
/// 75 naming who blocks it.
pub async fn short(session: &Session, table: &TableName, sql: &str) -> Result<()> {
    let lock = lock_writers(&table.sql());
    let sql = format!("BEGIN; {lock}; SET LOCAL statement_timeout = '1s'; {sql}; COMMIT");
    for attempt in 0..TRIES {
        match session.client.batch_execute(&sql).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let waited = error.code().is_some_and(|code| matches!(code.code(), "55P03" | "57014"));
                let _ = session.client.batch_execute("ROLLBACK").await;
                if !waited {
                    return Err(session.failure(error, &format!("cannot alter {table}")));
                }
            }
        }
        tokio::time::sleep(PAUSE * (attempt % 3 + 1)).await;
    }
    Err(blocked(session, &[table]).await)
}

/// Keeps other writers, not readers, off `tables`. Waits for longer than `deadlock_timeout`, since only
/// then does PostgreSQL end an autovacuum that is in the way; that wait holds up no reader. What comes
/// after it waits at most 200 ms for its locks.
pub fn lock_writers(tables: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM
            pg_catalog.current_setting('deadlock_timeout')::interval) * 1000 + 1000)::int::text, true);
         LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE; SET LOCAL lock_timeout = '200ms'"
    )
}

/// Rewrites that were allowed, inside the publishing transaction.
pub async fn rewrite(publication: &Publication<'_>) -> Result<()> {
    for plan in existing(publication).filter(|plan| plan.decision.weight(false) == Weight::Rewrite) {
        let clauses = clauses(plan, false);
        if !clauses.is_empty() {
            let sql = format!("ALTER TABLE {} {clauses}", plan.target.sql());
            patiently(publication.session, &sql, &[&plan.target], TRIES).await?;
        }
    }
    Ok(())
}

/// Columns that are dropped, and keys that have changed: last, when everything else is done.
///
/// All tables are locked at once or not at all: whoever reads one of them never waits for the
/// readers of another.
pub async fn last(publication: &Publication<'_>) -> Result<()> {
    let mut changes: Vec<(&TableName, String)> = Vec::new();
    for job in publication.tables.iter().filter(|job| job.plan.action != Action::Create) {
        let sql = last_of(publication, job).await?;
        if !sql.is_empty() {
            changes.push((&job.plan.target, sql));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    let (tables, changes): (Vec<&TableName>, Vec<String>) = changes.into_iter().unzip();
    let names: Vec<String> = tables.iter().map(|table| table.sql()).collect();
    // Who reads the first waits while the others are locked: 1 s in all.
    let wait = (1000 / tables.len()).clamp(1, 200);
    let sql = format!(
        "SET LOCAL lock_timeout = {wait}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; {}",
        names.join(", "),
        changes.join("; ")
    );
    patiently(publication.session, &sql, &tables, TRIES).await
}

/// What is to be done to one table last, if anything; the index of a new key is built here, since
/// readers go on meanwhile.
async fn last_of(publication: &Publication<'_>, job: &TableJob<'_>) -> Result<String> {
    let plan = job.plan;
    let target = plan.target.sql();
    let mut sql = Vec::new();
    for change in &plan.decision.changes {
        match change {
            Change::Dropped { column } if plan.drop => {
                sql.push(format!("ALTER TABLE {target} DROP COLUMN {}", quote(column)));
            }
            Change::Key { to, .. } => sql.push(change_key(publication, job, to).await?),
            _ => {}
        }
    }
    Ok(sql.join("; "))
}

async fn change_key(publication: &Publication<'_>, job: &TableJob<'_>, to: &[String]) -> Result<String> {
    let (session, plan, target) = (publication.session, job.plan, job.plan.target.sql());
    let query = "SELECT conname::text FROM pg_catalog.pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'p'";
    let old = session
        .client
        .query_opt(query, &[&target])
        .await
        .map_err(|error| session.failure(error, &format!("cannot find the key of {}", plan.target)))?;
    let old: Option<String> = old.map(|row| row.get(0));
    let mut clauses: Vec<String> =
        old.iter().map(|name| format!("DROP CONSTRAINT {}", quote(name))).collect();
    let loosened = plan.contract.columns.iter().filter(|column| !to.contains(&column.name));
    clauses.extend(loosened.map(|column| format!("ALTER COLUMN {} DROP NOT NULL", quote(&column.name))));
    let mut sql = match clauses.is_empty() {
        true => String::new(),
        false => format!("ALTER TABLE {target} {}", clauses.join(", ")),
    };
    if !to.is_empty() {
        let index = format!("sankofa_key_{}_{}", publication.run, job.number);
        let make = format!("CREATE UNIQUE INDEX {index} ON {target} ({})", quote_list(to));
        publication.execute(&make, &format!("cannot make the new key of {}", plan.target)).await?;
        let name = old.unwrap_or_else(|| index.clone());
        let (separator, name) = (if sql.is_empty() { "" } else { "; " }, quote(&name));
        sql.push_str(&format!(
            "{separator}ALTER TABLE {target} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {index}"
        ));
    }
    Ok(sql)
}

fn existing<'a>(publication: &'a Publication<'_>) -> impl Iterator<Item = &'a TablePlan> {
    publication.tables.iter().map(|job| job.plan).filter(|plan| plan.action != Action::Create)
}

/// The clauses of ALTER TABLE that the changes of `plan` come to; `drop` drops what is gone.
pub fn clauses(plan: &TablePlan, drop: bool) -> String {
    let key = &plan.contract.key;
    let all = plan.decision.changes.iter().filter_map(|change| change.clause(key, drop));
    all.collect::<Vec<_>>().join(", ").replace("ADD COLUMN ", "ADD COLUMN IF NOT EXISTS ")
}

/// Runs `sql` inside the open transaction, trying again where its lock is not free.
///
/// # Errors
/// 75 naming who blocks it.
pub async fn patiently(session: &Session, sql: &str, tables: &[&TableName], tries: u32) -> Result<()> {
    let client = &session.client;
    let failed = |error| session.failure(error, &format!("cannot lock {}", names(tables)));
    for attempt in 0..tries {
        client.batch_execute("SAVEPOINT patience").await.map_err(failed)?;
        match client.batch_execute(sql).await {
            Ok(()) => return client.batch_execute("RELEASE SAVEPOINT patience").await.map_err(failed),
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => {
                client.batch_execute("ROLLBACK TO SAVEPOINT patience").await.map_err(failed)?;
                // Out of step with readers that come at a fixed pace.
                tokio::time::sleep(PAUSE / 3 * (attempt % 3 + 1)).await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(blocked(session, tables).await)
}

/// Runs `sql` inside the open transaction if all its locks can be had at once; else nothing is done,
/// and nothing stays locked.
///
/// # Errors
/// As the server fails for any other reason than a lock or a table that is not there.
pub async fn at_once(session: &Session, sql: &str) -> Result<bool> {
    let client = &session.client;
    let failed = |error| session.failure(error, "cannot lock the tables of the warehouse");
    let guarded = format!("SAVEPOINT patience; {sql}; RELEASE SAVEPOINT patience");
    match client.batch_execute(&guarded).await {
        Ok(()) => Ok(true),
        Err(error) if error.code().is_some_and(|code| matches!(code.code(), "55P03" | "42P01")) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT patience").await.map_err(failed).map(|()| false)
        }
        Err(error) => Err(failed(error)),
    }
}

fn names(tables: &[&TableName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The failure of a lock that could not be had, naming who holds one on the tables.
async fn blocked(session: &Session, tables: &[&TableName]) -> anyhow::Error {
    let query = "SELECT string_agg(DISTINCT format('server process %s (%s, %s)', a.pid,
            coalesce(nullif(a.application_name, ''), 'unknown program'), a.usename), ', ')
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
        WHERE l.granted AND a.pid <> pg_catalog.pg_backend_pid() AND l.relation = ANY (
            SELECT pg_catalog.to_regclass(t.name) FROM pg_catalog.unnest($1::text[]) AS t(name))";
    let sql: Vec<String> = tables.iter().map(|table| table.sql()).collect();
    let who =
        session.client.query_one(query, &[&sql]).await.ok().and_then(|row| row.get::<_, Option<String>>(0));
    Failure::temporary(format!(
        "cannot lock {}: in use by {}",
        names(tables),
        who.unwrap_or_else(|| "a session that has just ended".to_owned())
    ))
    .hint("Nothing was published. Run it again, or end the session that is in the way.")
    .into()
}

/// Views, and materialised ones, that stand in the way of altering or dropping `column`.
///
/// # Errors
/// As the server fails.
pub async fn blocking_views(session: &Session, table: &TableName, column: &str) -> Result<Vec<String>> {
    let query = "SELECT DISTINCT v.oid::regclass::text FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
        JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refobjid = pg_catalog.to_regclass($1) AND a.attname = $2 AND v.oid <> d.refobjid ORDER BY 1";
    let rows = session
        .client
        .query(query, &[&table.sql(), &column])
        .await
        .map_err(|error| session.failure(error, &format!("cannot see what depends on {table}")))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
