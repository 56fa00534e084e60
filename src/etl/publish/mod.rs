//! Makes a run's rows visible: everything in one commit, or nothing.
//!
//! In:    filled staging tables, plans, the session that holds the pipeline's lock.
//! Out:   merged rows, figures of every check, watermarks, contracts, the run's report: one commit.
//! Holds: a run is published once: the run's row and every table's base are checked under the
//!        commit's own locks; readers are never blocked but for a short ACCESS EXCLUSIVE at the end.
//! Not here: how rows came to staging (`etl::extract`), what is asked of them (`etl::quality`).

mod after;
mod alter;
mod apply;
mod checks;
mod missed;
mod place;

pub use alter::{blocking_views, clauses, short};
pub use missed::judge;

use crate::config::model::{Pipeline, TableSpec, Warehouse};
use crate::error::{Checked, Failure, Kind};
use crate::etl::extracted::Extracted;
use crate::etl::layout::METADATA;
use crate::etl::plan::{Action, Reading, TablePlan};
use crate::etl::predicate;
use crate::etl::window::{self, Facts, Seen, Watermark};
use crate::ledger::overrides::{self, Overrides};
use crate::ledger::state::{self, Left};
use crate::ledger::{self, run};
use crate::pg::{Session, introspect};
use crate::report::{Report, Status, TableFigures};
use anyhow::Result;
use futures_util::future::join_all;

/// Everything that publishing needs.
pub struct Publication<'a> {
    /// Holds the pipeline's lock.
    pub session: &'a Session,
    /// Number of the run.
    pub run: i64,
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The warehouse's settings.
    pub warehouse: &'a Warehouse,
    /// Plans, settings and what was read, in one order.
    pub tables: Vec<TableJob<'a>>,
    /// The snapshot's facts.
    pub facts: &'a Facts,
    /// What somebody has taken on for this run.
    pub overrides: &'a Overrides,
    /// The brake on deletes is lifted.
    pub allow_deletes: bool,
    /// The last commit of the run: with it the run is published.
    pub last: bool,
}

/// One table to publish.
#[derive(Clone, Copy)]
pub struct TableJob<'a> {
    /// Its number in the run: names its staging tables.
    pub number: usize,
    /// What is to be done.
    pub plan: &'a TablePlan,
    /// Its settings.
    pub spec: &'a TableSpec,
    /// What was read.
    pub extracted: &'a Extracted,
    /// The earlier of clock and oldest transaction, in the unit of its key.
    pub cap: i64,
}

/// What became of one table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    inserted: u64,
    updated: u64,
    revived: u64,
    deleted: u64,
    live_rows: i64,
}

/// How often a lock on a target is tried for, 2 s a try unless `deadlock_timeout` was changed.
const LOCK_TRIES: u32 = 10;

impl Publication<'_> {
    /// Publishes all tables in one commit and returns the final report.
    ///
    /// # Errors
    /// 65 for a check that failed, a brake, or a base that has moved; 75 when a lock cannot be had
    /// or the server goes away. Nothing is changed then, but a lost answer to COMMIT is looked up.
    pub async fn publish(&self, mut report: Report) -> Result<Report, (anyhow::Error, Vec<Checked>)> {
        let mut checked = Vec::new();
        let done = self.attempt(&mut report, &mut checked).await;
        match done {
            Ok(()) => Ok(report),
            Err(error) => {
                let _ = self.session.client.batch_execute("ROLLBACK").await;
                Err((error, checked))
            }
        }
    }

    async fn attempt(&self, report: &mut Report, checked: &mut Vec<Checked>) -> Result<()> {
        alter::before(self).await?;
        self.begin().await?;
        let outcome = self.merge(checked).await?;
        missed::judge(report, checked)?;
        let figures: Vec<(TableFigures, i64)> = self
            .tables
            .iter()
            .zip(&outcome)
            .map(|(job, counts)| (figures(job, counts), counts.live_rows))
            .collect();
        self.remember(&figures, checked).await?;
        report.tables.extend(figures.into_iter().map(|(figures, _)| figures));
        finish_report(report);
        place::admit_reader(self).await?;
        if self.last {
            run::published(&self.session.client, self.run, report).await?;
            after::run(self).await?;
        }
        alter::last(self).await?;
        self.execute("COMMIT", "cannot commit").await
    }

    /// Does everything but commit, and takes it back: what `validate` learns the checks' figures by.
    ///
    /// # Errors
    /// As [`Publication::publish`].
    pub async fn rehearse(&self) -> Result<Vec<Checked>> {
        let mut checked = Vec::new();
        let done = async {
            self.begin().await?;
            let (altered, plain): (Vec<_>, Vec<_>) =
                self.tables.iter().partition(|job| job.plan.alters_target());
            Publication { tables: plain, ..*self }.merge(&mut checked).await?;
            for job in &altered {
                checked.extend(checks::foresee(self, job).await?);
            }
            Ok(())
        }
        .await;
        self.execute("ROLLBACK", "cannot roll back").await?;
        done.map(|_| checked)
    }

    /// Begins the transaction. Operators of extensions' types are looked up by the search path.
    async fn begin(&self) -> Result<()> {
        self.execute("BEGIN; SET LOCAL lock_timeout = '60s'", "cannot begin to publish").await?;
        ledger::hold(&self.session.client).await?;
        let settings = "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = 0;
            SET LOCAL work_mem = '128MB'; SET LOCAL jit = off;
            SELECT pg_catalog.set_config('search_path', coalesce(pg_catalog.string_agg(DISTINCT
                pg_catalog.quote_ident(n.nspname), ', '), ''), true)
            FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace";
        self.execute(settings, "cannot begin to publish").await?;
        self.check_base().await?;
        self.lock_targets().await
    }

    async fn merge(&self, checked: &mut Vec<Checked>) -> Result<Vec<Counts>> {
        alter::rewrite(self).await?;
        self.check_targets().await?;
        let mut outcome = Vec::new();
        // Small ones follow each other without waiting for answers.
        for some in self.tables.chunk_by(|a, b| apply::is_one_statement(a) && apply::is_one_statement(b)) {
            let done = join_all(some.iter().map(|job| apply::apply(self, job))).await;
            outcome.extend(apply::first_failure(done)?);
        }
        place::move_new(self).await?;
        // All tables are as they would be published: a check may look at any of them.
        for (job, counts) in self.tables.iter().zip(&outcome) {
            checked.extend(checks::check(self, job, counts).await?);
        }
        Ok(outcome)
    }

    /// Every table must still be where it was when this run was planned.
    async fn check_base(&self) -> Result<()> {
        let client = &self.session.client;
        let lock = "SELECT 1 FROM sankofa.table_state WHERE pipeline = $1 FOR UPDATE";
        client
            .query(lock, &[&self.pipeline.name])
            .await
            .map_err(|error| self.session.failure(error, "cannot lock the watermarks"))?;
        let states = state::read(client, &self.pipeline.name).await?;
        for job in &self.tables {
            let now = states.get(&job.plan.name.to_string());
            if now.map(|state| state.run) != job.plan.base {
                let by = now.map_or("another ledger".to_owned(), |state| format!("run {}", state.run_id));
                return Err(Failure::data(format!(
                    "cannot load {}: this run was superseded by {by}",
                    job.plan.name
                ))
                .hint("Nothing was changed. Extract again under a new --run id.")
                .into());
            }
        }
        Ok(())
    }

    /// Keeps other writers (not readers) off the targets; who already writes there is waited for.
    async fn lock_targets(&self) -> Result<()> {
        let targets = self.tables.iter().map(|job| job.plan).filter(|plan| plan.action != Action::Create);
        let targets: Vec<_> = targets.map(|plan| &plan.target).collect();
        let all = targets.iter().map(|target| target.sql()).collect::<Vec<_>>().join(", ");
        if targets.len() > 1 && alter::at_once(self.session, &alter::lock_writers(&all)).await? {
            return Ok(());
        }
        for target in targets {
            alter::patiently(self.session, &alter::lock_writers(&target.sql()), &[target], LOCK_TRIES)
                .await?;
        }
        Ok(())
    }

    /// The targets must have the columns that the plans count on, whoever has altered them meanwhile.
    async fn check_targets(&self) -> Result<()> {
        let existing: Vec<&TablePlan> =
            self.tables.iter().map(|job| job.plan).filter(|plan| plan.action != Action::Create).collect();
        let names: Vec<_> = existing.iter().map(|plan| plan.target.clone()).collect();
        let found = introspect::tables(&self.session.client, &names).await?;
        for plan in existing {
            let there = found.iter().find(|table| table.name == plan.target);
            let misfit =
                plan.contract.columns.iter().find(|c| !there.is_some_and(|t| t.fits(&c.name, &c.target)));
            let ours = METADATA.iter().all(|(name, _)| there.is_some_and(|t| t.column(name).is_some()));
            if let Some(column) = misfit {
                let (target, name, sql) = (&plan.target, &column.name, &column.target);
                return Err(Failure::data(format!("cannot load {target}: its column {name:?} is not {sql}"))
                    .hint(
                        "Somebody has altered the warehouse table: put it back, or drop it to load it anew.",
                    )
                    .into());
            }
            if !ours {
                return Err(Failure::data(format!(
                    "cannot load {}: it has lost its _sankofa_ columns",
                    plan.target
                ))
                .hint("Put them back, or drop the table to load it anew.")
                .into());
            }
        }
        Ok(())
    }

    /// Keeps watermarks, contracts, figures and check results of all tables, in the same commit.
    async fn remember(&self, figures: &[(TableFigures, i64)], checked: &[Checked]) -> Result<()> {
        let client = &self.session.client;
        run::tables(client, self.run, figures).await?;
        crate::ledger::checks::keep(client, self.run, checked).await?;
        let tables: Vec<String> = self.tables.iter().map(|job| job.plan.name.to_string()).collect();
        overrides::loaded(client, &self.pipeline.name, self.run, &tables).await?;
        let left = self.tables.iter().zip(figures).map(|(job, (_, live_rows))| self.left(job, *live_rows));
        state::write(client, &self.pipeline.name, self.run, &left.collect::<Result<Vec<_>>>()?).await
    }

    fn left(&self, job: &TableJob<'_>, live_rows: i64) -> Result<Left> {
        let watermark = job.watermark(self.facts);
        Ok(Left {
            table: job.plan.name.to_string(),
            target: job.plan.target.to_string(),
            watermark_text: watermark.as_ref().and_then(predicate::watermark),
            watermark: watermark.map(serde_json::to_value).transpose()?,
            contract: serde_json::to_value(&job.plan.contract)?,
            change: job.plan.decision.words(),
            settings: job.plan.settings.clone(),
            live_rows,
            deletes_checked: job.plan.action != Action::Merge || job.plan.compare_keys,
        })
    }

    async fn execute(&self, sql: &str, cannot: &str) -> Result<()> {
        self.session.client.batch_execute(sql).await.map_err(|error| self.session.failure(error, cannot))
    }
}

impl TableJob<'_> {
    /// The watermark this run leaves; `None` for a table without one, and for a window by hand.
    pub fn watermark(&self, facts: &Facts) -> Option<Watermark> {
        let key = self.plan.key.as_ref()?;
        if matches!(self.plan.reading, Reading::Window { .. }) {
            return None;
        }
        let until = match self.plan.reading {
            Reading::Until { until, .. } => Some(until),
            _ => None,
        };
        let full = self.plan.action != Action::Merge;
        let seen = Seen { high: self.extracted.rows.high, cap: self.cap, full, until };
        Some(window::advance(self.plan.last.as_ref(), key, facts, seen))
    }
}

fn figures(job: &TableJob<'_>, counts: &Counts) -> TableFigures {
    let (plan, read) = (job.plan, &job.extracted.rows);
    TableFigures {
        table: plan.name.to_string(),
        target: plan.target.to_string(),
        mode: plan.mode.clone(),
        reason: plan.full_reason(),
        read: read.rows,
        staged: job.extracted.staged,
        inserted: counts.inserted,
        updated: counts.updated,
        deleted: counts.deleted,
        unchanged: job.extracted.staged.saturating_sub(counts.inserted + counts.updated),
        rejected: 0,
        bytes: read.bytes,
        ms: job.extracted.ms,
        watermark: None,
        schema_change: plan.decision.words(),
    }
}

fn finish_report(report: &mut Report) {
    report.status = Status::Ok;
    report.rows = report.tables.iter().map(|table| table.inserted + table.updated + table.deleted).sum();
    report.bytes = report.tables.iter().map(|table| table.bytes).sum();
    report.full_refresh = report.tables.iter().any(|table| table.reason.is_some());
    let elapsed = jiff::Timestamp::now().duration_since(report.started_at);
    report.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(0);
}

/// Whether an error leaves open what became of a COMMIT: then, and only then, the ledger is asked.
pub fn may_have_committed(error: &anyhow::Error) -> bool {
    crate::error::classify(error).kind == Kind::Temporary
}
