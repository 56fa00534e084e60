//! What a plan means, in the words of `sankofa plan`.
//!
//! In:    a [`TablePlan`] and what was found around it.
//! Out:   labelled sentences for a person, the same facts as JSON.
//! Holds: pure; no value of a cell is in it, only points of replication keys.
//! Not here: gathering (`etl::preview`), deciding (`etl::plan`, `etl::contract`).

use crate::config::model::{DeleteMode, Mask, TableSpec};
use crate::etl::contract::{Change, Weight};
use crate::etl::create;
use crate::etl::plan::{Action, Reading, TablePlan};
use crate::etl::predicate;
use crate::etl::publish;
use crate::etl::window::{KeyKind, repeated};
use crate::ledger::history::Past;
use crate::report::lines::span;
use crate::report::{duration, grouped, size};
use crate::table::quote;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How fast a warehouse rewrites a table with its indexes, bytes a second: a cautious guess.
const REWRITE_BYTES_A_SECOND: u64 = 50_000_000;

/// What is known of one table beside its plan.
pub struct Around<'a> {
    /// What is to be done.
    pub plan: &'a TablePlan,
    /// Its settings.
    pub spec: &'a TableSpec,
    /// Columns that the operator's guard keeps back.
    pub never: Vec<String>,
    /// Masks that the operator's guard asks for.
    pub forced: BTreeMap<String, Mask>,
    /// All columns of the source table.
    pub columns: Vec<String>,
    /// What earlier runs did.
    pub past: Past,
    /// Bytes of the warehouse table with its indexes.
    pub target_bytes: u64,
    /// Views that read a column that changes: (column, view).
    pub views: Vec<(String, String)>,
    /// Seconds since keys were last compared.
    pub deletes_age_s: Option<i64>,
}

/// One statement on the warehouse table, and the lock it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The SQL.
    pub sql: String,
    /// Its lock, in words.
    pub lock: String,
}

/// What a run is expected to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Rows.
    pub rows: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Milliseconds.
    pub ms: Option<u64>,
}

impl Around<'_> {
    /// Labelled sentences, in the order of a run.
    pub fn sentences(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("reads", self.reads())];
        all.push(("expects", self.expects()));
        all.push(("key", self.key()));
        all.extend(self.left_out().map(|text| ("leaves out", text)));
        all.extend(self.masked().map(|text| ("masks", text)));
        all.extend(self.plan.decision.words().map(|text| ("schema", text)));
        all.extend(self.statements().into_iter().map(|s| ("sql", format!("{}  -- {}", s.sql, s.lock))));
        all.extend(self.views.iter().map(|(column, view)| ("view", self.view(column, view))));
        all.push(("deletes", self.deletes()));
        all.extend(self.plan.warnings.iter().map(|text| ("warning", text.clone())));
        all
    }

    /// Which rows, and why.
    pub fn reads(&self) -> String {
        let plan = self.plan;
        match &plan.reading {
            Reading::All(why) => format!("every row ({why})"),
            Reading::Window { from, to } => {
                let key = plan.key.as_ref().map_or("its key", |key| key.name.as_str());
                format!("rows with {key} from {from} to {to}, itself not included; the watermark stays")
            }
            Reading::Until { value, until, .. } => {
                let Some(key) = &plan.key else { return "some rows".to_owned() };
                let from = value.map_or("the start".to_owned(), |value| predicate::point(value, &key.kind));
                let until = predicate::point(*until, &key.kind);
                format!(
                    "rows with {} from {from} to {until}, itself not included; the watermark goes there",
                    key.name
                )
            }
            Reading::From { value, after } => {
                let Some(key) = &plan.key else { return "new rows".to_owned() };
                let compare = if *after { "after" } else { "from" };
                let from = predicate::point(*value, &key.kind);
                let mark = plan.last.as_ref().and_then(predicate::watermark);
                let twice =
                    plan.last.as_ref().and_then(|last| last.value).map_or(0, |at| repeated(at, &key.kind));
                let behind = match (mark, &key.kind) {
                    (Some(mark), KeyKind::Timestamp { zone }) if mark != from && twice > 0 => {
                        format!(
                            "the watermark is {mark}, less what the clock of {zone} repeats there and the lookback"
                        )
                    }
                    (Some(mark), _) if mark != from => format!("the watermark is {mark}, less the lookback"),
                    _ => "the watermark".to_owned(),
                };
                let unit = if key.kind == KeyKind::Xmin { " (transaction id)" } else { "" };
                let on = if *after { "" } else { " on" };
                format!("rows with {}{unit} {compare} {from}{on} ({behind})", key.name)
            }
        }
    }

    /// What the run is expected to move: measured where earlier runs tell, else the planner's figures.
    pub fn expected(&self) -> Expected {
        let median = |of: &[(u64, u64, u64)]| {
            let mut figures: Vec<_> = of.iter().take(5).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).map(|figure| **figure)
        };
        match &self.plan.reading {
            Reading::All(_) => {
                let (rows, bytes) = (self.plan.expected_rows, self.plan.source_bytes);
                let rate = median(&self.past.whole).or_else(|| median(&self.past.parts));
                let ms = rate.filter(|rate| rate.0 > 100).map(|(past, _, ms)| {
                    let ms = u128::from(ms) * u128::from(rows) / u128::from(past.max(1));
                    u64::try_from(ms).unwrap_or(u64::MAX)
                });
                Expected { rows: Some(rows), bytes: Some(bytes), ms }
            }
            Reading::Window { .. } | Reading::Until { .. } => Expected::default(),
            Reading::From { .. } => match median(&self.past.parts) {
                Some((rows, bytes, ms)) => Expected { rows: Some(rows), bytes: Some(bytes), ms: Some(ms) },
                None => Expected::default(),
            },
        }
    }

    fn expects(&self) -> String {
        let expected = self.expected();
        let Some(rows) = expected.rows else {
            return "not known yet: no such run has been published".to_owned();
        };
        let bytes = expected.bytes.map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        let time = expected.ms.map_or(String::new(), |ms| format!(", in about {}", duration(ms)));
        let from = match self.plan.reading {
            Reading::All(_) => "",
            _ => " (as in the last runs)",
        };
        match (rows, self.plan.source_bytes, &self.plan.reading) {
            (0, 1.., Reading::All(_)) => format!("rows not counted yet (ANALYZE the table){bytes}"),
            _ => format!("about {} rows{bytes}{time}{from}", grouped(rows)),
        }
    }

    fn key(&self) -> String {
        let (plan, layout) = (self.plan, &self.plan.layout);
        let mut text = match (layout.key.is_empty(), layout.key_proven) {
            (true, _) => "none: rows are replaced as a whole".to_owned(),
            (false, true) => format!("({})", layout.key.join(", ")),
            (false, false) => format!("({}), not proven by the source: checked", layout.key.join(", ")),
        };
        if let Some(key) = &plan.key {
            let index = match (key.kind == KeyKind::Xmin, key.indexed) {
                (true, _) => "the whole table is scanned",
                (false, true) => "with an index",
                (false, false) => "no index: the whole table is scanned",
            };
            text.push_str(&format!("; replication key {} ({index})", key.name));
            if key.nullable {
                text.push_str(", rows without one are read each time or refused");
            }
        }
        text
    }

    /// Columns that do not travel, and who says so.
    fn left_out(&self) -> Option<String> {
        let travels = |name: &String| self.plan.layout.columns.iter().any(|column| column.name == *name);
        let own: Vec<&str> = self
            .columns
            .iter()
            .filter(|name| !travels(name) && !self.never.contains(name))
            .map(String::as_str)
            .collect();
        let mut parts = Vec::new();
        if !self.never.is_empty() {
            parts.push(format!("{} (the operator's guard)", self.never.join(", ")));
        }
        if !own.is_empty() {
            parts.push(format!("{} (the pipeline)", own.join(", ")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn masked(&self) -> Option<String> {
        let masked = self.plan.layout.columns.iter().filter_map(|column| {
            let mask = column.mask?;
            let by =
                if self.forced.get(&column.name) == Some(&mask) { " (the operator's guard)" } else { "" };
            Some(format!("{} by {}{by}", column.name, mask_word(mask)))
        });
        let masked: Vec<String> = masked.collect();
        (!masked.is_empty()).then(|| masked.join(", "))
    }

    /// What is done to the warehouse table's definition.
    pub fn statements(&self) -> Vec<Statement> {
        let (plan, target) = (self.plan, self.plan.target.sql());
        if plan.action == Action::Create {
            let lock = "a new table: nobody waits".to_owned();
            return vec![Statement { sql: create::target_table(&plan.target, &plan.layout), lock }];
        }
        let mut all = Vec::new();
        let clauses = publish::clauses(plan, false);
        if !clauses.is_empty() {
            let lock = self.lock(plan.decision.weight(false));
            all.push(Statement { sql: format!("ALTER TABLE {target} {clauses}"), lock });
        }
        for change in &plan.decision.changes {
            match change {
                Change::Dropped { column } if plan.drop => all.push(Statement {
                    sql: format!("ALTER TABLE {target} DROP COLUMN {}", quote(column)),
                    lock: self.lock(Weight::Short),
                }),
                Change::Key { to, .. } => all.push(Statement {
                    sql: format!(
                        "ALTER TABLE {target} ADD PRIMARY KEY ({}) in place of the old one",
                        to.join(", ")
                    ),
                    lock: self.lock(Weight::Rewrite),
                }),
                _ => {}
            }
        }
        all
    }

    fn lock(&self, weight: Weight) -> String {
        match weight {
            Weight::Rewrite => {
                let seconds = self.target_bytes.div_ceil(REWRITE_BYTES_A_SECOND).max(1);
                format!(
                    "ACCESS EXCLUSIVE while {} are rewritten, about {}: readers wait; needs --allow-rewrite",
                    size(self.target_bytes),
                    span(seconds)
                )
            }
            _ => "ACCESS EXCLUSIVE for a moment, at most 1 s".to_owned(),
        }
    }

    fn view(&self, column: &str, view: &str) -> String {
        let gone = |change: &Change| matches!(change, Change::Dropped { column: gone } if gone == column);
        match self.plan.decision.changes.iter().any(gone) && !self.plan.drop {
            true => format!("{view} reads column {column:?}, which stays and turns NULL"),
            false => format!("{view} reads column {column:?}: it stands in the way of the change"),
        }
    }

    fn deletes(&self) -> String {
        let deletes = &self.spec.deletes;
        let word = match deletes.mode {
            DeleteMode::Ignore => return "not looked for (deletes: ignore)".to_owned(),
            DeleteMode::Soft => "marked",
            DeleteMode::Hard => "removed",
        };
        let brake = format!("at most {:.0} % of the rows", deletes.at_most * 100.0);
        let plan = self.plan;
        match (&plan.reading, plan.action, self.deletes_age_s) {
            (_, Action::Create, _) => "none can be: the table is new".to_owned(),
            (Reading::All(_), ..) => format!("rows that are gone are {word} ({brake})"),
            (reading, ..) if reading.is_part() => "not looked for in a window".to_owned(),
            _ if plan.compare_keys => {
                format!("due: all keys are compared, rows that are gone are {word} ({brake})")
            }
            (.., age) => {
                let left = deletes.every.as_secs().saturating_sub(age.unwrap_or(0).unsigned_abs());
                format!("not due for another {}", span(left))
            }
        }
    }

    /// Whether the run changes what readers of a loaded table find in it.
    pub fn changes_schema(&self) -> bool {
        let matters =
            |change: &Change| change.weight() != Weight::None || matches!(change, Change::Dropped { .. });
        let made_anew = self.plan.action == Action::Create && self.plan.base.is_some();
        made_anew || self.plan.decision.changes.iter().any(matters)
    }

    /// The same facts, for a program.
    pub fn to_json(&self) -> Value {
        let (plan, expected) = (self.plan, self.expected());
        let statements = self.statements();
        json!({
            "table": plan.name.to_string(), "target": plan.target.to_string(), "mode": plan.mode,
            "action": plan.action, "reads": self.reads(), "key": plan.layout.key,
            "replication_key": plan.key.as_ref().map(|key| &key.name),
            "indexed": plan.key.as_ref().map(|key| key.indexed),
            "watermark": plan.last.as_ref().and_then(predicate::watermark),
            "expected_rows": expected.rows, "expected_bytes": expected.bytes, "expected_ms": expected.ms,
            "left_out": self.left_out(), "never": self.never, "masks": self.masked(),
            "changes": plan.decision.changes.iter().map(Change::words).collect::<Vec<_>>(),
            "changes_schema": self.changes_schema(),
            "sql": statements.iter().map(|s| json!({"sql": s.sql, "lock": s.lock})).collect::<Vec<_>>(),
            "views": self.views.iter().map(|(_, view)| view).collect::<Vec<_>>(),
            "deletes": self.deletes(), "compares_keys": plan.compare_keys, "warnings": plan.warnings,
        })
    }
}

fn mask_word(mask: Mask) -> &'static str {
    match mask {
        Mask::Hmac => "hmac",
        Mask::Redact => "redact",
        Mask::Nullify => "nullify",
    }
}
