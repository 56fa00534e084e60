//! What it takes to bring a backup back: a server that can make databases with nothing left half done on it,
//! identities that open what is stored, a drill that has shown it.

use super::{Findings, backups};
use crate::backup::holders::{self, Held};
use crate::backup::inventory::Backup;
use crate::backup::restore::identity::Places;
use crate::backup::restore::place::unfinished;
use crate::backup::{drill, stores};
use crate::config::model::{Database, Project};
use crate::error::Kind;
use crate::pg::connect::{SessionOptions, connect};
use crate::pg::{Session, public};
use crate::report::lines::minute;
use crate::secret::Resolver;
use anyhow::Result;
use std::collections::BTreeSet;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " doctor");

/// Asks everything about the drill server, and of each database who opens its backups and what was proven.
/// Where nothing opens them, that is a failure with `must_open`.
pub async fn examine(project: &Project, resolver: &Resolver, must_open: bool) -> Vec<Findings> {
    let mut all = Vec::new();
    if let Some(id) = &project.drill {
        let mut findings = Findings::about(format!("drill server {id}"));
        if let Some(session) = findings.answer(open(id, resolver).await) {
            let asked = may_make_databases(&session, &mut findings).await;
            findings.answer(asked);
            let asked = leftovers(&session, &mut findings).await;
            findings.answer(asked);
        }
        all.push(findings);
    }
    for database in &project.backups.databases {
        let mut findings = Findings::about(format!("restores of {}", database.name));
        let good = backups::good(database, &project.environment, resolver).await;
        let held = held(database, resolver, must_open, &mut findings).await;
        holders(database, good.as_deref().unwrap_or_default(), &held, &mut findings);
        match good {
            None => findings.fail(
                Kind::Temporary,
                format!("its backups in store {} cannot be listed", database.store),
                "`sankofa backups list` says why.",
            ),
            Some(good) if good.is_empty() => findings.step(
                "there is no good backup of it yet",
                format!("`sankofa backup {}`, with the identity of class backup.", database.name),
            ),
            Some(_) if project.drill.is_some() => {
                let asked = proven(database, &project.environment, resolver, &mut findings).await;
                findings.answer(asked);
            }
            Some(_) => findings
                .step("nothing proves its backups", "Name a server for drills: `drill: {connection: ...}`."),
        }
        all.push(findings);
    }
    all
}

/// What restores have left on the servers that are backed up.
pub async fn left_on_sources(project: &Project, resolver: &Resolver) -> Vec<Findings> {
    let mut all = Vec::new();
    let ids: BTreeSet<&String> =
        project.backups.databases.iter().map(|database| &database.connection).collect();
    for id in ids.into_iter().filter(|id| project.drill.as_ref() != Some(*id)) {
        let mut findings = Findings::about(format!("restores on {id}"));
        if let Ok(session) = open(id, resolver).await {
            let asked = leftovers(&session, &mut findings).await;
            findings.answer(asked);
            all.push(findings);
        } // that it cannot be reached is told where backups are looked at
    }
    all
}

/// The newest drill that brought the database back.
async fn proven(
    database: &Database,
    environment: &str,
    resolver: &Resolver,
    findings: &mut Findings,
) -> Result<()> {
    let store = stores::open(&database.place, None, resolver).await?;
    let records = drill::records(store.as_ref(), &database.name).await?;
    let newest = records.iter().find(|record| record.proven && record.environment == environment);
    match newest {
        Some(record) => findings.ok(format!("a drill of {} brought it back, equal", minute(record.ended_at))),
        None => {
            findings.step("no drill has brought it back yet", format!("`sankofa drill {}`", database.name))
        }
    }
    Ok(())
}

/// The identities at hand here that may open the backups of a database.
async fn held(
    database: &Database,
    resolver: &Resolver,
    must_open: bool,
    findings: &mut Findings,
) -> Vec<Held> {
    let places = Places { resolver, variables: &database.identities, files: &[] };
    let Some((held, missed)) = findings.answer(places.held().await) else { return Vec::new() };
    let variables = database.identities.join(", ");
    if held.iter().any(|one| database.encrypt_to.contains(&one.recipient)) {
        findings.ok("an identity at hand here opens what is stored from now on");
    } else if !held.is_empty() {
        let next =
            "Put the recipient of `sankofa keygen` under `encrypt_to:`, and its identity into the variable.";
        let said = format!("no identity in {variables} opens what `encrypt_to:` closes");
        findings.fail(Kind::Permission, said, next);
    } else if must_open {
        let next = format!(
            "Put an identity of `sankofa keygen` into variable {variables} (AIRFLOW_VAR_...), where only class drill may read it."
        );
        findings.fail(Kind::Permission, format!("no identity is at hand: {}", missed.join("; ")), next);
    } else {
        findings.ok("no identity is at hand here, and none is needed to back up");
    }
    held
}

/// Counts who opens what is stored.
fn holders(database: &Database, good: &[Backup], held: &[Held], findings: &mut Findings) {
    let now = &database.encrypt_to;
    let count = |recipients: &[String]| match recipients.len() {
        1 => "1 identity opens".to_owned(),
        more => format!("each of {more} identities opens"),
    };
    findings.ok(format!("{} what is stored from now on: {}", count(now), holders::any_of(now)));
    for (recipients, backups) in holders::by_recipients(good) {
        let retired = recipients.iter().all(|one| !now.contains(one));
        let note =
            if retired { "; `encrypt_to:` names none of them any more: keep it for as long" } else { "" };
        findings.ok(format!(
            "{} {backups} good backups: {}{note}",
            count(&recipients),
            holders::any_of(&recipients)
        ));
    }
    for one in held {
        let opens = good.iter().filter(|backup| backup.manifest.recipients.contains(&one.recipient)).count();
        let who = holders::short(&one.recipient);
        findings.ok(format!("{} holds the identity of {who}: it opens {opens} good backups", one.from));
    }
    let closed = if held.is_empty() { Vec::new() } else { holders::unopened(good, held) };
    if let (Some(newest), count) = (closed.first(), closed.len()) {
        findings.warn(
            format!("no identity held here opens {count} good backups, the newest of them {}", newest.id),
            format!(
                "It takes the identity of {}: put it into a variable and name that under `identities:`.",
                holders::any_of(&newest.manifest.recipients)
            ),
        );
    }
}

async fn open(id: &str, resolver: &Resolver) -> Result<Session> {
    connect(&resolver.connection(id).await?, &SessionOptions::named(NAME)).await
}

async fn may_make_databases(session: &Session, findings: &mut Findings) -> Result<()> {
    let sql = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let row = session.client.query_one(sql, &[]).await;
    match row.map_err(|error| public::failure(error, "cannot look at the role"))?.get(0) {
        true => findings.ok("the role may make scratch databases"),
        false => findings.fail(
            Kind::Permission,
            "the role may not make scratch databases",
            "ALTER ROLE ... CREATEDB on the drill server.",
        ),
    }
    Ok(())
}

async fn leftovers(session: &Session, findings: &mut Findings) -> Result<()> {
    let found = unfinished(&session.client).await;
    let found = found.map_err(|error| public::failure(error, "cannot look for unfinished restores"))?;
    for (name, marker) in &found {
        let said = match marker {
            Some(marker) => format!(
                "database {name} holds a restore of {} begun at {} that is not finished",
                marker.database, marker.started_at
            ),
            None => format!("database {name} is a restore or drill that is not finished"),
        };
        findings
            .warn(said, "If none is running, restore or drill again: the next one removes or refills it.");
    }
    if found.is_empty() {
        findings.ok("no restore or drill was left half done");
    }
    Ok(())
}
