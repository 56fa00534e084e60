//! Runs `pg_restore` on the spool.
//!
//! In:    a verified archive, a database that is ours to fill, what of it comes.
//! Out:   the time it took.
//! Holds: an exit status other than 0 is a failure, with its reasons sorted; when a stop is asked for
//!        the program is ended, its queries cancelled.
//! Not here: what its words mean (`reasons`), whether the rows are right (`backup::prove`).

use super::reasons::Reasons;
use super::spool::{NAME_IN_CHILD, Spool};
use super::target::{APPLICATION, Target};
use crate::pg::params::ConnectParams;
use crate::pg::tool::{Program, ToolSession, Tools};
use crate::stop::StopSignal;
use anyhow::{Context, Result};
use std::io::Write;
use std::time::{Duration, Instant};

/// How it is restored.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Sessions side by side.
    pub jobs: usize,
    /// All in one transaction, by one session: for a database with things of its own.
    pub in_one_transaction: bool,
    /// Owners and grants are left out.
    pub without_owners: bool,
    /// Tablespaces are left out.
    pub without_tablespaces: bool,
    /// Subscriptions are left out: a drill must not know the server that they are of.
    pub without_subscriptions: bool,
}

/// Fills database `name` of `target` from `spool`: all of it, or the entries `ids` in this
/// order, which is the archive's.
///
/// # Errors
/// As [`Reasons::failure`]; the reason of a stop.
pub async fn apply(
    (tools, spool): (&Tools, &Spool),
    (target, name): (&Target, &str),
    ids: Option<&[i64]>,
    manner: &Manner,
    stop: &StopSignal,
) -> Result<Duration> {
    let start = Instant::now();
    let params = ConnectParams::of(&target.connection_to(name))?;
    // What is restored is on the disk when the name is given to it: that commit waits for all before it.
    let settings = [("synchronous_commit".to_owned(), "off".to_owned())];
    let at = &target.session.endpoint;
    let session = ToolSession { params: &params, at, application_name: APPLICATION, settings: &settings };
    let mut command = tools.on(Program::PgRestore, &session)?;
    command.args(arguments(manner));
    let list = ids.map(list).transpose()?;
    if let Some(list) = &list {
        command.arg("--use-list").arg(list.path());
    }
    command.arg(NAME_IN_CHILD).input(spool.reopened()?);
    let (mut running, stdout) = command.start()?;
    drop(stdout); // it has nothing to say there
    let group = running.group();
    let _registered = stop.on_stop(async move { group.stop().await });
    let ended = running.wait().await?;
    if ended.status.success() {
        return Ok(start.elapsed());
    }
    if let Some(reason) = stop.reason() {
        return Err(reason.failure().into());
    }
    let mut reasons = Reasons::default();
    ended.said.met().iter().for_each(|line| reasons.line(line));
    Err(reasons.failure(&target.place(), &ended.status.to_string()).into())
}

fn arguments(manner: &Manner) -> Vec<String> {
    let mut arguments = Vec::new();
    if manner.in_one_transaction {
        arguments.push("--single-transaction".to_owned());
    } else if manner.jobs > 1 {
        arguments.push(format!("--jobs={}", manner.jobs));
    }
    for (wanted, options) in [
        (manner.without_owners, &["--no-owner", "--no-privileges"][..]),
        (manner.without_tablespaces, &["--no-tablespaces"]),
        (manner.without_subscriptions, &["--no-subscriptions"]),
    ] {
        arguments.extend(options.iter().filter(|_| wanted).map(|option| (*option).to_owned()));
    }
    arguments
}

/// The file for `--use-list`: numbers only, no name is in it.
fn list(ids: &[i64]) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().context("cannot make a file for the list of entries")?;
    let text: String = ids.iter().map(|id| format!("{id};\n")).collect();
    file.write_all(text.as_bytes()).context("cannot write the list of entries")?;
    Ok(file)
}
