//! `sankofa backups coverage`.

use super::Open;
use crate::backup::coverage::{Row, Verdict, judge, look};
use crate::cmd::open;
use crate::cmd::record;
use crate::config::model::Database;
use crate::error::Failure;
use crate::ledger::records;
use crate::report::Report;
use crate::report::lines::{columns, span};
use crate::secret::Asked;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Names in the sentence of a failure.
const NAMED: usize = 5;

/// Hold every database of every server in `servers:` against its newest backup; any gap is 65
#[derive(clap::Args, Debug)]
pub struct Args {}

pub async fn run(open: &Open<'_>) -> anyhow::Result<Report> {
    let backups = &open.project.backups;
    if backups.servers.is_empty() && backups.databases.is_empty() {
        let hint = "Name connections to your servers under `backups: {servers: [...]}`.";
        return Err(Failure::config("cannot tell what is covered: `backups:` is empty").hint(hint).into());
    }
    let listed: Vec<&Database> = backups.databases.iter().collect();
    let servers = backups.servers.iter().map(|id| Asked::Connection(id));
    open.fetch(&listed, servers.chain(open::warehouse(&open.project))).await;
    let (servers, listed) = tokio::join!(
        look::servers(backups, &open.resolver),
        look::listed(backups, &open.project.environment, &open.resolver)
    );
    let rows = judge(&servers, &listed, &backups.ignore, Timestamp::now());
    let mut report = open.context.report();
    let gaps: Vec<&Row> = rows.iter().filter(|row| row.verdict == Verdict::Gap).collect();
    report.extra.insert("gaps".into(), json!(gaps.len()));
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    report.extra.insert("covered".into(), json!(count(Verdict::Covered)));
    if backups.servers.is_empty() {
        let what = "`servers:` names none: databases that nobody has listed are not looked for";
        report.warnings.push(what.to_owned());
    }
    let found: Vec<Value> = rows.iter().map(to_row).collect();
    let write = async |client: &Client| records::coverage(client, &Value::Array(found)).await;
    report.warnings.extend(record::note(&open.project, &open.resolver, write).await);
    // What matters comes first, should not all of it fit.
    let first = gaps.iter().copied().chain(rows.iter().filter(|row| row.verdict != Verdict::Gap));
    report.extra.insert("databases".into(), first.map(to_json).collect());
    let report = match failure(&gaps) {
        Some(failure) => report.failed(&failure),
        None => report,
    };
    let text = words(&rows, &gaps, &report.warnings);
    Ok(report.for_person(text))
}

/// As view `coverage` has it.
fn to_row(row: &Row) -> Value {
    json!({
        "server": row.server, "database_name": row.database, "backed_up_as": row.listed,
        "newest_at": row.newest_at, "age_s": row.age_s.map(|(age, _)| age),
        "expected_every_s": row.age_s.map(|(_, limit)| limit),
        "verdict": row.verdict.word().to_lowercase(), "said": row.said,
    })
}

fn to_json(row: &Row) -> Value {
    json!({
        "server": row.server, "database": row.database, "backed_up_as": row.listed,
        "newest_at": row.newest_at, "age_s": row.age_s.map(|(age, _)| age),
        "expected_every_s": row.age_s.map(|(_, limit)| limit),
        "verdict": row.verdict.word().to_lowercase(), "said": row.said,
    })
}

fn name(row: &Row) -> String {
    row.database.clone().or_else(|| row.listed.clone()).unwrap_or_else(|| format!("server {}", row.server))
}

fn failure(gaps: &[&Row]) -> Option<Failure> {
    let named: Vec<String> = gaps.iter().take(NAMED).map(|row| name(row)).collect();
    let more = gaps.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = match gaps.len() {
        0 => return None,
        1 => format!("1 database is not covered: {} ({})", named[0], gaps[0].said),
        count => format!("{count} databases are not covered: {}{more}", named.join(", ")),
    };
    Some(Failure::data(what).hint(
        "Back it up under `backups: {databases: ...}`, or name it under `ignore:`; \
         late ones: see why `sankofa backup` has not run.",
    ))
}

fn words(rows: &[Row], gaps: &[&Row], warnings: &[String]) -> String {
    let cells = |row: &Row| {
        let age = row.age_s.map(|(age, limit)| (span(age.max(0).unsigned_abs()), span(limit)));
        let (age, limit) = age.unwrap_or(("-".into(), "-".into()));
        let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let server = row.server.clone();
        vec![
            server,
            optional(&row.database),
            optional(&row.listed),
            age,
            limit,
            row.verdict.word().into(),
            row.said.clone(),
        ]
    };
    let header = ["server", "database", "backed up as", "newest is", "expected", "", ""];
    let mut text = columns(&header, &rows.iter().map(cells).collect::<Vec<_>>());
    for warning in warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push_str(&match gaps.len() {
        0 => "coverage: no gap\n".to_owned(),
        count => format!("coverage: {count} of {} lines are gaps\n", rows.len()),
    });
    text
}
