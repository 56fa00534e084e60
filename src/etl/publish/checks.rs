//! Asks the figures of a table's checks, inside the publishing transaction, and keeps them.

use super::{Counts, Publication, TableJob};
use crate::etl::plan::Action;
use crate::etl::quality::{self, Checked, Figure, Rows};
use crate::etl::staging::Places;
use crate::pg::Session;
use crate::table::quote;
use anyhow::Result;

/// The figures of all checks of one table.
pub async fn check(
    publication: &Publication<'_>,
    job: &TableJob<'_>,
    counts: &Counts,
) -> Result<Vec<Checked>> {
    let places = Places::of(publication.run, job.number);
    let rows = Rows {
        batch: batch(job, &places),
        table: table(job, &places),
        plan: job.plan,
        extracted: job.extracted,
        live_rows: counts.live_rows,
    };
    let mut all = Vec::new();
    for check in &job.spec.checks {
        let measured = match quality::figure(check, &rows) {
            Figure::Known(figure) => figure,
            Figure::Ask(query) => {
                let cannot = format!("cannot check {} of {}", quality::name(check), job.plan.name);
                let row = publication.session.client.query_one(&query, &[]).await;
                row.map_err(|error| publication.session.failure(error, &cannot))?.get(0)
            }
        };
        all.push(quality::judge(check, &job.plan.name.to_string(), measured));
    }
    Ok(all)
}

/// This run's rows under the table's own names.
fn batch(job: &TableJob<'_>, places: &Places) -> String {
    if job.plan.action == Action::Create {
        return format!("(SELECT * FROM {} AS b)", places.hidden.sql());
    }
    let columns = job.plan.layout.columns.iter().enumerate();
    let named: Vec<String> = columns
        .map(|(at, column)| format!("s.c{}::{} AS {}", at + 1, column.carried.target, quote(&column.name)))
        .collect();
    format!("(SELECT {} FROM {} AS s)", named.join(", "), places.rows.sql())
}

/// The live rows as they would be published.
fn table(job: &TableJob<'_>, places: &Places) -> String {
    let place = if job.plan.action == Action::Create { &places.hidden } else { &job.plan.target };
    format!("(SELECT * FROM {} AS t WHERE t._sankofa_deleted_at IS NULL)", place.sql())
}

/// Keeps the figures of one table's checks.
pub async fn record(session: &Session, run: i64, checked: &[Checked], table: &str) -> Result<()> {
    let sql = "INSERT INTO sankofa.check_result VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (run, table_name, check_name) DO UPDATE SET measured = excluded.measured,
            bound = excluded.bound, passed = excluded.passed, scope = excluded.scope, severity = excluded.severity";
    for c in checked.iter().filter(|c| c.table == table) {
        session
            .client
            .execute(
                sql,
                &[&run, &c.table, &c.check, &c.scope, &c.severity, &c.measured, &c.bound, &c.passed],
            )
            .await
            .map_err(|error| session.failure(error, &format!("cannot keep the checks of {table}")))?;
    }
    Ok(())
}
