//! `sankofa drill`.

use super::Context;
use super::arguments::RunId;
use super::restore::{How, moment, phases, tools};
use super::{open, record};
use crate::backup::drill::{judge, keep, measured, of_run};
use crate::backup::drills::{Drilled, SCHEMA};
use crate::backup::holders::{self, Held, Proven};
use crate::backup::restore::choose::Choice;
use crate::backup::restore::fill::{Hands, Restored, Wish, list, restore};
use crate::backup::restore::guard::Allowed;
use crate::backup::restore::open::Opened;
use crate::backup::restore::predict::is_close;
use crate::backup::restore::select::Wanted;
use crate::backup::restore::target::Target;
use crate::backup::run::named;
use crate::config::model::{Database, Project};
use crate::error::{Failure, classify};
use crate::ledger::records;
use crate::report::{Report, Status, duration as words, grouped};
use crate::secret::{Asked, Resolver};
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Client;
use tracing::warn;

/// Restore the newest backup into a scratch database, prove it equal, time it, drop it
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database, by its name in sankofa.yaml
    pub database: String,
    /// The newest good backup begun at or before this time, or on this day (UTC) or before
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "backup")]
    pub at: Option<Timestamp>,
    /// The backup with this id
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// How.
    #[command(flatten)]
    pub how: How,
    /// Id of the run; the same id again is the same run [default: a new one]
    #[arg(long, value_name = "ID", default_value_t = RunId::fresh(), hide_default_value = true)]
    pub run: RunId,
    /// Show what would be done and how long it would take, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// 65 when the rows differ or the restore takes longer than `restore_within`; else as `restore`.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let resolver = context.resolver(&project)?;
    let database = named(&project.backups.databases, &args.database)?;
    let needed = open::store(database).into_iter().chain(open::warehouse(&project));
    let needed = needed.chain(project.drill.as_deref().map(Asked::Connection));
    resolver.fetch_ahead(needed.chain(open::identities(database, &args.how.identity_files))).await;
    let started_at = Timestamp::now();
    let mut noted = false;
    let done = drill(&args, context, (&project, database), &resolver, &mut noted).await;
    if let Err(error) = &done
        && !(noted || args.dry_run || context.stop.reason().is_some())
    {
        let row = record::drill_failed(&database.name, args.run.as_str(), started_at, classify(error));
        record::note(&project, &resolver, async |client: &Client| records::drill(client, &row).await).await;
    }
    done
}

async fn drill(
    args: &Args,
    context: &Context,
    (project, database): (&Project, &Database),
    resolver: &Resolver,
    noted: &mut bool,
) -> anyhow::Result<Report> {
    let choice = match (&args.backup, args.at) {
        (Some(id), _) => Choice::Id(id.clone()),
        (None, Some(time)) => Choice::At(time),
        (None, None) => Choice::Newest,
    };
    let opened = Opened::open(database, &project.environment, &choice, resolver).await?;
    if let Some(record) = of_run(&opened.drills, args.run.as_str()) {
        return Ok(told(context.report(), record, &[], Status::AlreadyDone));
    }
    let target = look(project, database, resolver, &opened).await?;
    let tools = tools(&opened.backup.manifest.source.pg_dump_version, context).await?;
    let identities = args.how.identities(database, &opened, resolver).await?;
    if args.dry_run {
        return Ok(foreseen(context.report(), &opened, &target));
    }
    let (held, _) = args.how.places(database, resolver).held().await?;
    let holders = holders::prove(&opened.store, &opened.good, &held).await?;
    let started_at = Timestamp::now();
    let hands = Hands {
        store: &opened.store,
        backup: &opened.backup,
        identities: &identities,
        tools: &tools,
        stop: &context.stop,
        shown: &context.shown,
    };
    let wish = wish(args);
    let restored = restore(&wish, &hands, &target).await?;
    let record = of_drill(args, database, project, (&opened, &target), (&restored, started_at));
    let mut report = told(context.report(), &record, &restored.not_covered, Status::Ok);
    phases(&mut report, &restored);
    tell_holders(&mut report, &opened, (&held, &holders));
    report.warnings.extend(opened.warnings.iter().chain(&restored.warnings).cloned());
    if let Err(error) = keep(opened.store.as_ref(), &record).await {
        let warning = format!("the drill is not recorded in the store: {}", classify(&error).what);
        warn!("{warning}");
        report.warnings.push(warning);
    }
    let judged = judge(&record, &restored.different);
    let row = record::drill_run(&record, judged.as_ref().err());
    let write = async |client: &Client| records::drill(client, &row).await;
    report.warnings.extend(record::note(project, resolver, write).await);
    *noted = true;
    judged?;
    Ok(report)
}

async fn look(
    project: &Project,
    database: &Database,
    resolver: &Resolver,
    opened: &Opened,
) -> anyhow::Result<Target> {
    let Some(id) = &project.drill else {
        let what = "cannot drill: there is no `drill:` in sankofa.yaml".to_owned();
        return Err(Failure::config(what).hint("Name a server: `drill: {connection: drill_server}`.").into());
    };
    let connection = resolver.connection(id).await?;
    let mut target = Target::look(&connection, Some(&database.name), &database.name).await?;
    if target.system_identifier == opened.backup.manifest.source.system_identifier {
        warn!("the drill runs on the very server that the backup was made of");
    }
    target.existing = None; // whatever has that name there, the scratch database has another
    Ok(target)
}

fn wish(args: &Args) -> Wish {
    let mut manner = args.how.manner();
    manner.without_owners |= !args.how.with_globals;
    manner.without_subscriptions = true;
    manner.without_tablespaces = true;
    Wish {
        database: args.database.clone(),
        wanted: Wanted::default(),
        allowed: Allowed::default(),
        manner,
        with_globals: args.how.with_globals,
        prove: true,
        scratch: true,
        spool: args.how.spool(),
    }
}

fn of_drill(
    args: &Args,
    database: &Database,
    project: &Project,
    (opened, target): (&Opened, &Target),
    (restored, started_at): (&Restored, Timestamp),
) -> Drilled {
    let number = target.session.version_num;
    Drilled {
        schema: SCHEMA,
        database: database.name.clone(),
        environment: project.environment.clone(),
        backup: opened.backup.id.clone(),
        run_id: args.run.to_string(),
        started_at,
        ended_at: Timestamp::now(),
        sankofa: env!("CARGO_PKG_VERSION").to_owned(),
        server_version: format!("{}.{}", number / 10_000, number % 10_000),
        jobs: args.how.manner().jobs as u64,
        proven: restored.different.is_empty(),
        different: restored.different.len() as u64,
        tables: restored.tables,
        rows: restored.rows,
        stored_bytes: restored.measured.stored_bytes,
        plain_bytes: restored.measured.plain_bytes,
        fetch_ms: restored.measured.fetch_ms,
        decrypt_ms: restored.measured.decrypt_ms,
        restore_ms: restored.measured.restore_ms,
        prove_ms: restored.measured.prove_ms,
        restore_within_ms: u64::try_from(database.restore_within.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Which identities were proven, which of them nothing needs any more, and what none of them opens.
fn tell_holders(report: &mut Report, opened: &Opened, (held, proven): (&[Held], &[Proven])) {
    let told = proven.iter().map(|one| {
        json!({"recipient": one.recipient, "from": one.from, "backups": one.backups, "opened": one.opened})
    });
    report.extra.insert("identities".into(), told.collect());
    for one in proven.iter().filter(|one| one.backups == 0) {
        let who = format!("the identity of {} ({})", holders::short(&one.recipient), one.from);
        report
            .warnings
            .push(format!("{who} opens no backup of {} any more", opened.backup.manifest.database));
    }
    let closed = if held.is_empty() { Vec::new() } else { holders::unopened(&opened.good, held) };
    if !closed.is_empty() {
        let by = holders::by_recipients(closed.iter().copied());
        let by: Vec<String> =
            by.iter().map(|(who, count)| format!("{count} with {}", holders::any_of(who))).collect();
        let count = closed.len();
        report
            .warnings
            .push(format!("no identity held here opens {count} of the backups: {}", by.join(", ")));
    }
}

fn foreseen(mut report: Report, opened: &Opened, target: &Target) -> Report {
    let predicted = opened.prediction.phases.total_ms();
    report.extra.insert("dry_run".into(), json!(true));
    report.extra.insert("backup".into(), json!(opened.backup.id));
    report.extra.insert("predicted_ms".into(), json!(predicted));
    let text = format!(
        "drill: would restore backup {} into a scratch database on {}, in about {}\n",
        opened.backup.id,
        target.connection.id,
        words(predicted)
    );
    report.for_person(text)
}

fn told(mut report: Report, record: &Drilled, not_covered: &[String], status: Status) -> Report {
    report.status = status;
    report.rows = record.rows;
    report.bytes = record.plain_bytes;
    let took = measured(record).total_ms();
    let share = took as f64 / record.restore_within_ms.max(1) as f64;
    for (name, value) in [
        ("database", json!(record.database)),
        ("backup", json!(record.backup)),
        ("proven", json!(record.proven)),
        ("tables_proven", json!(record.tables)),
        ("took_ms", json!(took)),
        ("share_of_restore_within", json!((share * 1000.0).round() / 1000.0)),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    if is_close(took, record.restore_within_ms) {
        let limit = words(record.restore_within_ms);
        report.warnings.push(format!("a restore takes {}, and restore_within is {limit}", words(took)));
    }
    let measured = measured(record);
    let mut text = format!(
        "drill: backup {} of {} came back equal: {} tables, {} rows\n  {} of the {} allowed: fetch {}, decrypt {}, \
         restore {}, prove {}\n",
        record.backup,
        record.database,
        grouped(record.tables),
        grouped(record.rows),
        words(took),
        words(record.restore_within_ms),
        words(measured.fetch_ms),
        words(measured.decrypt_ms),
        words(measured.restore_ms),
        words(measured.prove_ms),
    );
    if !not_covered.is_empty() {
        text.push_str(&format!("  computed anew, so not compared: {}\n", list(not_covered)));
    }
    report.for_person(text)
}
