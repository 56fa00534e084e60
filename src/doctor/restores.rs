//! Servers that restores and drills go to: reachable, able to make databases, nothing left half done.

use super::Findings;
use crate::backup::restore::place::unfinished;
use crate::config::model::Project;
use crate::error::Kind;
use crate::pg::connect::{SessionOptions, connect};
use crate::pg::{Session, public};
use crate::secret::Resolver;
use anyhow::Result;
use std::collections::BTreeSet;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " doctor");

/// Asks everything about the drill server, and about leftovers on the servers of the backups.
pub async fn examine(project: &Project, resolver: &Resolver) -> Vec<Findings> {
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
