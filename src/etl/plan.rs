//! What a run will do to each table, and why: decided from values alone.
//!
//! In:    a table's settings, its state in the ledger, its catalog on both sides, the snapshot's facts.
//! Out:   a [`TablePlan`], which a stage keeps and `sankofa plan` prints.
//! Holds: pure; the same inputs give the same plan.
//! Not here: gathering the inputs (`etl::prepare`), which rows (`etl::reading`), doing it (`etl::extract`, `etl::publish`).

use crate::config::model::{DeleteMode, Mask, Mode, SchemaPolicy, TableSpec};
use crate::error::Failure;
use crate::etl::contract::{self, Contract, Decision, Weight};
use crate::etl::fingerprint;
use crate::etl::layout::Layout;
pub use crate::etl::reading::Reading;
use crate::etl::reading::reading;
use crate::etl::reset::Point;
use crate::etl::window::{Facts, KeyKind, ReplicationKey, Watermark};
use crate::ledger::state::TableState;
use crate::table::{SourceTable, TableName};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// What becomes of the rows in the warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A table that is not there yet is made out of them.
    Create,
    /// The table is made equal to them, by difference.
    Replace,
    /// They are merged into it by key.
    Merge,
}

/// What a run will do to one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TablePlan {
    /// The source table.
    pub name: TableName,
    /// The warehouse table.
    pub target: TableName,
    /// The mode it was configured with.
    pub mode: String,
    /// What travels.
    pub layout: Layout,
    /// Which rows.
    pub reading: Reading,
    /// The replication key, if there is one.
    pub key: Option<ReplicationKey>,
    /// SQL condition at the source.
    pub filter: Option<String>,
    /// What becomes of the rows.
    pub action: Action,
    /// All keys are read too, to find rows that are gone.
    pub compare_keys: bool,
    /// The contract that publishing leaves behind.
    pub contract: Contract,
    /// What has changed since the last.
    pub decision: Decision,
    /// Columns dropped at the source are dropped in the warehouse.
    pub drop: bool,
    /// Number of the run that published last; `None`: none has.
    pub base: Option<i64>,
    /// That run's watermark.
    pub last: Option<Watermark>,
    /// Rows alive in the target before.
    pub live_rows: i64,
    /// Fingerprint of filter and masks.
    pub settings: String,
    /// Rows that the source's planner expects in the table.
    pub expected_rows: u64,
    /// Bytes of the source table.
    pub source_bytes: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What a person asked for beyond the configuration.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Read everything, and accept a changed schema.
    pub full_refresh: bool,
    /// A half-open window of the replication key, as typed.
    pub window: Option<(String, String)>,
    /// Only rows before this point, which the watermark moves to.
    pub until: Option<Point>,
    /// A change may rewrite a warehouse table.
    pub allow_rewrite: bool,
}

/// Everything one table's plan is made from.
pub struct Inputs<'a> {
    /// Settings.
    pub spec: &'a TableSpec,
    /// The source's catalog.
    pub source: &'a SourceTable,
    /// The warehouse's catalog, if the target is there.
    pub target: Option<&'a SourceTable>,
    /// Name of the target.
    pub target_name: TableName,
    /// What travels.
    pub layout: Layout,
    /// What the ledger knows.
    pub state: Option<&'a TableState>,
    /// The snapshot's facts.
    pub facts: &'a Facts,
    /// Time zone of the source database.
    pub timezone: &'a str,
    /// What a changed schema leads to.
    pub policy: SchemaPolicy,
    /// What was asked for by hand.
    pub wishes: &'a Wishes,
    /// Fingerprint of the HMAC key, if one is used.
    pub hmac_fingerprint: String,
    /// Another source table that the target was filled from until now.
    pub filled_from: Option<&'a str>,
}

/// Plans one table.
///
/// # Errors
/// 65 when the contract is broken and the policy says fail, or a rewrite is not allowed;
/// 78 when the settings do not fit the table.
pub fn plan(mut inputs: Inputs<'_>) -> Result<TablePlan> {
    let (spec, name) = (inputs.spec, &inputs.spec.name);
    let key = replication_key(&inputs)?;
    let last_contract = last_contract(&inputs)?;
    last_contract.iter().for_each(|last| last.keep_types(&mut inputs.layout));
    let last: Option<Watermark> = match inputs.state.and_then(|state| state.watermark.as_ref()) {
        Some(value) => Some(crate::ledger::state::parse(value, "watermark")?),
        None => None,
    };
    let contract = Contract::of(&inputs.layout, Vec::new()).after(last_contract.as_ref(), spec.drop);
    let changes =
        last_contract.as_ref().map(|last| contract::differences(last, &contract)).unwrap_or_default();
    let kept =
        |column: &str| inputs.target.and_then(|there| there.column(column)).map(|c| &c.column_type.sql);
    let misfit = |column: &str, target: &str| {
        let misfits = inputs.target.is_some_and(|there| !there.fits(column, target));
        kept(column).filter(|_| misfits).cloned()
    };
    let changes = changes.into_iter().map(|change| change.returned(misfit)).collect();
    let decision = contract::decide(changes, inputs.policy, inputs.wishes.full_refresh);
    refuse(&inputs, &decision, &contract)?;
    let settings = fingerprint::of_table(spec, &inputs.layout, &inputs.hmac_fingerprint);
    let reading = reading(&inputs, key.as_ref(), last.as_ref(), &decision, &settings)?;
    let full = matches!(reading, Reading::All(_));
    let action = match (&inputs.target, full) {
        (None, _) => Action::Create,
        (Some(_), true) => Action::Replace,
        (Some(_), false) => Action::Merge,
    };
    if action == Action::Merge && inputs.layout.key.is_empty() {
        return Err(no_key(name).into());
    }
    let every = i64::try_from(spec.deletes.every.as_secs()).unwrap_or(i64::MAX);
    // An age below zero: the warehouse's clock was ahead then, and says nothing.
    let due = inputs.state.and_then(|state| state.deletes_age_s).is_none_or(|age| !(0..every).contains(&age));
    let compare_keys = !full && !reading.is_part() && due && spec.deletes.mode != DeleteMode::Ignore;
    Ok(TablePlan {
        name: name.clone(),
        target: inputs.target_name.clone(),
        mode: mode_word(spec.mode).to_owned(),
        warnings: warnings(&inputs, key.as_ref(), &reading),
        reading,
        key,
        filter: spec.filter.clone(),
        action,
        compare_keys,
        contract,
        decision,
        drop: spec.drop,
        base: inputs.state.map(|state| state.run),
        last,
        live_rows: inputs.state.map_or(0, |state| state.live_rows),
        settings,
        expected_rows: inputs.source.estimated_rows.max(0.0) as u64,
        source_bytes: inputs.source.bytes,
        layout: inputs.layout,
    })
}

/// The word of a mode.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Incremental => "incremental",
        Mode::Append => "append",
        Mode::FullRefresh => "full_refresh",
    }
}

fn no_key(name: &TableName) -> Failure {
    Failure::config(format!("cannot merge into {name}'s table: it has no primary key and no `key:`"))
        .hint("Name the columns that tell its rows apart with `key: [...]`, or use `mode: full_refresh`.")
}

fn replication_key(inputs: &Inputs<'_>) -> Result<Option<ReplicationKey>, Failure> {
    let spec = inputs.spec;
    if spec.mode == Mode::FullRefresh {
        return Ok(None);
    }
    if inputs.layout.key.is_empty() {
        return Err(no_key(&spec.name));
    }
    let Some(name) = &spec.replication_key else { return Ok(None) };
    if name == "xmin" {
        return Ok(Some(ReplicationKey {
            name: name.clone(),
            kind: KeyKind::Xmin,
            nullable: false,
            indexed: true,
            unique: false,
        }));
    }
    let Some(column) = inputs.source.column(name) else { return Ok(None) };
    let zone = || spec.timezone.clone().unwrap_or_else(|| inputs.timezone.to_owned());
    let kind = match column.column_type.name.as_str() {
        _ if !column.column_type.is_builtin() => None,
        "timestamptz" => Some(KeyKind::Timestamptz),
        "timestamp" => Some(KeyKind::Timestamp { zone: zone() }),
        "date" => Some(KeyKind::Date { zone: zone() }),
        "int2" | "int4" | "int8" => Some(KeyKind::Integer),
        _ => None,
    };
    let Some(kind) = kind else {
        return Err(Failure::config(format!(
            "cannot read {} from its watermark: replication key {name} is {}",
            spec.name, column.column_type.sql
        ))
        .hint("A replication key is a timestamp, a date, an integer or `xmin`."));
    };
    let indexed = inputs.source.indexed.contains(name);
    let unique = inputs.source.unique_keys.iter().any(|columns| columns.as_slice() == [name.clone()]);
    Ok(Some(ReplicationKey { name: name.clone(), kind, nullable: !column.not_null, indexed, unique }))
}

/// The last contract: the ledger's, as long as the target is there.
fn last_contract(inputs: &Inputs<'_>) -> Result<Option<Contract>> {
    match (inputs.state, inputs.target) {
        (Some(state), Some(_)) => crate::ledger::state::parse(&state.contract, "contract").map(Some),
        _ => Ok(None),
    }
}

/// Refuses what the policy or the warehouse table does not allow, in words.
fn refuse(inputs: &Inputs<'_>, decision: &Decision, contract: &Contract) -> Result<(), Failure> {
    let (name, target) = (&inputs.spec.name, &inputs.target_name);
    if let Some(words) = &decision.refused {
        return Err(Failure::data(format!("cannot load {target}: {words}"))
            .hint(format!("Accept it with `--table {name} --full-refresh`, or change on_schema_change.")));
    }
    if decision.weight(inputs.spec.drop) == Weight::Rewrite && !inputs.wishes.allow_rewrite {
        let words = decision.words().unwrap_or_default();
        return Err(Failure::data(format!(
            "cannot load {target}: {words}; that rewrites the warehouse table"
        ))
        .hint("See `sankofa plan`; run it with `--allow-rewrite` when readers can wait."));
    }
    let Some(there) = inputs.target else { return Ok(()) };
    if there.column("_sankofa_run").is_none() {
        return Err(Failure::config(format!(
            "cannot load {target}: a table of that name is there, and not of our making"
        ))
        .hint("Rename it, or set another `target:` for the table."));
    }
    if inputs.state.is_none()
        && let Some(column) = contract.columns.iter().find(|column| !there.fits(&column.name, &column.target))
    {
        return Err(Failure::data(format!(
            "cannot load {target}: the table is there, but its column {:?} is not {}",
            column.name, column.target
        ))
        .hint("Drop or rename the table in the warehouse; the ledger knows nothing of it."));
    }
    Ok(())
}

fn warnings(inputs: &Inputs<'_>, key: Option<&ReplicationKey>, reading: &Reading) -> Vec<String> {
    let name = &inputs.spec.name;
    let told = inputs.layout.columns.iter().filter_map(|column| {
        column.carried.told.as_ref().map(|told| format!("{name}: column {:?}: {told}", column.name))
    });
    let mut warnings: Vec<String> = told.collect();
    if let Some(key) = key
        && !key.indexed
        && matches!(reading, Reading::From { .. } | Reading::Until { .. })
        && inputs.source.bytes > 64 << 20
    {
        warnings.push(format!(
            "{name}: no index begins with the replication key {}: every run reads the whole table",
            key.name
        ));
    }
    if let Some(ReplicationKey { name: column, kind: KeyKind::Timestamp { zone }, .. }) = key
        && inputs.spec.timezone.is_none()
    {
        warnings.push(format!("{name}: {column} has no time zone; it is read as {zone}: set `timezone:`"));
    }
    if *reading == Reading::All(fingerprint::OTHER_KEY.to_owned()) && inputs.target.is_some() {
        warnings.extend(masked_anew(inputs));
    }
    warnings
}

/// What a full refresh under another HMAC key cannot mend by itself.
fn masked_anew(inputs: &Inputs<'_>) -> Option<String> {
    let (name, target) = (&inputs.spec.name, inputs.target_name.sql());
    let is_masked = |key: &String| {
        inputs.layout.columns.iter().any(|column| column.name == *key && column.mask == Some(Mask::Hmac))
    };
    if inputs.layout.key.iter().any(is_masked) {
        return Some(format!(
            "{name}: its key is masked: every row comes anew and the old ones count as deleted; run it with --allow-deletes"
        ));
    }
    (inputs.spec.deletes.mode == DeleteMode::Soft).then(|| {
        format!(
            "{name}: rows that were deleted at the source keep the masks of the old key; \
             DELETE FROM {target} WHERE _sankofa_deleted_at IS NOT NULL takes them out"
        )
    })
}

impl TablePlan {
    /// Why every row is read although the mode does not say so.
    pub fn full_reason(&self) -> Option<String> {
        match &self.reading {
            Reading::All(why) if self.mode != mode_word(Mode::FullRefresh) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether publishing changes the definition of a warehouse table that is there.
    pub fn alters_target(&self) -> bool {
        self.action != Action::Create && self.decision.weight(self.drop) != Weight::None
    }
}
