//! `plan`: what the next run would do to each table, found out by planning it and stopping there.
//!
//! In:    a [`Request`].
//! Out:   one [`Line`] a table: what would be done, or why it would be refused.
//! Holds: nothing is written on either side and no lock of the pipeline is taken.
//! Not here: the words (`etl::explain`), the plans (`etl::prepare`).

use crate::config::model::TableSpec;
use crate::error::{Failure, Kind, classify};
use crate::etl::contract::Change;
use crate::etl::explain::Around;
use crate::etl::plan::TablePlan;
use crate::etl::publish;
use crate::etl::run::{Hands, Request};
use crate::etl::target;
use crate::ledger;
use crate::ledger::history::{self, Past};
use crate::ledger::state::{self, TableState};
use crate::pg::Session;
use crate::table::TableName;
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the next run would do to one table.
pub struct Line {
    /// The source table.
    pub table: String,
    /// The warehouse table.
    pub target: String,
    /// How it is read.
    pub mode: &'static str,
    /// What would be done, in labelled sentences; or why it would be refused.
    pub told: Result<Told, Failure>,
}

/// What would be done.
pub struct Told {
    /// Labelled sentences.
    pub sentences: Vec<(&'static str, String)>,
    /// The same for a program.
    pub json: Value,
    /// Readers of a loaded table would find another definition.
    pub changes_schema: bool,
    /// The changes in words.
    pub change: Option<String>,
    /// Why every row is read.
    pub reason: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What the ledger knows.
#[derive(Default)]
struct Known {
    states: BTreeMap<String, TableState>,
    past: BTreeMap<String, Past>,
}

/// Everything that is told.
pub struct Preview {
    /// One a table, in the pipeline's order.
    pub lines: Vec<Line>,
    /// What was seen of the source.
    pub warnings: Vec<String>,
}

/// Plans the run and tells it.
///
/// # Errors
/// What makes every table fail: an unreachable server, another environment's ledger, a missing secret.
pub async fn preview(request: &Request<'_>, hands: &Hands<'_>) -> Result<Preview> {
    let settings = request.project.warehouse()?;
    let connection = hands.resolver.connection(&settings.connection).await?;
    let warehouse = target::look(&connection, settings, &request.application_name()).await?;
    let found = ledger::look(&warehouse.client).await?;
    let mut known = Known::default();
    if found.version > 0 {
        ledger::refuse(&found, &request.project.environment)?;
        known.states = state::read(&warehouse.client, &request.pipeline.name).await?;
        known.past = history::past(&warehouse.client, &request.pipeline.name).await?;
    }
    let left = left_out(request, &known);
    let error = match tell(request, hands, (&warehouse, &known)).await {
        Ok(mut preview) => {
            preview.warnings.extend(left);
            return Ok(preview);
        }
        Err(error) => error,
    };
    let kind = classify(&error).kind;
    if !matches!(kind, Kind::Data | Kind::Config | Kind::Permission) {
        return Err(error);
    }
    let mut preview = one_by_one(request, hands, (&warehouse, &known), error).await?;
    preview.warnings.extend(left);
    Ok(preview)
}

/// Tables that were loaded once and that the pipeline no longer has: nothing becomes of them.
fn left_out(request: &Request<'_>, known: &Known) -> Vec<String> {
    let pipeline = request.pipeline;
    let is_read = |name: &String| pipeline.tables.iter().any(|spec| spec.name.to_string() == *name);
    let is_filled = |target: &String| {
        pipeline
            .tables
            .iter()
            .any(|spec| TableName::new(&pipeline.schema, &spec.target).to_string() == *target)
    };
    let gone = known.states.iter().filter(|(name, state)| !is_read(name) && !is_filled(&state.target));
    gone.map(|(name, state)| {
        format!("{name} is no longer in the pipeline: {} stays as it is, and gets no more rows", state.target)
    })
    .collect()
}

/// Some table is refused: each is planned alone, so that it is known which, and what of the others.
async fn one_by_one(
    request: &Request<'_>,
    hands: &Hands<'_>,
    ends: (&Session, &Known),
    error: anyhow::Error,
) -> Result<Preview> {
    let mut all = Preview { lines: Vec::new(), warnings: Vec::new() };
    for spec in &request.specs {
        let alone = Request {
            specs: vec![spec],
            wishes: request.wishes.clone(),
            overrides: request.overrides.clone(),
            ..*request
        };
        match tell(&alone, hands, ends).await {
            Ok(preview) => {
                all.lines.extend(preview.lines);
                all.warnings.extend(preview.warnings);
            }
            Err(error) => {
                let failure = classify(&error);
                if failure.kind == Kind::Temporary {
                    return Err(error);
                }
                all.lines.push(line(request, spec, Err(failure)));
            }
        }
    }
    all.warnings.sort();
    all.warnings.dedup();
    // What is wrong with all of them is not a matter of any one table.
    let mut reasons = all.lines.iter().map(|line| line.told.as_ref().err().map(|failure| &failure.what));
    let first = reasons.next().flatten().cloned();
    let same = first.is_some() && reasons.all(|reason| reason == first.as_ref());
    if same && all.lines.len() > 1 { Err(error) } else { Ok(all) }
}

fn line(request: &Request<'_>, spec: &TableSpec, told: Result<Told, Failure>) -> Line {
    Line {
        table: spec.name.to_string(),
        target: format!("{}.{}", request.pipeline.schema, spec.target),
        mode: crate::etl::plan::mode_word(spec.mode),
        told,
    }
}

async fn tell(
    request: &Request<'_>,
    hands: &Hands<'_>,
    (warehouse, known): (&Session, &Known),
) -> Result<Preview> {
    let (source, prepared, _cancel) = request.plan(hands, warehouse).await?;
    let mut all = Preview { lines: Vec::new(), warnings: source.warnings.clone() };
    for (number, plan) in prepared.plans.iter().enumerate() {
        let spec = prepared.specs[number];
        let columns: Vec<String> = source.tables[number].columns.iter().map(|c| c.name.clone()).collect();
        let guard = &request.project.guard;
        let around = Around {
            never: guard.never_columns(&source.database, &plan.name, &columns),
            forced: guard.masks(&source.database, &plan.name, &columns),
            columns,
            past: known.past.get(&plan.name.to_string()).cloned().unwrap_or_default(),
            target_bytes: bytes(warehouse, plan).await?,
            views: views(warehouse, plan).await?,
            deletes_age_s: known.states.get(&plan.name.to_string()).and_then(|state| state.deletes_age_s),
            plan,
            spec,
        };
        let told = Told {
            sentences: around.sentences(),
            json: around.to_json(),
            changes_schema: around.changes_schema(),
            change: plan.decision.words(),
            reason: plan.full_reason(),
            warnings: plan.warnings.clone(),
        };
        all.lines.push(line(request, spec, Ok(told)));
    }
    Ok(all)
}

/// Bytes of the warehouse table with its indexes; 0 if it is not there.
async fn bytes(warehouse: &Session, plan: &TablePlan) -> Result<u64> {
    let query = "SELECT coalesce(pg_catalog.pg_total_relation_size(pg_catalog.to_regclass($1)), 0)";
    let row = warehouse.client.query_one(query, &[&plan.target.sql()]).await;
    let row =
        row.map_err(|error| warehouse.failure(error, &format!("cannot see the size of {}", plan.target)))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// Views that read a column which changes or goes.
async fn views(warehouse: &Session, plan: &TablePlan) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for change in &plan.decision.changes {
        if let Change::Retyped { column, .. } | Change::Dropped { column } = change {
            let found = publish::blocking_views(warehouse, &plan.target, column).await?;
            all.extend(found.into_iter().map(|view| (column.clone(), view)));
        }
    }
    Ok(all)
}

impl Preview {
    /// As a person reads it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&format!("{} -> {}  [{}]\n", line.table, line.target, line.mode));
            match &line.told {
                Ok(told) => {
                    for (label, sentence) in &told.sentences {
                        text.push_str(&format!("  {label:<11} {sentence}\n"));
                    }
                }
                Err(failure) => {
                    text.push_str(&format!(
                        "  {:<11} {} (exit {})\n",
                        "refused",
                        failure.what,
                        failure.kind.exit_code()
                    ));
                    if let Some(hint) = &failure.hint {
                        text.push_str(&format!("  {:<11} {hint}\n", ""));
                    }
                }
            }
            text.push('\n');
        }
        for warning in &self.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        let changing =
            self.lines.iter().filter(|l| l.told.as_ref().is_ok_and(|told| told.changes_schema)).count();
        let refused = self.lines.iter().filter(|line| line.told.is_err()).count();
        let tables = self.lines.len();
        let schema = match changing {
            0 => "no schema changes".to_owned(),
            some => format!("{some} would change the schema"),
        };
        let refused = if refused == 0 { String::new() } else { format!(", {refused} would be refused") };
        text.push_str(&format!(
            "plan: {tables} table{}, {schema}{refused}; nothing was touched\n",
            if tables == 1 { "" } else { "s" }
        ));
        crate::report::plain(&text)
    }

    /// Every table's facts, for a program.
    pub fn to_json(&self) -> Value {
        let one = |line: &Line| match &line.told {
            Ok(told) => told.json.clone(),
            Err(failure) => json!({
                "table": line.table, "target": line.target, "mode": line.mode,
                "refused": {"code": failure.kind.word(), "exit": failure.kind.exit_code(),
                            "message": failure.what, "hint": failure.hint},
            }),
        };
        Value::Array(self.lines.iter().map(one).collect())
    }

    /// The most serious refusal, naming all.
    pub fn refusal(&self) -> Option<Failure> {
        let failures: Vec<Failure> =
            self.lines.iter().filter_map(|line| line.told.as_ref().err().cloned()).collect();
        let worst = crate::error::most_serious(&failures)?;
        let all: Vec<&str> = failures.iter().map(|failure| failure.what.as_str()).collect();
        let mut failure = Failure::new(worst.kind, all.join("; "));
        failure.hint.clone_from(&worst.hint);
        Some(failure)
    }
}
