//! What people need to know of a check that was missed: since when, by which rows, who has accepted it.
//!
//! In:    a check and its verdict, inside the publishing transaction; what was taken on for the run.
//! Out:   the verdict with all that, and the failure that refuses the run.
//! Holds: of a row nothing but its key is told, and of that no masked column and no text; rows that cannot be
//!        asked for are left out and change no verdict.
//! Not here: the figure (`etl::quality`).

use super::Publication;
use super::checks::{FREED, confined};
use crate::config::model::Check;
use crate::error::{Checked, Failure};
use crate::etl::layout::LayoutColumn;
use crate::etl::quality::{self, Rows};
use crate::ledger::checks::since;
use crate::report::{Report, plain};
use anyhow::Result;

/// Rows that are named.
const NAMED: usize = 5;
/// Types whose values tell rows apart and describe nobody. A text may be a name, an address, a number of a
/// person: it is a cell as any other.
const TOLD: [&str; 7] = ["int2", "int4", "int8", "uuid", "date", "timestamp", "timestamptz"];
/// Characters of a key's value that are told.
const LONGEST: usize = 60;

/// Adds to a miss since when, by which rows and who has accepted it.
pub async fn look(
    publication: &Publication<'_>,
    (check, rows): (&Check, &Rows<'_>),
    checked: &mut Checked,
) -> Result<()> {
    let client = &publication.session.client;
    let (at, run) = since(client, publication.run, (checked.table.as_str(), checked.check.as_str())).await?;
    (checked.since, checked.since_run) = (Some(at), Some(run));
    if let Some(taken) = publication.overrides.accepts(&checked.table, &checked.check) {
        checked.accepted_by = Some(taken.by.clone());
        checked.accepted_because = Some(taken.because.clone());
    }
    let shown: Vec<&LayoutColumn> =
        rows.plan.layout.key_columns().filter(|column| may_be_told(column)).collect();
    let columns: Vec<&str> = shown.iter().map(|column| column.name.as_str()).collect();
    let Some(query) = quality::refused(check, rows, &columns) else { return Ok(()) };
    let mut keys = ask(publication, &query, &columns).await?;
    checked.more_rows = keys.len() > NAMED;
    keys.truncate(NAMED);
    checked.rows = keys;
    Ok(())
}

/// Whether the values of a key column may be told: it has no mask, and a type that describes nobody.
fn may_be_told(column: &LayoutColumn) -> bool {
    let kind = &column.source.column_type;
    column.mask.is_none() && kind.is_builtin() && TOLD.contains(&kind.name.as_str())
}

/// The keys that `query` tells, one more than are named; none where the server refuses it.
async fn ask(publication: &Publication<'_>, query: &str, columns: &[&str]) -> Result<Vec<String>> {
    let client = &publication.session.client;
    let cannot = "cannot look for the rows that a check refuses";
    let failed = |error| publication.session.failure(error, cannot);
    client.batch_execute(&confined(publication)).await.map_err(failed)?;
    client.batch_execute("SET LOCAL statement_timeout = '60s'").await.map_err(failed)?;
    let limited = format!("{query} LIMIT {}", NAMED + 1);
    let found = client.query(&limited, &[]).await.unwrap_or_default();
    client.batch_execute(FREED).await.map_err(failed)?;
    let key = |row: &tokio_postgres::Row| {
        let parts = columns.iter().enumerate().map(|(at, name)| {
            let value: Option<String> = row.get(at);
            format!("{name}={}", short(&value.unwrap_or_else(|| "NULL".into())))
        });
        parts.collect::<Vec<_>>().join(", ")
    };
    Ok(found.iter().map(key).collect())
}

/// What may be shown of a value: its start, on one line.
fn short(value: &str) -> String {
    let text = plain(value).replace(['\n', '\t'], " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Counts missed checks into `report`, and tells of them.
///
/// # Errors
/// 65 naming every check of severity `fail` that missed and that nobody has accepted.
pub fn judge(report: &mut Report, checked: &[Checked]) -> Result<(), Failure> {
    let missed: Vec<&Checked> = checked.iter().filter(|checked| !checked.passed).collect();
    let (refusing, told): (Vec<&Checked>, Vec<&Checked>) =
        missed.iter().copied().partition(|checked| checked.refuses());
    report.checks_failed = refusing.len() as u64;
    report.checks_warned += told.len() as u64;
    report.warnings.extend(told.iter().map(|checked| checked.told()));
    report.missed.extend(missed.into_iter().cloned());
    let Some(first) = refusing.first() else { return Ok(()) };
    let words: Vec<String> = refusing.iter().map(|checked| checked.words()).collect();
    let hint = format!(
        "Nothing was published. Mend the data at the source, or the check in the pipeline, and run it again; or for this \
         run alone add `--accept '{}: {}'` or `--set-aside {}`, with `--by NAME --reason TEXT`.",
        first.table, first.check, first.table
    );
    let failure = Failure::data(format!("cannot publish: {}", words.join("; "))).hint(hint);
    Err(Failure { missed: report.missed.clone(), ..failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(check: &str, severity: &str, accepted_by: Option<&str>) -> Checked {
        Checked {
            table: "public.t".into(),
            check: check.into(),
            severity: severity.into(),
            accepted_by: accepted_by.map(Into::into),
            accepted_because: accepted_by.map(Into::into),
            ..Default::default()
        }
    }

    #[test]
    fn a_miss_that_only_warns_or_was_accepted_refuses_nothing_and_is_told() {
        let all = [missed("a", "warn", None), missed("b", "fail", Some("Ama"))];
        let mut report = Report::default();
        judge(&mut report, &all).unwrap();
        assert_eq!((report.checks_failed, report.checks_warned, report.missed.len()), (0, 2, 2));
        assert!(report.warnings[1].contains("accepted for this run by Ama"));
        let failure = judge(&mut Report::default(), &[missed("c", "fail", None)]).unwrap_err();
        assert!(failure.hint.unwrap().contains("--accept 'public.t: c'"));
    }

    #[test]
    fn a_value_is_told_by_its_start_on_one_line() {
        assert_eq!(short("a\nb\u{1b}[31m"), "a b\u{fffd}[31m");
        assert_eq!(short(&"ɛ".repeat(99)).chars().count(), LONGEST + 3);
    }
}
