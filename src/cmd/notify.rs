//! Who is told how a command ended.
//!
//! In:    the command, how it ended, `notify:` of the project.
//! Out:   notices by webhook and mail: of a failure once a run, of what is late once, and when it is well again.
//! Holds: nothing here changes how the command ends; a launcher that notifies by itself says so in
//!        `SANKOFA_LAUNCHER`, and nothing is sent.
//! Not here: how a receiver is told (`notify`), who was told before (`ledger::notices`).

use super::{Command, Context, record};
use crate::config::model::{Occasion, Project, Receiver};
use crate::error::{Kind, classify};
use crate::ledger::notices;
use crate::notify::{Event, Mail, Notice, Webhook};
use crate::pg::copy::hex;
use crate::report::{ErrorFields, Report, Status};
use crate::secret::Resolver;
use anyhow::Result;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tracing::warn;

/// Missed checks that are told.
const MISSED: usize = 10;

/// What a command is about, for those who are told of it.
pub struct About {
    subject: String,
    run_id: Option<String>,
    /// It looks at other things, whose lateness it tells.
    looks: bool,
    /// When it goes well, the subject is well.
    completes: bool,
}

/// What `command` is about; `None` for one that nobody is told of.
pub fn about(command: &Command) -> Option<About> {
    let run = |subject: String, run_id: &str, completes| {
        Some(About { subject, run_id: Some(run_id.to_owned()), looks: false, completes })
    };
    let look = |subject: &str| {
        Some(About { subject: subject.to_owned(), run_id: None, looks: true, completes: true })
    };
    match command {
        Command::Backup(args) if !args.dry_run => {
            run(format!("backup {}", args.database), args.run.as_str(), true)
        }
        Command::Drill(args) if !args.dry_run => {
            run(format!("drill {}", args.database), args.run.as_str(), true)
        }
        Command::Backups(args) if args.name() == "backups coverage" => look("coverage"),
        Command::Status(args) => look(args.subject()),
        Command::Sync(_) | Command::Extract(_) | Command::Validate(_) | Command::Load(_) => {
            let step = command.step()?;
            let completes = matches!(command, Command::Sync(_) | Command::Load(_));
            run(format!("pipeline {}", step.pipeline), step.run.as_str(), completes)
        }
        _ => None,
    }
}

/// Tells everybody who wants to know how it ended. Never fails; ends within half a minute.
pub async fn tell(context: &Context, about: &About, done: &Result<Report>) {
    let launched = context.variables.get("SANKOFA_LAUNCHER").is_some_and(|name| !name.is_empty());
    if launched || context.stop.reason().is_some() {
        return;
    }
    let Ok(project) = context.project() else { return }; // nobody knows whom to tell
    if project.notify.is_empty() {
        return;
    }
    let Ok(resolver) = context.resolver(&project) else { return };
    let failed_with = match done {
        Err(error) => context.report().failed(&classify(error)),
        Ok(report) => report.clone(),
    };
    let failure = failed_with.error.clone();
    let event = match &failure {
        Some(error) if error.exit == Kind::Usage.exit_code() => return, // whoever typed it has seen it
        Some(error) => failed(&project, &resolver, about, (error, done)).await,
        None if about.completes => well(&project, &resolver, about, done).await,
        None => None,
    };
    let Some(event) = event else { return };
    let (exit, said, hint) =
        failure.map_or((0, String::new(), None), |error| (error.exit, error.message, error.hint));
    let notice = Notice {
        event,
        subject: about.subject.clone(),
        environment: project.environment.clone(),
        run_id: about.run_id.clone(),
        exit,
        said,
        hint,
        missed: missed(&failed_with),
        at: Timestamp::now(),
    };
    let wanted = project.notify.iter().filter(|receiver| wants(receiver, event, about));
    join_all(wanted.map(|receiver| send(receiver, &resolver, &notice))).await;
}

/// What is told of the checks that refused the rows.
fn missed(report: &Report) -> Vec<String> {
    let refusing = report.missed.iter().filter(|checked| checked.refuses()).take(MISSED);
    refusing.map(|one| format!("{}: {}: {}", one.table, one.check, one.details())).collect()
}

fn wants(receiver: &Receiver, event: Event, about: &About) -> bool {
    let occasion = match event {
        Event::Failure => Occasion::Failure,
        Event::Late => Occasion::Late,
        Event::Recovered if about.looks => Occasion::Late,
        Event::Recovered => Occasion::Failure,
        Event::Success => Occasion::Success,
    };
    receiver.when.contains(&occasion)
}

/// A failure, if it is news. Where the ledger cannot be asked, it is: better twice than never.
async fn failed(
    project: &Project,
    resolver: &Resolver,
    about: &About,
    (error, done): (&ErrorFields, &Result<Report>),
) -> Option<Event> {
    let told_of = match &about.run_id {
        Some(run_id) => run_id.clone(),
        None => what_is_late(done.as_ref().ok(), error),
    };
    let ask = async |client: &Client| notices::open(client, &about.subject, &told_of).await;
    let is_news = match record::ask(project, resolver, ask).await {
        Some(Ok(is_news)) => is_news,
        Some(Err(_)) | None => true,
    };
    let is_late = about.looks && error.exit == Kind::Data.exit_code();
    is_news.then_some(if is_late { Event::Late } else { Event::Failure })
}

/// A mark of what is late, missing or not covered; the same while that is the same.
fn what_is_late(report: Option<&Report>, error: &ErrorFields) -> String {
    let lists = ["lines", "databases"].iter().filter_map(|name| report?.extra.get(*name)?.as_array());
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let is_bad = |line: &&Value| {
        let state = text(line, "state") + &text(line, "verdict");
        ["failed", "missing", "late", "gap"].contains(&state.as_str())
    };
    let names = lists.flatten().filter(is_bad).map(|line| {
        ["part", "name", "state", "server", "database", "backed_up_as"].map(|key| text(line, key)).join("\n")
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    hex(&Sha256::digest(format!("{}\n{}", error.code, names.join("\n\n"))))
}

/// What there is to tell when it went well.
async fn well(project: &Project, resolver: &Resolver, about: &About, done: &Result<Report>) -> Option<Event> {
    let ask = async |client: &Client| notices::close(client, &about.subject).await;
    if let Some(Ok(Some(_))) = record::ask(project, resolver, ask).await {
        return Some(Event::Recovered);
    }
    let is_new = done.as_ref().is_ok_and(|report| report.status == Status::Ok);
    (is_new && !about.looks).then_some(Event::Success)
}

/// What went wrong, with what to do: a warning has no line of its own for that.
fn whole(error: &anyhow::Error) -> String {
    let failure = classify(error);
    [Some(failure.what), failure.hint].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

async fn send(receiver: &Receiver, resolver: &Resolver, notice: &Notice) {
    let id = &receiver.connection;
    let told = async {
        let connection = resolver.connection_from_any(id).await.map_err(|error| whole(&error))?;
        match receiver.mail_to.is_empty() {
            true => Webhook::of(&connection).map_err(|failure| failure.what)?.tell(notice).await,
            false => {
                Mail::of(&connection, &receiver.mail_to).map_err(|failure| failure.what)?.tell(notice).await
            }
        }
    };
    if let Err(why) = told.await {
        warn!(connection = id, cause = why, "nobody could be told of how it ended");
    }
}
