//! `sankofa backup`.

use super::Context;
use super::arguments::{RunId, duration};
use super::{open, record};
use crate::backup::ping::{Event, Ping};
use crate::backup::run::{self, Hands, Request};
use crate::ledger::records;
use crate::report::Report;
use crate::secret::Asked;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio_postgres::Client;

/// Back up one database: dump, prove, compress, encrypt, store; the manifest comes last
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database, by its name under `backups: databases:` in sankofa.yaml
    pub database: String,
    /// Id of the run; the same id again is the same run [default: a new one]
    #[arg(long, value_name = "ID", default_value_t = RunId::fresh(), hide_default_value = true)]
    pub run: RunId,
    /// End with 75 after this time, such as 90s, 45m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// End another backup that holds this database's lock, then go on
    #[arg(long)]
    pub take_over: bool,
    /// Leave out the server's roles, memberships, tablespaces and settings
    #[arg(long)]
    pub skip_globals: bool,
    /// Keep the roles' password verifiers too; needs a superuser
    #[arg(long, conflicts_with = "skip_globals")]
    pub role_passwords: bool,
    /// Monitor to tell of start, success and failure: URL/start, URL, URL/fail [env: SANKOFA_PING]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub ping: Option<SecretString>,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(text.into())
}

/// Runs the command.
///
/// # Errors
/// 75, 77, 78, 65; see [`run::back_up`].
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let resolver = context.resolver(&project)?;
    let request = Request {
        database: run::named(&project.backups.databases, &args.database)?,
        environment: &project.environment,
        run_id: args.run.as_str(),
        take_over: args.take_over,
        skip_globals: args.skip_globals,
        role_passwords: args.role_passwords,
        dry_run: args.dry_run,
    };
    let hands = Hands {
        resolver: &resolver,
        stop: &context.stop,
        shown: &context.shown,
        variables: &context.variables,
    };
    let source = Asked::Connection(&request.database.connection);
    let needed = open::store(request.database).into_iter().chain(open::warehouse(&project)).chain([source]);
    resolver.fetch_ahead(needed).await;
    let ping = ping(&args, context)?;
    let on_stop = ping.clone();
    let _told = context.stop.on_stop(async move { tell(on_stop.as_ref(), Event::Failure).await });
    tell(ping.as_ref(), Event::Start).await;
    let mut done = run::back_up(&request, &hands, context.report()).await;
    if context.stop.reason().is_some() {
        return done;
    }
    tell(ping.as_ref(), if done.is_ok() { Event::Success } else { Event::Failure }).await;
    if !args.dry_run {
        let row = record::backup_run(request.database, request.run_id, &done, &context.base);
        let noted = async |client: &Client| records::backup(client, &row).await;
        let warning = record::note(&project, &resolver, noted).await;
        if let Ok(report) = &mut done {
            report.warnings.extend(warning);
        }
    }
    done
}

async fn tell(ping: Option<&Ping>, event: Event) {
    if let Some(ping) = ping {
        ping.tell(event).await;
    }
}

/// Where to ping, if anywhere: a run that only looks does not.
fn ping(args: &Args, context: &Context) -> Result<Option<Ping>, crate::error::Failure> {
    let variable = context.variables.get("SANKOFA_PING").map(String::as_str);
    let url = args.ping.as_ref().map(ExposeSecret::expose_secret).or(variable).filter(|url| !url.is_empty());
    url.filter(|_| !args.dry_run).map(Ping::new).transpose()
}
