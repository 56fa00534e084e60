//! One run of a pipeline, from the lock to the report: `sync`, and what all ways of running share.
//!
//! In:    a [`Request`], the process's hands (secrets, stop, progress).
//! Out:   a report; rows, watermarks and ledger in one commit.
//! Holds: whatever ends a run, the ledger is told; an answer to COMMIT that was lost is looked up
//!        before anyone is told that the run failed.
//! Not here: each step's work (`prepare`, `extract`, `staging`, `publish`).

use crate::config::model::{Pipeline, Project, TableSpec};
use crate::error::{Failure, classify};
use crate::etl::cancel::Cancelling;
use crate::etl::extract::{Destination, Reader};
use crate::etl::extracted::Extracted;
use crate::etl::plan::{TablePlan, Wishes};
use crate::etl::prepare::{self, Ends, Prepared};
use crate::etl::publish::{self, Publication, TableJob};
use crate::etl::source::{self, Source};
use crate::etl::staging;
use crate::etl::target::{self, Opening, Target};
use crate::etl::window::Facts;
use crate::ledger::checks;
use crate::ledger::overrides::{self, Overrides};
use crate::ledger::run::{self, Asked, Begun, Way};
use crate::ledger::state;
use crate::pg::Session;
use crate::progress::{Progress, Shown, TableProgress};
use crate::report::{Report, Status};
use crate::secret::{Connection, Resolver};
use crate::stop::StopSignal;
use anyhow::Result;
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;
use tracing::{info, warn};

/// What is asked of one run.
pub struct Request<'a> {
    /// The operator's half.
    pub project: &'a Project,
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The tables it is about.
    pub specs: Vec<&'a TableSpec>,
    /// Id of the run.
    pub run_id: &'a str,
    /// The command, as the ledger and `pg_stat_activity` show it.
    pub command: &'a str,
    /// What was asked for beyond the configuration.
    pub wishes: Wishes,
    /// What somebody takes on for this run.
    pub overrides: overrides::Asked,
    /// The brake on deletes is lifted.
    pub allow_deletes: bool,
    /// Another holder of the lock is ended.
    pub take_over: bool,
}

/// What a run needs of its process.
pub struct Hands<'a> {
    /// Where secrets are asked for.
    pub resolver: &'a Resolver,
    /// The wish to stop.
    pub stop: &'a StopSignal,
    /// Where progress is shown.
    pub shown: &'a Shown,
}

/// An open run: the warehouse with its lock, and the run's number.
pub struct Opened {
    /// The warehouse.
    pub target: Target,
    /// Its connection, for more sessions.
    pub connection: Connection,
    /// The run's number.
    pub run: i64,
    /// What somebody has taken on for it.
    pub overrides: Overrides,
    _cancelling: Cancelling,
}

/// How long the ledger is given to hear of a failure.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl<'a> Request<'a> {
    /// The name of this run's sessions: says who holds the lock.
    pub fn application_name(&self) -> String {
        format!(
            "sankofa/{} {} {} {}",
            env!("CARGO_PKG_VERSION"),
            self.command,
            self.pipeline.name,
            self.run_id
        )
    }

    fn opening<'b>(&'b self, application_name: &'b str) -> Result<Opening<'b>> {
        Ok(Opening {
            warehouse: self.project.warehouse()?,
            environment: &self.project.environment,
            pipeline: &self.pipeline.name,
            application_name,
            take_over: self.take_over,
        })
    }

    /// Opens the warehouse, takes the lock, begins the run; `Err` of the inner result is the report
    /// of a run that was done before.
    ///
    /// # Errors
    /// As [`target::open`] and [`run::begin`].
    pub async fn open(&self, hands: &Hands<'_>, way: Way, report: &Report) -> Result<Result<Opened, Report>> {
        let connection = hands.resolver.connection(&self.project.warehouse()?.connection).await?;
        let name = self.application_name();
        let target = target::open(&connection, &self.opening(&name)?).await?;
        // Not the second session: it has the last word.
        let cancelling = Cancelling::on(hands.stop);
        cancelling.add(&target.publisher);
        let asked = Asked {
            pipeline: &self.pipeline.name,
            run_id: self.run_id,
            way,
            command: self.command,
            config_hash: &self.pipeline.config_hash,
        };
        match run::begin(&target.publisher.client, &asked).await? {
            Begun::AlreadyDone(recorded) => Ok(Err(report.clone().already_done(recorded))),
            Begun::Started(run) => {
                let overrides = overrides::take(&target.publisher.client, run, &self.overrides).await?;
                Ok(Ok(Opened { target, connection, run, overrides, _cancelling: cancelling }))
            }
        }
    }

    /// The same without the tables that are set aside: of those nothing is read.
    ///
    /// # Errors
    /// 2 when nothing is left.
    pub fn without_aside(&self, overrides: &Overrides) -> Result<Request<'a>, Failure> {
        let is_left = |spec: &&&TableSpec| !overrides.set_aside.contains_key(&spec.name.to_string());
        let specs: Vec<_> = self.specs.iter().filter(is_left).copied().collect();
        if specs.is_empty() {
            let what =
                format!("cannot {} {}: every table of it is set aside", self.command, self.pipeline.name);
            return Err(
                Failure::usage(what).hint("What is set aside holds for one run: take a new --run id.")
            );
        }
        Ok(Request { specs, wishes: self.wishes.clone(), overrides: self.overrides.clone(), ..*self })
    }

    /// Opens the source and plans every table.
    ///
    /// # Errors
    /// As [`source::open`] and [`prepare::prepare`].
    pub async fn plan(
        &self,
        hands: &Hands<'_>,
        warehouse: &Session,
    ) -> Result<(Source, Prepared<'a>, Cancelling)> {
        let connection = hands.resolver.connection(&self.pipeline.source).await?;
        let options = prepare::opening(self.pipeline, &self.specs, &self.application_name());
        let names: Vec<_> = self.specs.iter().map(|spec| spec.name.clone()).collect();
        let cancelling = Cancelling::on(hands.stop);
        let source = source::open(&connection, &names, &options, &cancelling).await?;
        let ends = Ends { source: &source, warehouse, resolver: hands.resolver };
        let prepared =
            prepare::prepare(self.project, self.pipeline, self.specs.clone(), &self.wishes, &ends).await?;
        Ok((source, prepared, cancelling))
    }

    /// Reads all rows of `prepared` into `destination`.
    ///
    /// # Errors
    /// As [`Reader::read`]; 75 when the locks hold up somebody else.
    pub async fn read(
        &self,
        hands: &Hands<'_>,
        source: &Source,
        prepared: &Prepared<'_>,
        destination: &Destination<'_>,
    ) -> Result<Vec<Extracted>> {
        let progress = Progress::start(format!("{} {}", self.command, self.pipeline.name), hands.shown);
        let counters = counters(&progress, &prepared.plans);
        let hmac_key = prepared.hmac_key.as_ref().map_or("", SecretString::expose_secret);
        let reader = Reader {
            plans: &prepared.plans,
            specs: &prepared.specs,
            hmac_key: hmac_key.as_bytes(),
            max_row_bytes: self.pipeline.max_row_bytes,
            progress: &counters,
        };
        source.guarded(reader.read(source, destination)).await
    }

    /// Sessions for copying, one a reader.
    ///
    /// # Errors
    /// As [`target::writer`].
    pub async fn writers(&self, opened: &Opened, count: usize) -> Result<Vec<Session>> {
        let name = self.application_name();
        let opening = self.opening(&name)?;
        let encoding = self.pipeline.encoding.as_deref();
        let sessions =
            (0..count).map(|_| target::writer(&opened.connection, &opening, &opened.target, encoding));
        try_join_all(sessions).await
    }

    /// Publishes what is in staging, and says so in the ledger; a lost answer is looked up.
    ///
    /// # Errors
    /// As [`Publication::publish`].
    pub async fn publish(
        &self,
        opened: &Opened,
        jobs: Vec<TableJob<'_>>,
        facts: &Facts,
        report: Report,
    ) -> Result<Report> {
        let report = opened.overrides.told(report);
        let mut reported = report.clone();
        let groups: Vec<Vec<TableJob<'_>>> = match self.pipeline.publish {
            crate::config::model::Publish::Together => vec![jobs],
            crate::config::model::Publish::Each => jobs.into_iter().map(|job| vec![job]).collect(),
        };
        let last = groups.len().saturating_sub(1);
        for (number, mut tables) in groups.into_iter().enumerate() {
            if self.pipeline.publish == crate::config::model::Publish::Each {
                self.leave_out_published(opened, &mut tables).await?;
            }
            let publication = Publication {
                session: &opened.target.publisher,
                run: opened.run,
                pipeline: self.pipeline,
                warehouse: self.project.warehouse()?,
                tables,
                facts,
                overrides: &opened.overrides,
                allow_deletes: self.allow_deletes,
                last: number == last,
            };
            reported = match publication.publish(reported.clone()).await {
                Ok(done) => done,
                Err((error, checked)) => match self.lost_answer(opened, &error, number == last).await? {
                    Some(recorded) => Report { status: Status::Ok, ..report.clone().already_done(recorded) },
                    None => {
                        let _ = checks::keep(&opened.target.second.client, opened.run, &checked).await;
                        return Err(error);
                    }
                },
            };
        }
        for table in &reported.tables {
            info!(
                table = %table.table, read = table.read, inserted = table.inserted, updated = table.updated,
                deleted = table.deleted, unchanged = table.unchanged, "published"
            );
        }
        Ok(reported)
    }

    /// Tables that an earlier try of this very run has published already, each in its commit.
    async fn leave_out_published(&self, opened: &Opened, tables: &mut Vec<TableJob<'_>>) -> Result<()> {
        let states = state::read(&opened.target.publisher.client, &self.pipeline.name).await?;
        tables.retain(|job| {
            let by_this_run =
                states.get(&job.plan.name.to_string()).is_some_and(|state| state.run == opened.run);
            !by_this_run || job.plan.base == Some(opened.run)
        });
        Ok(())
    }

    /// The connection was lost, perhaps between COMMIT and its answer: the ledger knows.
    async fn lost_answer(&self, opened: &Opened, error: &anyhow::Error, last: bool) -> Result<Option<Value>> {
        if !last || !publish::may_have_committed(error) || !opened.target.publisher.client.is_closed() {
            return Ok(None);
        }
        let asking =
            target::look(&opened.connection, self.project.warehouse()?, &self.application_name()).await?;
        run::recorded(&asking.client, opened.run).await
    }
}

impl Opened {
    /// Tells the ledger why the run failed, and drops what it has staged, as far as the server answers.
    pub async fn fail(&self, error: &anyhow::Error, stop: &StopSignal, pipeline: &str, keep_staging: bool) {
        let failure = stop.reason().map_or_else(|| classify(error), |reason| reason.failure());
        let telling = async {
            run::failed(&self.target.second.client, self.run, &failure).await?;
            if keep_staging { Ok(()) } else { staging::sweep(&self.target.second, &[], pipeline, None).await }
        };
        match tokio::time::timeout(LAST_WORDS, telling).await {
            Ok(Ok(())) => {}
            _ => warn!(run = self.run, "the ledger could not be told that the run has failed"),
        }
    }
}

/// Runs `pipeline` from source to warehouse without a stage.
///
/// # Errors
/// Those of the three steps.
pub async fn sync(request: &Request<'_>, hands: &Hands<'_>, report: Report) -> Result<Report> {
    let opened = match request.open(hands, Way::Sync, &report).await? {
        Ok(opened) => opened,
        Err(done) => return Ok(done),
    };
    match stream(request, hands, &opened, report).await {
        Ok(report) => Ok(report),
        Err(error) => {
            opened.fail(&error, hands.stop, &request.pipeline.name, false).await;
            Err(error)
        }
    }
}

async fn stream(
    asked: &Request<'_>,
    hands: &Hands<'_>,
    opened: &Opened,
    mut report: Report,
) -> Result<Report> {
    let request = &asked.without_aside(&opened.overrides)?;
    let publisher = &opened.target.publisher;
    staging::sweep(publisher, &[], &request.pipeline.name, None).await?;
    let writers = request.writers(opened, request.pipeline.connections.max(1));
    let ((source, prepared, _cancel), writers) = tokio::try_join!(request.plan(hands, publisher), writers)?;
    let cancelling = Cancelling::on(hands.stop);
    cancelling.add_all(&writers);
    staging::create(&writers, opened.run, &prepared.plans).await?;
    let destination = Destination::Staging { run: opened.run, writers: &writers };
    let extracted = request.read(hands, &source, &prepared, &destination).await?;
    source.tell_age(&mut report);
    let facts = source.facts.clone();
    report.warnings.extend(source.warnings.iter().cloned());
    report.warnings.extend(prepared.plans.iter().flat_map(|plan| plan.warnings.clone()));
    drop(source); // its locks and its snapshot are no longer needed
    complete(&writers, opened.run, &prepared.plans).await?;
    let jobs = jobs(&prepared.plans, &prepared.specs, &extracted, &prepared.caps);
    let done = request.publish(opened, jobs, &facts, report).await?;
    // By the second session: the publisher may be gone with its answer. Else the next run does it.
    let _ = staging::sweep(&opened.target.second, &writers, &request.pipeline.name, None).await;
    Ok(done)
}

/// Prepares every filled table, side by side.
///
/// # Errors
/// As [`staging::complete`].
pub async fn complete(writers: &[Session], run: i64, plans: &[TablePlan]) -> Result<()> {
    let shares = writers.iter().enumerate().map(|(writer, session)| async move {
        let share: Vec<(usize, &TablePlan)> =
            plans.iter().enumerate().skip(writer).step_by(writers.len()).collect();
        staging::complete(session, run, &share).await
    });
    try_join_all(shares).await.map(drop)
}

/// One job a table, out of what was gathered in several lists of one order.
pub fn jobs<'a>(
    plans: &'a [TablePlan],
    specs: &[&'a TableSpec],
    extracted: &'a [Extracted],
    caps: &[i64],
) -> Vec<TableJob<'a>> {
    let job = |number: usize| TableJob {
        number,
        plan: &plans[number],
        spec: specs[number],
        extracted: &extracted[number],
        cap: caps[number],
    };
    (0..plans.len()).map(job).collect()
}

/// A progress counter for each plan.
pub fn counters(progress: &Progress, plans: &[TablePlan]) -> Vec<TableProgress> {
    progress.expect_tables(plans.len());
    let expected = |plan: &TablePlan| {
        let whole = matches!(plan.reading, crate::etl::plan::Reading::All(_));
        (whole && plan.expected_rows > 0).then_some(plan.expected_rows)
    };
    plans.iter().map(|plan| progress.table(&plan.name.to_string(), expected(plan))).collect()
}

/// The failure of `--skip-if-empty` when nothing was written.
///
/// # Errors
/// 99, if the report says that no row was written.
pub fn skip_if_empty(report: Report, asked: bool) -> Result<Report, Failure> {
    match asked && report.rows == 0 && report.status == Status::Ok {
        true => Err(Failure::new(crate::error::Kind::Skipped, "nothing to do")),
        false => Ok(report),
    }
}
