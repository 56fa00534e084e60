//! Where a pipeline stands: `state show`.
//!
//! In:    the pipeline's settings, its ledger.
//! Out:   watermarks, contracts, runs, as JSON and as a person reads them.
//! Holds: nothing is written, no lock is taken.
//! Not here: what the next run would do (`etl::preview`).

use crate::config::model::{DeleteMode, Pipeline, Project};
use crate::etl::target;
use crate::ledger;
use crate::ledger::history::{self, Past, PastRun};
use crate::ledger::overrides::{self, Taken};
use crate::ledger::state::{self, TableState};
use crate::report::lines::{ago, columns};
use crate::report::{duration, grouped, plain};
use crate::secret::Resolver;
use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Runs shown.
const RUNS: i64 = 10;
/// Accepted misses shown.
const ACCEPTED: i64 = 10;

/// One table's line.
pub struct Line {
    table: String,
    target: String,
    looks_for_deletes: bool,
    configured: bool,
    state: Option<TableState>,
    past: Past,
    aside: Option<Taken>,
}

/// Where a pipeline stands.
pub struct Standing {
    pipeline: String,
    environment: String,
    schema_version: i32,
    lines: Vec<Line>,
    runs: Vec<PastRun>,
    accepted: Vec<(String, String, Taken)>,
}

/// Asks the ledger.
///
/// # Errors
/// 78 for the ledger of another environment; as the warehouse fails.
pub async fn look(project: &Project, pipeline: &Pipeline, resolver: &Resolver) -> Result<Standing> {
    let connection = resolver.connection(&project.warehouse()?.connection).await?;
    let name = format!("sankofa/{} state show {}", env!("CARGO_PKG_VERSION"), pipeline.name);
    let session = target::look(&connection, project.warehouse()?, &name).await?;
    let found = ledger::look(&session.client).await?;
    let mut standing = Standing {
        pipeline: pipeline.name.clone(),
        environment: project.environment.clone(),
        schema_version: found.version,
        lines: Vec::new(),
        runs: Vec::new(),
        accepted: Vec::new(),
    };
    let (mut states, mut past, mut aside) = Default::default();
    if found.version > 0 {
        ledger::refuse(&found, &project.environment)?;
        states = state::read(&session.client, &pipeline.name).await?;
        past = history::past(&session.client, &pipeline.name).await?;
        aside = overrides::aside(&session.client).await?;
        standing.accepted = overrides::accepted(&session.client, &pipeline.name, ACCEPTED).await?;
        standing.runs = history::newest(&session.client, &pipeline.name, RUNS).await?;
    }
    for spec in &pipeline.tables {
        let table = spec.name.to_string();
        standing.lines.push(Line {
            target: format!("{}.{}", pipeline.schema, spec.target),
            looks_for_deletes: spec.deletes.mode != DeleteMode::Ignore,
            configured: true,
            state: states.remove(&table),
            past: past.remove(&table).unwrap_or_default(),
            aside: aside.remove(&(pipeline.name.clone(), table.clone())),
            table,
        });
    }
    // Tables that were taken out of the pipeline stay in the warehouse, and in the ledger.
    standing.lines.extend(states.into_iter().map(|(table, state)| Line {
        target: state.target.clone(),
        looks_for_deletes: false,
        configured: false,
        past: past.remove(&table).unwrap_or_default(),
        aside: None,
        state: Some(state),
        table,
    }));
    Ok(standing)
}

impl Standing {
    /// Everything, as fields of the result.
    pub fn to_json(&self) -> Map<String, Value> {
        let states = self.lines.iter().map(Line::to_json).collect();
        let runs = self.runs.iter().map(|run| {
            json!({
                "id": run.id, "run_id": run.run_id, "command": run.command, "status": run.status,
                "started_at": run.started_at.to_string(), "ended_at": run.ended_at.map(|at| at.to_string()),
                "error": run.error,
            })
        });
        let mut fields = Map::new();
        fields.insert("environment".into(), json!(self.environment));
        fields.insert("ledger_version".into(), json!(self.schema_version));
        fields.insert("states".into(), Value::Array(states));
        fields.insert("runs".into(), Value::Array(runs.collect()));
        let accepted = self.accepted.iter().map(|(table, check, taken)| {
            let mut one = taken_json(taken);
            (one["table"], one["check"]) = (json!(table), json!(check));
            one
        });
        fields.insert("accepted".into(), accepted.collect());
        fields
    }

    /// As a person reads it, at `now`.
    pub fn to_text(&self, now: Timestamp) -> String {
        if self.schema_version == 0 {
            return format!(
                "{}: the warehouse has no schema sankofa yet: nothing has been loaded.\n",
                self.pipeline
            );
        }
        let rows: Vec<Vec<String>> = self.lines.iter().map(|line| line.cells(now)).collect();
        let header =
            ["table", "watermark", "key", "live rows", "contract", "deletes compared", "last published"];
        let mut text = format!("Pipeline {}, environment {}\n\nTables\n", self.pipeline, self.environment);
        text.push_str(&columns(&header, &rows));
        text.push_str(&self.taken(now));
        text.push_str("\nLast runs\n");
        if self.runs.is_empty() {
            text.push_str("  none\n");
            return text;
        }
        let rows: Vec<Vec<String>> = self.runs.iter().map(|run| cells(run, now)).collect();
        text.push_str(&columns(&["no.", "began", "command", "status", "took", "run"], &rows));
        for run in self.runs.iter().filter(|run| run.status != "published") {
            if let Some(error) = &run.error {
                text.push_str(&format!("  {}: {}\n", run.id, plain(error)));
            }
        }
        text
    }

    /// What people have taken on: tables set aside and not loaded since, checks accepted.
    fn taken(&self, now: Timestamp) -> String {
        let said = |what: String, taken: &Taken| {
            let since = ago(now.as_second() - taken.at.as_second());
            plain(&format!("  {what}, {since}, by {}: {} (run {})\n", taken.by, taken.because, taken.run_id))
        };
        let aside = self
            .lines
            .iter()
            .filter_map(|line| Some(said(format!("{} is set aside", line.table), line.aside.as_ref()?)));
        let accepted = self
            .accepted
            .iter()
            .map(|(table, check, taken)| said(format!("{table}: {check} was accepted"), taken));
        let all: String = aside.chain(accepted).collect();
        if all.is_empty() { all } else { format!("\nTaken on\n{all}") }
    }
}

fn taken_json(taken: &Taken) -> Value {
    json!({ "by": taken.by, "because": taken.because, "at": taken.at.to_string(), "run_id": taken.run_id })
}

fn cells(run: &PastRun, now: Timestamp) -> Vec<String> {
    let took = run.ended_at.map(|end| end.as_millisecond() - run.started_at.as_millisecond());
    let took = took.map_or("-".into(), |ms| duration(u64::try_from(ms).unwrap_or(0)));
    let began = ago(now.as_second() - run.started_at.as_second());
    vec![run.id.to_string(), began, run.command.clone(), run.status.clone(), took, run.run_id.clone()]
}

impl Line {
    fn key(&self) -> Option<&str> {
        self.state.as_ref()?.watermark.as_ref()?.get("key")?.as_str()
    }

    fn columns(&self) -> usize {
        let columns = self.state.as_ref().and_then(|state| state.contract.get("columns")?.as_array());
        columns.map_or(0, Vec::len)
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let table = if self.configured {
            self.table.clone()
        } else {
            format!("{} (not in the pipeline)", self.table)
        };
        let Some(state) = &self.state else {
            let mut cells = vec![table, "never loaded".to_owned()];
            cells.resize(7, "-".to_owned());
            return cells;
        };
        let key = self.key();
        let watermark = match (&state.watermark_text, key) {
            (Some(text), _) => text.clone(),
            (None, Some(_)) => "at the start".to_owned(),
            (None, None) => "read whole".to_owned(),
        };
        let deletes = match state.deletes_age_s {
            _ if !self.looks_for_deletes => "-".to_owned(),
            Some(age) => ago(age),
            None => "due".to_owned(),
        };
        let published = self.past.published_at;
        vec![
            table,
            watermark,
            key.unwrap_or("-").to_owned(),
            grouped(u64::try_from(state.live_rows).unwrap_or(0)),
            format!("v{}, {} columns", state.contract_version, self.columns()),
            deletes,
            published.map_or("-".to_owned(), |at| ago(now.as_second() - at.as_second())),
        ]
    }

    fn to_json(&self) -> Value {
        let state = self.state.as_ref();
        json!({
            "table": self.table, "target": self.target, "configured": self.configured,
            "watermark": state.and_then(|s| s.watermark_text.as_deref()),
            "replication_key": self.key(),
            "contract_version": state.map(|s| s.contract_version),
            "contract": state.map(|s| &s.contract),
            "live_rows": state.map(|s| s.live_rows),
            "deletes_age_s": state.and_then(|s| s.deletes_age_s),
            "base_run": state.map(|s| s.run_id.as_str()),
            "published_at": self.past.published_at.map(|at| at.to_string()),
            "set_aside": self.aside.as_ref().map(taken_json),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: Option<TableState>) -> Line {
        let (table, target) = ("public.t".into(), "w.t".into());
        Line {
            table,
            target,
            looks_for_deletes: true,
            configured: true,
            state,
            past: Past::default(),
            aside: None,
        }
    }

    fn standing(lines: Vec<Line>, schema_version: i32) -> String {
        let (pipeline, environment) = ("hr".into(), "prod".into());
        let standing =
            Standing { pipeline, environment, schema_version, lines, runs: vec![], accepted: vec![] };
        standing.to_text(Timestamp::from_second(1_000_000).unwrap())
    }

    #[test]
    fn a_table_that_was_never_loaded_is_told_as_such_and_an_empty_warehouse_too() {
        assert!(standing(vec![line(None)], 1).contains("public.t  never loaded"));
        assert!(standing(vec![], 0).contains("nothing has been loaded"));
    }

    #[test]
    fn a_watermark_at_the_start_is_not_taken_for_a_table_without_one() {
        let state = |watermark: Option<Value>| TableState {
            run: 1,
            run_id: "a".into(),
            target: "w.t".into(),
            watermark,
            watermark_text: None,
            contract: json!({"columns": [{}, {}]}),
            contract_version: 3,
            settings: String::new(),
            live_rows: 1_204,
            deletes_age_s: None,
            published_at: String::new(),
        };
        let text = standing(vec![line(Some(state(Some(json!({"key": "updated_at"})))))], 1);
        assert!(text.contains("at the start  updated_at  1,204      v3, 2 columns  due"), "{text}");
        assert!(standing(vec![line(Some(state(None)))], 1).contains("read whole"));
    }
}
