//! What is told of a backup: to a scheduler, and to a person.
//!
//! In:    its manifest and proof. Out: a [`Report`].
//! Holds: figures only; nothing of a row.

use crate::backup::manifest::{Kind, Manifest};
use crate::backup::names;
use crate::backup::proof::Proof;
use crate::backup::run::Request;
use crate::backup::source::Source;
use crate::pg::tool::Tools;
use crate::report::{Report, Status, TableFigures, duration, grouped, plain, size};
use crate::store::Store;
use serde_json::{Value, json};
use std::fmt::Write;

/// Tables that a person is shown, the largest first.
const SHOWN: usize = 12;

/// A backup that is stored now.
pub fn done(
    report: Report,
    manifest: &Manifest,
    proof: &Proof,
    warnings: &[String],
    store: &dyn Store,
) -> Report {
    let mut report = figures(report, manifest, store);
    report.tables = proof
        .tables
        .iter()
        .map(|table| TableFigures {
            table: format!("{}.{}", table.schema, table.table),
            mode: "dump".into(),
            read: table.set.count,
            bytes: table.set.bytes,
            ..TableFigures::default()
        })
        .collect();
    report.warnings.extend_from_slice(warnings);
    for (class, count) in &manifest.warnings {
        report.warnings.push(format!("pg_dump warned of {} ({count})", class.replace('_', " ")));
    }
    for left_out in proof.left_out.iter().filter(|one| one.class != "planner_statistics") {
        report.warnings.push(format!(
            "not in the dump: {} {}",
            left_out.class.replace('_', " "),
            left_out.name
        ));
    }
    let text = text(&report, manifest, &store.place());
    report.for_person(text)
}

/// A backup that this run has stored before.
pub fn already_done(report: Report, manifest: &Manifest, store: &dyn Store) -> Report {
    let mut report = figures(report, manifest, store);
    report.status = Status::AlreadyDone;
    let text = text(&report, manifest, &store.place());
    report.for_person(text)
}

/// What a backup would do.
pub fn would_do(
    mut report: Report,
    request: &Request<'_>,
    source: &Source,
    tools: &Tools,
    store: &dyn Store,
) -> Report {
    let database = request.database;
    let home = names::home(Kind::Database, &database.name);
    let facts = &source.facts;
    for (name, value) in [
        ("dry_run", json!(true)),
        ("place", json!(store.place())),
        ("folder", json!(home)),
        ("server_version", json!(facts.server_version)),
        ("pg_dump_version", json!(tools.version)),
        ("database_bytes", json!(facts.database_bytes)),
        ("recipients", json!(database.encrypt_to.len())),
    ] {
        report.extra.insert(name.into(), value);
    }
    let text = format!(
        "backup {}: would dump {} of PostgreSQL {} with pg_dump {} ({}),\n  sealed to {}, to {home} in {}\n",
        plain(&database.name),
        size(facts.database_bytes),
        facts.server_version,
        tools.version,
        tools.folder.display(),
        database.encrypt_to.join(" and "),
        store.place(),
    );
    report.for_person(text)
}

fn figures(mut report: Report, manifest: &Manifest, store: &dyn Store) -> Report {
    report.rows = manifest.counts.rows;
    report.bytes = manifest.object.plain_bytes;
    let home = names::home(manifest.kind, &manifest.database);
    let fields: [(&str, Value); 13] = [
        ("backup", json!(manifest.id)),
        ("place", json!(store.place())),
        ("folder", json!(format!("{home}{}/", manifest.id))),
        ("stored_bytes", json!(manifest.object.stored_bytes)),
        ("stored_sha256", json!(manifest.object.stored_sha256)),
        ("table_count", json!(manifest.counts.tables)),
        ("large_objects", json!(manifest.counts.large_objects)),
        ("globals", json!(manifest.globals)),
        ("server_version", json!(manifest.source.server_version)),
        ("dumped_at", json!(manifest.started_at.to_string())),
        ("stored_at", json!(manifest.finished_at.to_string())),
        ("left_out", json!(manifest.left_out)),
        ("timings_ms", json!(manifest.timings_ms)),
    ];
    report.extra.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    report
}

fn text(report: &Report, manifest: &Manifest, place: &str) -> String {
    let mut text = String::new();
    let mut tables: Vec<&TableFigures> = report.tables.iter().collect();
    tables.sort_by_key(|table| (std::cmp::Reverse(table.bytes), &table.table));
    let width = tables.iter().take(SHOWN).map(|table| table.table.chars().count()).max().unwrap_or(0);
    for table in tables.iter().take(SHOWN) {
        let name = plain(&table.table);
        let _ =
            writeln!(text, "  {name:width$}  {:>14} rows  {:>10}", grouped(table.read), size(table.bytes));
    }
    if tables.len() > SHOWN {
        let _ = writeln!(text, "  and {} smaller tables", tables.len() - SHOWN);
    }
    let object = &manifest.object;
    let times = object.plain_bytes as f64 / object.stored_bytes.max(1) as f64;
    let took: u64 = ["dump", "finish"].iter().filter_map(|phase| manifest.timings_ms.get(*phase)).sum();
    let _ = writeln!(
        text,
        "backup {}: {}: {} tables, {} rows, {} -> {} ({times:.1} to 1) in {}",
        plain(&manifest.database),
        report.status.word().replace('_', " "),
        grouped(manifest.counts.tables),
        grouped(manifest.counts.rows),
        size(object.plain_bytes),
        size(object.stored_bytes),
        duration(took),
    );
    let folder = format!("{}{}/", names::home(manifest.kind, &manifest.database), manifest.id);
    let _ = writeln!(text, "  in {place}: {folder}");
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {}", plain(warning));
    }
    text
}
