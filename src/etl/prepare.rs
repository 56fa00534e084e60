//! Gathers what the plans of a run are made from, on both sides, and makes them.
//!
//! In:    an open source, a warehouse session, the pipeline.
//! Out:   a [`Prepared`]: one plan a table, and what else reading needs.
//! Holds: nothing is written; everything that can be refused is refused here, before a row is read.

use crate::config::model::{Pipeline, Project, TableSpec};
use crate::config::needs::HMAC_KEY;
use crate::error::{Failure, most_serious};
use crate::etl::contract::{Change, Weight};
use crate::etl::fingerprint;
use crate::etl::layout::{self, Surroundings};
use crate::etl::plan::{self, Action, Inputs, TablePlan, Wishes};
use crate::etl::source::{self, Source};
use crate::etl::window::KeyKind;
use crate::etl::{publish, quality, target};
use crate::ledger::state::TableState;
use crate::ledger::{self, state};
use crate::pg::{Session, introspect};
use crate::secret::Resolver;
use crate::table::TableName;
use anyhow::Result;
use secrecy::SecretString;
use std::collections::BTreeMap;

/// A transaction so old is told even before the first watermark.
const FORGOTTEN_SECONDS: i64 = 600;
const MICROS_A_DAY: i64 = 86_400_000_000;

/// Everything that is known before the first row is read.
pub struct Prepared<'a> {
    /// One plan a table, in the pipeline's order.
    pub plans: Vec<TablePlan>,
    /// The tables' settings, in the same order.
    pub specs: Vec<&'a TableSpec>,
    /// The earlier of clock and oldest transaction, in the unit of each table's key.
    pub caps: Vec<i64>,
    /// The key of HMAC masks, if one is used.
    pub hmac_key: Option<SecretString>,
}

/// How the source of `pipeline` is opened for `specs`.
pub fn opening(pipeline: &Pipeline, specs: &[&TableSpec], application_name: &str) -> source::Options {
    source::Options {
        application_name: application_name.to_owned(),
        statement_timeout: pipeline.statement_timeout,
        max_snapshot_age: pipeline.max_snapshot_age,
        readers: pipeline.connections,
        raw_encoding: pipeline.encoding.is_some(),
        needs_activity: specs
            .iter()
            .any(|spec| spec.replication_key.as_deref().is_some_and(|key| key != "xmin")),
    }
}

/// Makes the plans.
///
/// # Errors
/// The most serious of all tables' failures, naming every table that failed.
pub async fn prepare<'a>(
    project: &Project,
    pipeline: &'a Pipeline,
    specs: Vec<&'a TableSpec>,
    wishes: &Wishes,
    ends: &Ends<'_>,
) -> Result<Prepared<'a>> {
    refuse_schema(project, pipeline)?;
    let source = ends.source;
    let sides = target::sides(ends.warehouse, source.major()).await?;
    let targets: Vec<TableName> =
        specs.iter().map(|spec| TableName::new(&pipeline.schema, &spec.target)).collect();
    let states = states(ends.warehouse, pipeline, &targets).await?;
    let there = introspect::tables(&ends.warehouse.client, &targets).await?;
    refuse_taken(ends.warehouse, &targets).await?;
    let around = Surroundings { sides: &sides, guard: &project.guard, database: &source.database };
    let mut layouts = Vec::new();
    for (spec, table) in specs.iter().zip(&source.tables) {
        layouts.push(layout::lay_out(table, spec, &around));
    }
    let needs_key = layouts.iter().flatten().any(|layout| layout.needs_hmac_key());
    let hmac_key = if needs_key { Some(ends.resolver.variable(HMAC_KEY).await?) } else { None };
    let key = fingerprint::of_key(hmac_key.as_ref())?;
    let masked = masked_by_another(ends.warehouse, &targets, &key).await?;
    let mut plans = Vec::new();
    let mut failures = Vec::new();
    for (number, layout) in layouts.into_iter().enumerate() {
        let (spec, name) = (specs[number], &targets[number]);
        let planned = layout.map_err(anyhow::Error::from).and_then(|layout| {
            plan::plan(Inputs {
                spec,
                source: &source.tables[number],
                target: there.iter().find(|table| table.name == *name),
                target_name: name.clone(),
                layout,
                state: states.get(&spec.name.to_string()),
                facts: &source.facts,
                timezone: &source.timezone,
                policy: spec.on_schema_change,
                wishes,
                hmac_fingerprint: key.clone(),
                filled_from: filled_from(&states, spec, name),
            })
        });
        match planned.and_then(|plan| check_columns(spec, &plan).map(|()| plan).map_err(Into::into)) {
            Ok(plan) => plans.push(plan),
            Err(error) => failures.push(crate::error::classify(&error)),
        }
    }
    refuse_all(&failures)?;
    for plan in &plans {
        refuse_views(ends.warehouse, plan).await?;
    }
    let said = [pinned(source, &plans), masked];
    if let Some(first) = plans.first_mut() {
        first.warnings.extend(said.into_iter().flatten());
    }
    let caps = caps(source, &plans).await?;
    Ok(Prepared { plans, specs, caps, hmac_key })
}

/// The two servers, and where secrets are asked for.
pub struct Ends<'a> {
    /// The source, held still.
    pub source: &'a Source,
    /// A session of the warehouse.
    pub warehouse: &'a Session,
    /// For the key of masks.
    pub resolver: &'a Resolver,
}

/// What the ledger knows of the pipeline's tables; a target belongs to one pipeline.
async fn states(
    warehouse: &Session,
    pipeline: &Pipeline,
    targets: &[TableName],
) -> Result<BTreeMap<String, TableState>> {
    if ledger::look(&warehouse.client).await?.version == 0 {
        return Ok(BTreeMap::new());
    }
    let names: Vec<String> = targets.iter().map(TableName::to_string).collect();
    if let Some((target, other)) = state::other_owner(&warehouse.client, &pipeline.name, &names).await? {
        return Err(Failure::config(format!("cannot load {target}: pipeline {other} fills it already"))
            .hint(format!(
                "Give the table another `target:`, or take it out of one of the two pipelines. If it has moved here, or \
                 {other} was renamed: `sankofa state rename {other} {}` (with `--table` for one table).",
                pipeline.name
            ))
            .into());
    }
    state::read(&warehouse.client, &pipeline.name).await
}

/// Tables that this run does not read and whose masks another HMAC key has made.
async fn masked_by_another(warehouse: &Session, targets: &[TableName], key: &str) -> Result<Option<String>> {
    if key.is_empty() || ledger::look(&warehouse.client).await?.version == 0 {
        return Ok(None);
    }
    let ours: Vec<String> = targets.iter().map(TableName::to_string).collect();
    let others = state::under_another_key(&warehouse.client, key, &ours).await?;
    Ok((!others.is_empty()).then(|| {
        format!(
            "{} carry masks of another HMAC key until they are loaded again: a join on a masked column finds nothing there",
            others.join(", ")
        )
    }))
}

/// The source table that fills `target` until now, where it is another one of this pipeline.
fn filled_from<'a>(
    states: &'a BTreeMap<String, TableState>,
    spec: &TableSpec,
    target: &TableName,
) -> Option<&'a str> {
    let (own, target) = (spec.name.to_string(), target.to_string());
    let other = states.iter().find(|(name, state)| **name != own && state.target == target);
    other.map(|(name, _)| name.as_str())
}

/// A target's name must not be taken by what is no table: a view, a sequence, a type.
async fn refuse_taken(warehouse: &Session, targets: &[TableName]) -> Result<()> {
    let query = "SELECT n.nspname::text, t.name FROM unnest($1::text[], $2::text[]) AS t(schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = t.schema
        WHERE EXISTS (SELECT FROM pg_catalog.pg_class c
                      WHERE c.relnamespace = n.oid AND c.relname = t.name AND c.relkind NOT IN ('r', 'p'))
           OR EXISTS (SELECT FROM pg_catalog.pg_type y WHERE y.typnamespace = n.oid AND y.typname = t.name
                      AND y.typrelid = 0 AND y.typcategory <> 'A') LIMIT 1";
    let schemas: Vec<&str> = targets.iter().map(|target| target.schema.as_str()).collect();
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let taken = warehouse
        .client
        .query_opt(query, &[&schemas, &names])
        .await
        .map_err(|error| warehouse.failure(error, "cannot look for the warehouse's tables"))?;
    match taken {
        Some(row) => Err(Failure::config(format!(
            "cannot load {}: something of that name is there, and is no table",
            TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1))
        ))
        .hint("Rename it, or set another `target:` for the table.")
        .into()),
        None => Ok(()),
    }
}

/// The operator says which schemas a source may fill.
fn refuse_schema(project: &Project, pipeline: &Pipeline) -> Result<(), Failure> {
    match project.guard.sources.get(&pipeline.source) {
        Some(schemas) if !schemas.contains(&pipeline.schema) => Err(Failure::config(format!(
            "cannot load {} into schema {}: the operator's guard lets it fill {}",
            pipeline.source,
            pipeline.schema,
            schemas.join(", ")
        ))
        .hint("Only the operator can change `guard: sources` in sankofa.yaml.")),
        _ => Ok(()),
    }
}

/// A check must name columns that travel.
fn check_columns(spec: &TableSpec, plan: &TablePlan) -> Result<(), Failure> {
    for check in &spec.checks {
        for column in quality::columns(check) {
            if !plan.layout.columns.iter().any(|known| known.name == column) {
                let known = plan.layout.columns.iter().map(|known| known.name.as_str());
                return Err(Failure::config(format!(
                    "cannot check {}: {} names a column that is not loaded",
                    spec.name,
                    quality::name(check)
                ))
                .hint(crate::error::nearest_hint(column, known)));
            }
        }
    }
    Ok(())
}

/// One failure that names all, with the kind and hint of the most serious.
fn refuse_all(failures: &[Failure]) -> Result<(), Failure> {
    let Some(worst) = most_serious(failures) else { return Ok(()) };
    let all: Vec<&str> = failures.iter().map(|failure| failure.what.as_str()).collect();
    let failure = Failure::new(worst.kind, all.join("; "));
    Err(match &worst.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// A column that views read cannot be retyped or dropped: it is said which.
async fn refuse_views(warehouse: &Session, plan: &TablePlan) -> Result<()> {
    if plan.action == Action::Create {
        return Ok(());
    }
    for change in &plan.decision.changes {
        let column = match change {
            Change::Retyped { column, .. } if change.weight() != Weight::None => column,
            Change::Dropped { column } if plan.drop => column,
            _ => continue,
        };
        let views = publish::blocking_views(warehouse, &plan.target, column).await?;
        if !views.is_empty() {
            return Err(Failure::data(format!(
                "cannot load {}: {}, and {} depend on it",
                plan.target,
                change.words(),
                views.join(", ")
            ))
            .hint("Nothing was changed. Drop those views, run it again, and make them anew.")
            .into());
        }
    }
    Ok(())
}

/// Says whose transaction holds the watermark back: one that has seen a whole run go by, or is old.
fn pinned(source: &Source, plans: &[TablePlan]) -> Option<String> {
    let (oldest, start) = (source.oldest.as_ref()?, source.facts.oldest_start?);
    let before_last_run = plans.iter().any(|plan| plan.last.as_ref().is_some_and(|last| start < last.clock));
    let forgotten = plans.iter().any(|plan| plan.key.is_some()) && oldest.seconds >= FORGOTTEN_SECONDS;
    (before_last_run || forgotten).then(|| {
        format!(
            "the watermark is pinned: server process {} ({}) has had a transaction open for {} s",
            oldest.pid, oldest.state, oldest.seconds
        )
    })
}

/// The cap of every plan's watermark, in the unit of its key.
async fn caps(source: &Source, plans: &[TablePlan]) -> Result<Vec<i64>> {
    let cap = source.facts.oldest_or_clock();
    let mut caps = Vec::new();
    for plan in plans {
        caps.push(match plan.key.as_ref().map(|key| &key.kind) {
            Some(KeyKind::Timestamp { zone }) => source.local(cap, zone).await?,
            Some(KeyKind::Date { zone }) => source.local(cap, zone).await?.div_euclid(MICROS_A_DAY),
            _ => cap,
        });
    }
    Ok(caps)
}
