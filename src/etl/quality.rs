//! Quality checks: what each measures, and whether it passed.
//!
//! In:    a table's checks; what was counted as rows went by; the rows in scope as SQL relations.
//! Out:   one query a check at most, and a [`Checked`] with the figure, the bound and the verdict.
//! Holds: pure. A figure that is known already costs no query.
//! Not here: when a miss stops the run (`etl::publish`).

use crate::config::model::{Check, Rule, Scope, Severity};
use crate::error::{Checked, percent};
use crate::etl::extracted::Extracted;
use crate::etl::plan::{Action, TablePlan};
use crate::etl::window::KeyKind;
use crate::table::{literal, quote, quote_list};

/// The rows that checks look at.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// This run's rows: a relation with the table's own column names.
    pub batch: String,
    /// The table as it would be published, live rows only.
    pub table: String,
    /// The plan.
    pub plan: &'a TablePlan,
    /// What was counted as the rows went by.
    pub extracted: &'a Extracted,
    /// Live rows as they would be published.
    pub live_rows: i64,
}

/// How a check gets its figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// It is known.
    Known(Option<f64>),
    /// This query returns it, as one `float8`.
    Ask(String),
}

/// Whether a check can only be decided by asking the warehouse.
pub fn needs_query(check: &Check, plan: &TablePlan) -> bool {
    match &check.rule {
        Rule::MinRows(_) | Rule::MaxRows(_) => check.scope == Scope::Table && plan.action != Action::Create,
        Rule::MaxChange(_) => plan.action != Action::Create,
        Rule::NullRate { .. } => check.scope == Scope::Table && plan.action == Action::Merge,
        Rule::Unique(columns) => !is_key(columns, plan),
        _ => true,
    }
}

/// The newest value of a column as a moment: a replication key without a zone is in its own.
fn newest(column: &str, plan: &TablePlan) -> String {
    let newest = format!("max({})", quote(column));
    match plan.key.as_ref().filter(|key| key.name == column).map(|key| &key.kind) {
        Some(KeyKind::Timestamp { zone } | KeyKind::Date { zone }) => {
            format!("({newest}::timestamp AT TIME ZONE {})", literal(zone))
        }
        _ => newest,
    }
}

fn is_key(columns: &[String], plan: &TablePlan) -> bool {
    !plan.layout.key.is_empty() && plan.layout.key.iter().all(|name| columns.contains(name))
}

/// The figure of `check`, or how to ask for it.
pub fn figure(check: &Check, rows: &Rows<'_>) -> Figure {
    let relation = if check.scope == Scope::Batch { &rows.batch } else { &rows.table };
    let whole = rows.plan.action != Action::Merge;
    let read = rows.extracted.rows.rows as f64;
    match &check.rule {
        Rule::MinRows(_) | Rule::MaxRows(_) if check.scope == Scope::Batch => Figure::Known(Some(read)),
        Rule::MinRows(_) | Rule::MaxRows(_) => Figure::Known(Some(rows.live_rows as f64)),
        // A table that is filled part by part grows with each.
        Rule::MaxChange(_) if rows.plan.base.is_none() || rows.plan.reading.is_part() => Figure::Known(None),
        Rule::MaxChange(_) => {
            let (before, after) = (rows.plan.live_rows as f64, rows.live_rows as f64);
            Figure::Known(Some((after - before).abs() / before.max(1.0)))
        }
        Rule::NullRate { column, .. } if check.scope == Scope::Batch || whole => {
            let nulls = rows.plan.layout.columns.iter().position(|c| c.name == *column);
            let nulls = nulls.and_then(|at| rows.extracted.rows.nulls.get(at)).copied();
            Figure::Known(nulls.map(|nulls| nulls as f64 / read.max(1.0)))
        }
        Rule::NullRate { column, .. } => Figure::Ask(format!(
            "SELECT coalesce(avg(({} IS NULL)::int), 0)::float8 FROM {relation} AS r",
            quote(column)
        )),
        Rule::Unique(columns) if is_key(columns, rows.plan) => Figure::Known(Some(0.0)),
        Rule::Unique(columns) => Figure::Ask(duplicates(columns, relation)),
        Rule::Freshness { column, .. } => Figure::Ask(format!(
            "SELECT extract(epoch FROM clock_timestamp() - {})::float8 FROM {relation} AS r",
            newest(column, rows.plan)
        )),
        Rule::Accepted { column, values } => Figure::Ask(format!(
            "SELECT count(*)::float8 FROM {relation} AS r WHERE {}",
            not_accepted(column, values)
        )),
        Rule::References { columns, table, to } => Figure::Ask(dangling(columns, &table.sql(), to, relation)),
        Rule::Sql { query, .. } => Figure::Ask(format!(
            "WITH sankofa_rows AS (SELECT * FROM {relation} AS r) SELECT count(*)::float8 FROM ({}) AS refused",
            own(query)
        )),
    }
}

/// The verdicts on those `checks` whose figures reading alone tells.
pub fn known(checks: &[Check], plan: &TablePlan, extracted: &Extracted) -> Vec<Checked> {
    let live_rows = i64::try_from(extracted.staged).unwrap_or(i64::MAX);
    let rows = Rows { batch: String::new(), table: String::new(), plan, extracted, live_rows };
    let known = |check: &Check| match figure(check, &rows) {
        Figure::Known(figure) if plan.action != Action::Merge || !needs_query(check, plan) => {
            Some(judge(check, &plan.name.to_string(), figure))
        }
        _ => None,
    };
    checks.iter().filter_map(known).collect()
}

/// Rows that are not the first of their values; NULLs are distinct.
fn duplicates(columns: &[String], relation: &str) -> String {
    let all = quote_list(columns);
    let present: Vec<String> = columns.iter().map(|name| format!("{} IS NOT NULL", quote(name))).collect();
    format!(
        "SELECT coalesce(sum(n - 1), 0)::float8 FROM (SELECT count(*) AS n FROM {relation} AS r
         WHERE {} GROUP BY {all} HAVING count(*) > 1) AS d",
        present.join(" AND ")
    )
}

fn dangling(columns: &[String], table: &str, to: &[String], relation: &str) -> String {
    format!("SELECT count(*)::float8 FROM {relation} AS r WHERE {}", dangles(columns, table, to))
}

/// Whether row `r` has no row `o` that it refers to.
fn dangles(columns: &[String], table: &str, to: &[String]) -> String {
    let pairs: Vec<String> =
        columns.iter().zip(to).map(|(from, to)| format!("o.{} = r.{}", quote(to), quote(from))).collect();
    let present: Vec<String> = columns.iter().map(|name| format!("r.{} IS NOT NULL", quote(name))).collect();
    format!(
        "{} AND NOT EXISTS (SELECT FROM {table} AS o WHERE {})",
        present.join(" AND "),
        pairs.join(" AND ")
    )
}

/// A query for the values of `columns`, as text, of the rows that `check` refuses, in their order;
/// `None` where no single row is to blame, or there are no columns.
pub fn refused(check: &Check, rows: &Rows<'_>, columns: &[&str]) -> Option<String> {
    let relation = if check.scope == Scope::Batch { &rows.batch } else { &rows.table };
    let list = |of: &str| {
        let names: Vec<String> = columns.iter().map(|name| format!("{of}.{}", quote(name))).collect();
        names.join(", ")
    };
    let mut before = String::new();
    let condition = match &check.rule {
        _ if columns.is_empty() => return None,
        Rule::NullRate { column, .. } => format!("r.{} IS NULL", quote(column)),
        Rule::Accepted { column, values } => not_accepted(column, values),
        Rule::References { columns, table, to } => dangles(columns, &table.sql(), to),
        Rule::Unique(unique) => {
            let (own, all) = (unique.iter().map(|name| format!("r.{}", quote(name))), quote_list(unique));
            format!(
                "({}) IN (SELECT {all} FROM {relation} AS d GROUP BY {all} HAVING count(*) > 1)",
                own.collect::<Vec<_>>().join(", ")
            )
        }
        Rule::Sql { query, .. } => {
            before = format!("WITH sankofa_rows AS (SELECT * FROM {relation} AS r) ");
            // What it calls a key may be anything: only keys that there are come back.
            format!("({}) IN (SELECT {} FROM ({}) AS q)", list("r"), list("q"), own(query))
        }
        Rule::MinRows(_) | Rule::MaxRows(_) | Rule::MaxChange(_) | Rule::Freshness { .. } => return None,
    };
    let texts: Vec<String> = columns.iter().map(|name| format!("r.{}::text", quote(name))).collect();
    let texts = texts.join(", ");
    Some(format!("{before}SELECT {texts} FROM {relation} AS r WHERE {condition} ORDER BY {}", list("r")))
}

/// A check's own query, over the rows in scope.
fn own(query: &str) -> String {
    query.trim().trim_end_matches(';').replace("{table}", "sankofa_rows")
}

fn not_accepted(column: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
    format!("NOT r.{}::text = ANY (ARRAY[{}]::text[])", quote(column), values.join(", "))
}

/// Names of the columns a check looks at.
pub fn columns(check: &Check) -> Vec<&str> {
    match &check.rule {
        Rule::NullRate { column, .. } | Rule::Freshness { column, .. } | Rule::Accepted { column, .. } => {
            vec![column]
        }
        Rule::Unique(columns) | Rule::References { columns, .. } => {
            columns.iter().map(String::as_str).collect()
        }
        _ => Vec::new(),
    }
}

/// The name of a check: what it measures, of what.
pub fn name(check: &Check) -> String {
    match &check.rule {
        Rule::MinRows(_) => "rows.min".to_owned(),
        Rule::MaxRows(_) => "rows.max".to_owned(),
        Rule::MaxChange(_) => "rows.max_change".to_owned(),
        Rule::NullRate { column, .. } => format!("null_rate({column})"),
        Rule::Unique(columns) => format!("unique({})", columns.join(", ")),
        Rule::Freshness { column, .. } => format!("freshness({column})"),
        Rule::Accepted { column, .. } => format!("accepted({column})"),
        Rule::References { columns, table, .. } => format!("references({} -> {table})", columns.join(", ")),
        Rule::Sql { name, .. } => format!("sql({name})"),
    }
}

/// Judges `measured`.
pub fn judge(check: &Check, table: &str, measured: Option<f64>) -> Checked {
    let value = measured.unwrap_or(0.0);
    let (bound, passed) = match &check.rule {
        Rule::MinRows(rows) => (format!("at least {rows}"), value >= *rows as f64),
        Rule::MaxRows(rows) => (format!("at most {rows}"), value <= *rows as f64),
        Rule::MaxChange(share) | Rule::NullRate { at_most: share, .. } => {
            (format!("at most {}", percent(*share)), value <= *share)
        }
        Rule::Freshness { at_most, .. } => {
            // A table without a row has no newest one; that is what `rows: {min: 1}` is for.
            (format!("at most {} s", at_most.as_secs()), value <= at_most.as_secs_f64())
        }
        Rule::Unique(_) => ("no duplicates".to_owned(), value == 0.0),
        Rule::Accepted { values, .. } => (format!("one of {} values", values.len()), value == 0.0),
        Rule::References { .. } => ("no row without its reference".to_owned(), value == 0.0),
        Rule::Sql { .. } => ("no row".to_owned(), value == 0.0),
    };
    let scope = if check.scope == Scope::Batch { "batch" } else { "table" };
    let severity = if check.severity == Severity::Warn { "warn" } else { "fail" };
    Checked {
        table: table.to_owned(),
        check: name(check),
        scope: scope.to_owned(),
        severity: severity.to_owned(),
        measured,
        bound,
        passed,
        ..Checked::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(rule: Rule) -> Check {
        Check { rule, scope: Scope::Batch, severity: Severity::Fail }
    }

    #[test]
    fn a_figure_on_its_bound_passes_and_one_beyond_fails() {
        for (rule, good, bad) in [
            (Rule::MinRows(5), 5.0, 4.0),
            (Rule::MaxRows(5), 5.0, 6.0),
            (Rule::MaxChange(0.3), 0.3, 0.31),
            (Rule::NullRate { column: "a".into(), at_most: 0.0 }, 0.0, 0.001),
            (Rule::Freshness { column: "a".into(), at_most: Duration::from_secs(60) }, 60.0, 61.0),
            (Rule::Unique(vec!["a".into()]), 0.0, 1.0),
        ] {
            assert!(judge(&check(rule.clone()), "t", Some(good)).passed, "{rule:?}");
            assert!(!judge(&check(rule.clone()), "t", Some(bad)).passed, "{rule:?}");
        }
    }
}
