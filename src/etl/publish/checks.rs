//! Asks the figures of a table's checks, inside the publishing transaction.

use super::{Counts, Publication, TableJob, missed};
use crate::config::model::DeleteMode;
use crate::error::Checked;
use crate::etl::contract::Change;
use crate::etl::merge::Merge;
use crate::etl::plan::Action;
use crate::etl::quality::{self, Figure, Rows};
use crate::etl::staging::Places;
use crate::table::{literal, quote};
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
        table: table(job),
        plan: job.plan,
        extracted: job.extracted,
        live_rows: counts.live_rows,
    };
    measure(publication, job, &rows).await
}

/// The figures of all checks of a table whose definition publishing would change first: nothing is
/// altered for it, its rows are put together by a query.
pub async fn foresee(publication: &Publication<'_>, job: &TableJob<'_>) -> Result<Vec<Checked>> {
    let places = Places::of(publication.run, job.number);
    let table = foreseen(publication, job, &places);
    let cannot = format!("cannot count the rows of {}", job.plan.name);
    let counted =
        publication.session.client.query_one(&format!("SELECT count(*) FROM {table} AS r"), &[]).await;
    let live_rows = counted.map_err(|error| publication.session.failure(error, &cannot))?.get(0);
    let batch = batch(job, &places);
    let rows = Rows { batch, table, plan: job.plan, extracted: job.extracted, live_rows };
    measure(publication, job, &rows).await
}

/// The live rows of a table as publishing would leave them.
fn foreseen(publication: &Publication<'_>, job: &TableJob<'_>, places: &Places) -> String {
    let (plan, staged) = (job.plan, batch(job, places));
    let new_key = plan.decision.changes.iter().any(|change| matches!(change, Change::Key { .. }));
    let ignored = job.spec.deletes.mode == DeleteMode::Ignore;
    if plan.layout.key.is_empty() || new_key || (plan.action == Action::Replace && !ignored) {
        return staged;
    }
    let added: Vec<&str> = plan.decision.changes.iter().filter_map(Change::added).collect();
    let merge = Merge {
        layout: &plan.layout,
        target: &plan.target,
        staging: &places.rows,
        extinct: &plan.contract.extinct,
        run: publication.run,
    };
    let keys = Some(&places.keys).filter(|_| plan.compare_keys && !ignored);
    format!("(SELECT * FROM {staged} AS n UNION ALL {})", merge.kept(&added, keys))
}

async fn measure(publication: &Publication<'_>, job: &TableJob<'_>, rows: &Rows<'_>) -> Result<Vec<Checked>> {
    let mut all = Vec::new();
    for check in &job.spec.checks {
        let measured = match quality::figure(check, rows) {
            Figure::Known(figure) => figure,
            Figure::Ask(query) => {
                let cannot = format!("cannot check {} of {}", quality::name(check), job.plan.name);
                let asked = ask(publication, &query).await;
                asked.map_err(|error| publication.session.failure(error, &cannot))?
            }
        };
        let mut checked = quality::judge(check, &job.plan.name.to_string(), measured);
        if !checked.passed {
            missed::look(publication, (check, rows), &mut checked).await?;
        }
        all.push(checked);
    }
    Ok(all)
}

/// Asks one figure where nothing can be written: the pipeline's own SQL may be anything.
async fn ask(publication: &Publication<'_>, query: &str) -> Result<Option<f64>, tokio_postgres::Error> {
    let client = &publication.session.client;
    client.batch_execute(&confined(publication)).await?;
    let figure = client.query_one(query, &[]).await?.get(0);
    client.batch_execute(FREED).await?;
    Ok(figure)
}

/// Ends what [`confined`] began, also after an error.
pub(super) const FREED: &str = "ROLLBACK TO SAVEPOINT asking; RELEASE SAVEPOINT asking";

/// From here on nothing can be written, and names are looked up in the pipeline's schema first.
pub(super) fn confined(publication: &Publication<'_>) -> String {
    format!(
        "SAVEPOINT asking; SET LOCAL transaction_read_only = on;
         SELECT pg_catalog.set_config('search_path', {} || coalesce(nullif(', ' || pg_catalog.current_setting('search_path'), ', '), ''), true)",
        literal(&quote(&publication.pipeline.schema))
    )
}

/// This run's rows under the table's own names.
fn batch(job: &TableJob<'_>, places: &Places) -> String {
    if job.plan.action == Action::Create {
        return table(job);
    }
    let columns = job.plan.layout.columns.iter().enumerate();
    let named: Vec<String> = columns
        .map(|(at, column)| format!("s.c{}::{} AS {}", at + 1, column.carried.target, quote(&column.name)))
        .collect();
    format!("(SELECT {} FROM {} AS s)", named.join(", "), places.rows.sql())
}

/// The live rows as they would be published.
fn table(job: &TableJob<'_>) -> String {
    format!("(SELECT * FROM {} AS t WHERE t._sankofa_deleted_at IS NULL)", job.plan.target.sql())
}
