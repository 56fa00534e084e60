//! Reads every table of a plan from one snapshot, side by side, and hands the rows on.
//!
//! In:    a [`Source`], plans, a place for the rows: staging tables, or the files of a stage.
//! Out:   per table, what went by ([`Measures`]) and how much was written.
//! Holds: memory is a few batches a reader; a large table is cut into ranges of its heap, all of
//!        the same snapshot; the first error ends all readers.
//! Not here: the snapshot (`etl::source`), staging tables (`etl::staging`), files (`etl::stage`).

use crate::config::model::{NullKeys, TableSpec};
use crate::error::Failure;
use crate::etl::extracted::{Extracted, What};
use crate::etl::filling::{CopyWriter, Room};
use crate::etl::layout::Layout;
use crate::etl::plan::{Reading, TablePlan};
use crate::etl::predicate;
use crate::etl::source::Source;
use crate::etl::stage::{PartWriter, StageWriter};
use crate::etl::staging::Places;
use crate::pg::Session;
use crate::pg::copy::{Decoder, Field, Measures};
use crate::progress::TableProgress;
use crate::table::{RelationKind, SourceTable};
use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One COPY from the source.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Number of the table in the plan.
    pub table: usize,
    /// Rows or keys.
    pub what: What,
    /// The statement.
    pub sql: String,
    /// Pages it reads, about: the heaviest go first.
    pages: u64,
}

/// Where rows go.
pub enum Destination<'a> {
    /// Staging tables of run `run`, a session for each reader.
    Staging { run: i64, writers: &'a [Session] },
    /// The files of a stage.
    Files(&'a StageWriter),
}

/// What reading needs beyond the source.
pub struct Reader<'a> {
    /// The plans, in order.
    pub plans: &'a [TablePlan],
    /// The tables' settings, in the same order.
    pub specs: &'a [&'a TableSpec],
    /// Key of HMAC masks.
    pub hmac_key: &'a [u8],
    /// Limit of a row, bytes.
    pub max_row_bytes: usize,
    /// A counter for each plan.
    pub progress: &'a [TableProgress],
}

/// Heap of a range, pages of 8 KiB: 64 MiB.
const RANGE_PAGES: u64 = 8192;

impl Reader<'_> {
    /// Reads everything into `destination`.
    ///
    /// # Errors
    /// As the servers fail, 65 for a row above the limit; what was written so far is of no use.
    pub async fn read(&self, source: &Source, destination: &Destination<'_>) -> Result<Vec<Extracted>> {
        let units = self.units(source);
        let queue = Mutex::new(VecDeque::from(units));
        let sums: Vec<Mutex<Extracted>> = self.plans.iter().map(|_| Mutex::default()).collect();
        let workers = source.readers.iter().enumerate().map(|(number, session)| {
            let (queue, sums) = (&queue, &sums);
            async move {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(unit) = next else { return Ok(()) };
                    let started = Instant::now();
                    let (measures, staged) = self
                        .unit(session, number, &unit, destination)
                        .await
                        .with_context(|| format!("{}", self.plans[unit.table].name))?;
                    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let mut sum = sums[unit.table].lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(unit.what, &measures, staged, ms);
                }
            }
        });
        let done: Result<Vec<()>> = try_join_all(workers).await;
        done?;
        self.progress.iter().for_each(TableProgress::done);
        Ok(sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
    }

    /// Cuts the plans into statements, the heaviest first.
    fn units(&self, source: &Source) -> Vec<Unit> {
        let cut = source.readers.len() > 1 && source.major() >= 14;
        let mut units = Vec::new();
        for (table, plan) in self.plans.iter().enumerate() {
            let catalog = &source.tables[table];
            let condition = predicate::rows(plan, source.facts.xmax);
            let all = matches!(plan.reading, Reading::All(_));
            let rows =
                Selection { list: plan.layout.select_list(), condition, catalog, layout: Some(&plan.layout) };
            units.extend(rows.units(table, What::Rows, cut && all));
            if plan.compare_keys {
                let keys = plan.layout.key_only();
                let condition = plan.filter.as_ref().map(|sql| format!("({sql})"));
                let keys = Selection { list: keys.select_list(), condition, catalog, layout: None };
                units.extend(keys.units(table, What::Keys, false));
            }
        }
        units.sort_by_key(|unit| std::cmp::Reverse(unit.pages));
        units
    }

    async fn unit(
        &self,
        session: &Session,
        number: usize,
        unit: &Unit,
        destination: &Destination<'_>,
    ) -> Result<(Measures, u64)> {
        let plan = &self.plans[unit.table];
        let (fields, key) = self.stream(plan, unit.what);
        let mut decoder = Decoder::new(fields, key, self.max_row_bytes);
        let failed = |error| session.failure(error, "cannot read the source");
        let reading = async { session.client.copy_out(&unit.sql).await.map_err(failed) };
        // Side by side: for a small table the answers take longer than its rows.
        let (mut writer, stream) = tokio::try_join!(Writer::begin(destination, plan, unit, number), reading)?;
        let mut stream = Box::pin(stream);
        while let Some(piece) = stream.try_next().await.map_err(failed)? {
            if decoder.feed(&piece)? {
                let batch = decoder.take();
                self.progress[unit.table].add(batch.rows, batch.data.len() as u64);
                writer.write(batch).await?;
            }
        }
        let rest = decoder.take();
        self.progress[unit.table].add(rest.rows, rest.data.len() as u64);
        writer.write(rest).await?;
        let measures = decoder.finish()?;
        if unit.what == What::Rows && self.specs[unit.table].null_keys == NullKeys::Refuse {
            refuse_nulls(plan, &measures)?;
        }
        Ok((measures, writer.finish().await?))
    }

    /// The fields of a unit's stream, and which of them is the replication key.
    fn stream(&self, plan: &TablePlan, what: What) -> (Vec<Field>, Option<usize>) {
        match what {
            What::Rows => {
                let key = plan.key.as_ref().and_then(|key| plan.layout.field_of(&key.name));
                (plan.layout.fields(self.hmac_key), key)
            }
            What::Keys => (plan.layout.key_only().fields(self.hmac_key), None),
        }
    }
}

/// A replication key that is NULL would never be found again by its watermark.
fn refuse_nulls(plan: &TablePlan, measures: &Measures) -> Result<(), Failure> {
    let field = plan.key.as_ref().and_then(|key| plan.layout.field_of(&key.name));
    match field.map(|field| measures.nulls[field]) {
        Some(nulls) if nulls > 0 => {
            Err(Failure::data(format!("cannot load {}: {nulls} rows have no replication key", plan.name))
                .hint("Give them one, or set `null_keys: load` to read them each time."))
        }
        _ => Ok(()),
    }
}

/// What one table's statements select.
struct Selection<'a> {
    list: String,
    condition: Option<String>,
    catalog: &'a SourceTable,
    layout: Option<&'a Layout>,
}

impl Selection<'_> {
    /// One statement, or one for each range of each heap of a large table.
    fn units(&self, table: usize, what: What, cut: bool) -> Vec<Unit> {
        let pages: u64 = self.catalog.leaves.iter().map(|leaf| leaf.pages).sum();
        if !cut || pages < 2 * RANGE_PAGES {
            return vec![Unit { table, what, sql: self.whole(), pages }];
        }
        let mut units = Vec::new();
        for leaf in &self.catalog.leaves {
            let ranges = (leaf.pages / RANGE_PAGES).clamp(1, 64);
            let step = leaf.pages.div_ceil(ranges).max(1);
            for range in 0..ranges {
                // The last range has no end: the heap may have grown since its size was read.
                let from = (range > 0).then(|| format!("ctid >= '({},0)'", range * step));
                let to = (range + 1 < ranges).then(|| format!("ctid < '({},0)'", (range + 1) * step));
                let all: Vec<String> = from.into_iter().chain(to).chain(self.condition.clone()).collect();
                let sql = self.select(&format!("ONLY {}", leaf.name.sql()), &all);
                units.push(Unit { table, what, sql, pages: step });
            }
        }
        units
    }

    fn whole(&self) -> String {
        let plain = self.catalog.kind == RelationKind::Table && self.catalog.leaves.len() == 1;
        let casts = |layout: &Layout| {
            layout.extra_key.is_some()
                || layout
                    .columns
                    .iter()
                    .any(|column| column.carried.source_cast.is_some() || column.source.generated)
        };
        match (&self.condition, self.layout) {
            // COPY of a table itself is the fastest; it knows no children and no generated columns.
            (None, Some(layout)) if plain && !casts(layout) && !self.list.is_empty() => {
                format!("COPY {} ({}) TO STDOUT (FORMAT binary)", self.catalog.name.sql(), self.list)
            }
            (condition, _) => {
                let all: Vec<String> = condition.iter().cloned().collect();
                self.select(&self.catalog.name.sql(), &all)
            }
        }
    }

    fn select(&self, from: &str, conditions: &[String]) -> String {
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("COPY (SELECT {} FROM {from}{filter}) TO STDOUT (FORMAT binary)", self.list)
    }
}

/// The one place that rows of a unit are written to.
enum Writer<'a> {
    Copy(CopyWriter<'a>),
    File(PartWriter),
}

impl<'a> Writer<'a> {
    async fn begin(
        destination: &Destination<'a>,
        plan: &TablePlan,
        unit: &Unit,
        number: usize,
    ) -> Result<Self> {
        match destination {
            Destination::Files(stage) => Ok(Writer::File(stage.part(unit.table, unit.what)?)),
            Destination::Staging { run, writers } => {
                let places = Places::of(*run, unit.table);
                let into = Room::of(plan, unit.what, &places);
                Ok(Writer::Copy(CopyWriter::begin(&writers[number], into).await?))
            }
        }
    }

    async fn write(&mut self, batch: crate::pg::copy::Batch) -> Result<()> {
        match self {
            Writer::Copy(writer) => writer.write(batch).await,
            Writer::File(writer) => writer.write(batch).await,
        }
    }

    async fn finish(self) -> Result<u64> {
        match self {
            Writer::Copy(writer) => writer.finish().await,
            Writer::File(writer) => writer.finish().await,
        }
    }
}
