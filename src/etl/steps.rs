//! A run step by step over a stage: `extract`, `validate`, `load`.
//!
//! In:    a [`Request`] under one run id for all three.
//! Out:   a stage; a verdict on it; the warehouse.
//! Holds: a load whose base has moved since its extract changes nothing; what `validate` has copied
//!        into staging is used by `load`, and nothing of it is seen by a reader before that.
//! Not here: the files (`stage`), the commit (`publish`).

use crate::config::model::{Stage, TableSpec};
use crate::error::{Checked, Failure};
use crate::etl::cancel::Cancelling;
use crate::etl::extract::Destination;
use crate::etl::extracted::Extracted;
use crate::etl::filling::{CopyWriter, Room};
use crate::etl::inspect;
use crate::etl::plan::TablePlan;
use crate::etl::prune;
use crate::etl::publish::{self, Publication, TableJob};
use crate::etl::quality;
use crate::etl::run::{Hands, Opened, Request, counters, jobs};
use crate::etl::stage::{self, Manifest, Part, StageWriter};
use crate::etl::staging::{self, Places};
use crate::ledger::checks;
use crate::ledger::run::{self, Way};
use crate::pg::Session;
use crate::progress::{Progress, TableProgress};
use crate::report::{Report, TableFigures};
use crate::table::literal;
use anyhow::Result;
use futures_util::future::try_join_all;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Reads the source into a stage.
///
/// # Errors
/// As the source, the warehouse's ledger and the stage's store fail.
pub async fn extract(request: &Request<'_>, hands: &Hands<'_>, report: Report) -> Result<Report> {
    let directory = directory(request)?;
    let opened = match request.open(hands, Way::Steps, &report).await? {
        Ok(opened) => opened,
        Err(done) => return Ok(done),
    };
    staging::sweep(&opened.target.publisher, &[], &request.pipeline.name, None).await?;
    match write_stage(request, hands, &opened, &directory, report).await {
        Ok(report) => {
            run::staged(&opened.target.publisher.client, opened.run).await?;
            Ok(report)
        }
        Err(error) => {
            opened.fail(&error, hands.stop, &request.pipeline.name, false).await;
            Err(error)
        }
    }
}

async fn write_stage(
    request: &Request<'_>,
    hands: &Hands<'_>,
    opened: &Opened,
    directory: &std::path::Path,
    mut report: Report,
) -> Result<Report> {
    let encrypt_to = &settings(request)?.encrypt_to;
    prune::refuse_other_environment(directory, &request.project.environment)?;
    let request = &request.without_aside(&opened.overrides)?;
    let (source, prepared, _cancel) = request.plan(hands, &opened.target.publisher).await?;
    let writer = StageWriter::begin(directory, encrypt_to)?;
    let extracted = request.read(hands, &source, &prepared, &Destination::Files(&writer)).await?;
    source.tell_age(&mut report);
    let warnings =
        source.warnings.iter().cloned().chain(prepared.plans.iter().flat_map(|p| p.warnings.clone()));
    report.warnings.extend(warnings);
    let manifest = writer.finish(Manifest {
        schema: stage::SCHEMA,
        pipeline: request.pipeline.name.clone(),
        run_id: request.run_id.to_owned(),
        run: opened.run,
        environment: request.project.environment.clone(),
        database: source.database.clone(),
        config_hash: request.pipeline.config_hash.clone(),
        created_at: jiff::Timestamp::now(),
        facts: source.facts.clone(),
        encoding: request.pipeline.encoding.clone(),
        plans: prepared.plans,
        caps: prepared.caps,
        extracted,
        parts: Vec::new(),
        warnings: report.warnings.clone(),
    })?;
    report.tables =
        manifest.plans.iter().zip(&manifest.extracted).map(|(plan, read)| staged(plan, read)).collect();
    report.rows = report.tables.iter().map(|table| table.staged).sum();
    report.bytes = report.tables.iter().map(|table| table.bytes).sum();
    report.full_refresh = report.tables.iter().any(|table| table.reason.is_some());
    Ok(report)
}

/// The figures of a table that is read and not yet published.
pub fn staged(plan: &TablePlan, extracted: &Extracted) -> TableFigures {
    TableFigures {
        table: plan.name.to_string(),
        target: plan.target.to_string(),
        mode: plan.mode.clone(),
        reason: plan.full_reason(),
        read: extracted.rows.rows,
        staged: extracted.staged,
        bytes: extracted.rows.bytes,
        ms: extracted.ms,
        schema_change: plan.decision.words(),
        ..TableFigures::default()
    }
}

/// Judges a stage: whole, in contract, and every check kept; nothing of it is published.
///
/// # Errors
/// 65 for a torn stage, a base that has moved, or a check that failed.
pub async fn validate(request: &Request<'_>, hands: &Hands<'_>, report: Report) -> Result<Report> {
    step(request, hands, report, Step::Validate).await
}

/// Publishes a stage.
///
/// # Errors
/// As [`validate`], and as [`Publication::publish`].
pub async fn load(request: &Request<'_>, hands: &Hands<'_>, report: Report) -> Result<Report> {
    step(request, hands, report, Step::Load).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Validate,
    Load,
}

async fn step(request: &Request<'_>, hands: &Hands<'_>, report: Report, step: Step) -> Result<Report> {
    let directory = directory(request)?;
    let opened = match request.open(hands, Way::Steps, &report).await? {
        Ok(opened) => opened,
        Err(done) => return Ok(done),
    };
    let done = async {
        let manifest = stage::open(&directory, &request.pipeline.name, request.run_id)?;
        let job = StageJob { request, hands, opened: &opened, directory, manifest: &manifest };
        job.refuse_foreign()?;
        match step {
            Step::Validate => job.validate(report).await,
            Step::Load => job.load(report).await,
        }
    }
    .await;
    if let Err(error) = &done {
        opened.fail(error, hands.stop, &request.pipeline.name, step == Step::Load).await;
    } else if step == Step::Validate {
        run::staged(&opened.target.publisher.client, opened.run).await?;
    }
    done
}

/// One stage and all that is needed to judge or publish it.
struct StageJob<'a> {
    request: &'a Request<'a>,
    hands: &'a Hands<'a>,
    opened: &'a Opened,
    directory: PathBuf,
    manifest: &'a Manifest,
}

impl StageJob<'_> {
    async fn validate(&self, mut report: Report) -> Result<Report> {
        let specs = self.specs()?;
        let asks = |spec: &&TableSpec, plan: &TablePlan| {
            spec.checks.iter().any(|check| quality::needs_query(check, plan)) || !plan.layout.key_proven
        };
        let rehearse = specs.iter().zip(&self.manifest.plans).any(|(spec, plan)| asks(spec, plan));
        let mut known = Vec::new();
        if !rehearse {
            inspect::read_through(self.request, self.hands, self.manifest).await?;
            known = self.known(&specs);
        }
        // Of a miss people want to know which rows: for that they must be where they can be asked.
        let checked = match rehearse || known.iter().any(|checked| !checked.passed) {
            true => {
                self.fill().await?;
                self.publication(&specs, false)?.rehearse().await?
            }
            false => known,
        };
        checks::keep(&self.opened.target.publisher.client, self.opened.run, &checked).await?;
        report.tables =
            self.manifest.plans.iter().zip(&self.manifest.extracted).map(|(p, e)| staged(p, e)).collect();
        report.rows = report.tables.iter().map(|table| table.staged).sum();
        report.warnings.extend(self.manifest.warnings.iter().cloned());
        report = self.opened.overrides.told(report);
        publish::judge(&mut report, &checked)?;
        Ok(report)
    }

    async fn load(&self, mut report: Report) -> Result<Report> {
        let specs = self.specs()?;
        if let Err(error) = self.fill().await {
            // Of no use to the next try; what is whole is kept for it.
            let _ = staging::sweep(&self.opened.target.second, &[], &self.request.pipeline.name, None).await;
            return Err(error);
        }
        report.warnings.extend(self.manifest.warnings.iter().cloned());
        let manifest = self.manifest;
        let done = self.request.publish(self.opened, self.jobs(&specs)?, &manifest.facts, report).await?;
        let _ = staging::sweep(&self.opened.target.second, &[], &self.request.pipeline.name, None).await;
        Ok(done)
    }

    fn publication<'b>(&'b self, specs: &[&'b TableSpec], last: bool) -> Result<Publication<'b>, Failure> {
        let manifest = self.manifest;
        Ok(Publication {
            session: &self.opened.target.publisher,
            run: self.opened.run,
            pipeline: self.request.pipeline,
            warehouse: self.request.project.warehouse()?,
            tables: self.jobs(specs)?,
            facts: &manifest.facts,
            overrides: &self.opened.overrides,
            allow_deletes: self.request.allow_deletes,
            last,
        })
    }

    /// What is to be done with each table that is not set aside.
    fn jobs<'b>(&'b self, specs: &[&'b TableSpec]) -> Result<Vec<TableJob<'b>>, Failure> {
        self.request.without_aside(&self.opened.overrides)?;
        let manifest = self.manifest;
        let mut jobs = jobs(&manifest.plans, specs, &manifest.extracted, &manifest.caps);
        jobs.retain(|job| !self.is_aside(job.plan));
        Ok(jobs)
    }

    fn is_aside(&self, plan: &TablePlan) -> bool {
        self.opened.overrides.set_aside.contains_key(&plan.name.to_string())
    }

    /// A stage of another environment, another ledger, or from before the guard said never.
    fn refuse_foreign(&self) -> Result<(), Failure> {
        let (manifest, request) = (self.manifest, self.request);
        let again = "Extract it again.";
        if manifest.environment != request.project.environment {
            let what = format!(
                "cannot load {}: the stage is of environment {:?}",
                request.pipeline.name, manifest.environment
            );
            return Err(Failure::config(what).hint("Use the same --env as `extract` did."));
        }
        if manifest.run != self.opened.run {
            let what = format!("cannot load {}: the stage belongs to another ledger", request.pipeline.name);
            return Err(Failure::data(what).hint(again));
        }
        for plan in &manifest.plans {
            if let Some(what) = plan.layout.offends(&request.project.guard, &manifest.database, &plan.name) {
                let what =
                    format!("cannot load {}: the operator's guard has changed since: {what}", plan.name);
                return Err(Failure::data(what).hint(again));
            }
        }
        Ok(())
    }

    /// The settings of the staged tables, as the pipeline says today.
    fn specs(&self) -> Result<Vec<&TableSpec>, Failure> {
        let find = |plan: &TablePlan| {
            self.request.pipeline.tables.iter().find(|spec| spec.name == plan.name).ok_or_else(|| {
                Failure::data(format!("cannot load {}: the pipeline no longer has it", plan.name))
                    .hint("Extract again.")
            })
        };
        self.manifest.plans.iter().map(find).collect()
    }

    /// Copies the stage into staging, unless it is there already.
    async fn fill(&self) -> Result<()> {
        let (publisher, run) = (&self.opened.target.publisher, self.opened.run);
        let seal = self.seal();
        if sealed(publisher, run, &seal).await? {
            return Ok(());
        }
        staging::sweep(publisher, &[], &self.request.pipeline.name, None).await?;
        let writers = self.request.writers(self.opened, self.request.pipeline.connections).await?;
        let cancelling = Cancelling::on(self.hands.stop);
        cancelling.add_all(&writers);
        staging::create(&writers, run, &self.manifest.plans).await?;
        self.copy_parts(&writers).await?;
        crate::etl::run::complete(&writers, run, &self.manifest.plans).await?;
        let sql = format!(
            "CREATE UNLOGGED TABLE {} AS SELECT {} AS seal",
            staging::seal(run).sql(),
            literal(&seal)
        );
        let done = publisher.client.batch_execute(&sql).await;
        done.map_err(|error| publisher.failure(error, "cannot seal the staged rows"))
    }

    /// What tells this stage, and what is filled of it, from any other of the same run.
    fn seal(&self) -> String {
        let parts: String = self.manifest.parts.iter().map(|part| part.sha256.as_str()).collect();
        let aside: Vec<&String> = self.opened.overrides.set_aside.keys().collect();
        let all = format!("{} {parts} {aside:?}", self.manifest.created_at);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(all);
        format!("sankofa stage {}", crate::pg::copy::hex(&digest))
    }

    async fn copy_parts(&self, writers: &[Session]) -> Result<()> {
        let progress = Progress::start(format!("loading {}", self.request.pipeline.name), self.hands.shown);
        let counters = counters(&progress, &self.manifest.plans);
        let identity = inspect::identity(self.request, self.hands, self.manifest).await?;
        let is_left = |part: &&Part| !self.is_aside(&self.manifest.plans[part.table]);
        let mut parts: Vec<&Part> = self.manifest.parts.iter().filter(is_left).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let queue = Mutex::new(VecDeque::from(parts));
        let workers = writers.iter().map(|session| {
            let (queue, counters, identity) = (&queue, &counters, &identity);
            async move {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(part) = next else { return Ok::<(), anyhow::Error>(()) };
                    self.copy_part(session, part, identity.clone(), &counters[part.table]).await?;
                }
            }
        });
        try_join_all(workers).await.map(drop)
    }

    async fn copy_part(
        &self,
        session: &Session,
        part: &Part,
        identity: Option<age::x25519::Identity>,
        counter: &TableProgress,
    ) -> Result<()> {
        let plan = &self.manifest.plans[part.table];
        let places = Places::of(self.opened.run, part.table);
        let into = Room::of(plan, part.what, &places);
        let mut writer = CopyWriter::stream(session, into, part.rows).await?;
        let mut pieces = stage::read_part(&self.directory, part, identity);
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            counter.add(0, piece.len() as u64);
            writer.pass(piece).await?;
        }
        counter.add(part.rows, 0);
        writer.end().await.map(drop)
    }

    /// The checks whose figures the stage itself tells.
    fn known(&self, specs: &[&TableSpec]) -> Vec<Checked> {
        let tables = specs.iter().zip(&self.manifest.plans).zip(&self.manifest.extracted);
        let left = tables.filter(|((_, plan), _)| !self.is_aside(plan));
        left.flat_map(|((spec, plan), extracted)| quality::known(&spec.checks, plan, extracted)).collect()
    }
}

/// Whether the staging tables of the run hold the stage of `seal`: `validate` has filled them, and no crash
/// of the server has emptied them since.
async fn sealed(session: &Session, run: i64, seal: &str) -> Result<bool> {
    let failed = |error| session.failure(error, "cannot look for staged rows");
    let table = staging::seal(run).sql();
    let there = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
    if !session.client.query_one(there, &[&table]).await.map_err(failed)?.get::<_, bool>(0) {
        return Ok(false);
    }
    let same = format!("SELECT FROM {table} WHERE seal = $1");
    Ok(session.client.query_opt(&same, &[&seal]).await.map_err(failed)?.is_some())
}

/// The stage's settings.
///
/// # Errors
/// 78 when there are none.
pub fn settings<'a>(request: &Request<'a>) -> Result<&'a Stage, Failure> {
    request.project.stage.as_ref().ok_or_else(|| {
        Failure::config(format!(
            "cannot {} {}: sankofa.yaml has no `stage:`",
            request.command, request.pipeline.name
        ))
        .hint("Add `stage: {store: ...}`, or use `sankofa sync`, which needs none.")
    })
}

/// Where the run's stage lies.
///
/// # Errors
/// As [`settings`].
pub fn directory(request: &Request<'_>) -> Result<PathBuf, Failure> {
    Ok(stage::directory(&settings(request)?.directory, &request.pipeline.name, request.run_id))
}
