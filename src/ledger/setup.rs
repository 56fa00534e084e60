//! Makes schema `sankofa`, brings it to this version, and lets the reader see its views.
//!
//! In:    a session that may write, the warehouse's settings, the environment's name.
//! Out:   what was found and what was done.
//! Holds: the reader gets the views alone, which name no person; never a base table, never staging.
//! Not here: the migrations and their transaction (the module above).

use super::{Found, VIEWS, check, grant_reader, look, upgrade, version};
use crate::config::model::Warehouse;
use crate::error::Failure;
use crate::pg::{Session, public};
use anyhow::Result;
use tokio_postgres::Client;
use tracing::warn;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make it where there is none.
    Init,
    /// Bring it to this version.
    Upgrade,
}

/// What was found and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Version before; 0: there was none.
    pub before: i32,
    /// Version now.
    pub after: i32,
    /// The reader could not see the views before.
    pub admitted: bool,
}

/// Does `task`, or with `dry_run` only tells what it would do.
///
/// # Errors
/// 78 for another environment, a schema newer than this program can use, nothing to upgrade, a
/// reader_role that is not there; 77 without the right to create.
pub async fn set_up(
    session: &Session,
    warehouse: &Warehouse,
    environment: &str,
    (task, dry_run): (Task, bool),
) -> Result<Done> {
    let found = look(&session.client).await?;
    judge(&found, environment, task)?;
    let reader = warehouse.reader_role.as_deref();
    if let Some(reader) = reader {
        refuse_unknown(&session.client, reader).await?;
    }
    let moves = found.version == 0 || (task == Task::Upgrade && found.version < version());
    let after = if moves { version() } else { found.version };
    if dry_run {
        let admitted = match reader {
            Some(_) if found.version == 0 => true,
            Some(reader) if after >= version() => !sees_views(&session.client, reader).await?,
            _ => false,
        };
        return Ok(Done { before: found.version, after, admitted });
    }
    if moves {
        upgrade(&session.client, environment, warehouse.owner_role.as_deref()).await?;
    }
    let admitted = match reader {
        // An older schema lacks views that are granted: `upgrade` is what it needs first.
        Some(reader) if after >= version() && !sees_views(&session.client, reader).await? => {
            grant_reader(&session.client, reader).await?;
            true
        }
        _ => false,
    };
    Ok(Done { before: found.version, after, admitted })
}

fn judge(found: &Found, environment: &str, task: Task) -> Result<(), Failure> {
    match (found.version, task) {
        (0, Task::Init) => Ok(()),
        (0, Task::Upgrade) => {
            Err(Failure::config("cannot upgrade schema sankofa: the warehouse has none yet")
                .hint("Make it with `sankofa warehouse init`; the first `sync` makes it too."))
        }
        _ => check(found, environment),
    }
}

/// Lets `reader` see the platform's views, if it does not yet; a role that may not grant that
/// still loads rows.
///
/// # Errors
/// 78 when there is no such role; as [`public::failure`].
pub async fn admit(client: &Client, reader: &str) -> Result<()> {
    refuse_unknown(client, reader).await?;
    if !sees_views(client, reader).await?
        && let Err(error) = grant_reader(client, reader).await
    {
        warn!("the views of schema sankofa stay closed to reader_role {reader}: {error:#}");
    }
    Ok(())
}

async fn refuse_unknown(client: &Client, reader: &str) -> Result<()> {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)";
    let cannot = "cannot look for the reader_role";
    let row = client.query_one(query, &[&reader]).await.map_err(|error| public::failure(error, cannot))?;
    if row.get(0) {
        return Ok(());
    }
    Err(Failure::config(format!("cannot use the warehouse: it has no role {reader} (reader_role)"))
        .hint("Create that role, or correct `warehouse: {reader_role: ...}` in sankofa.yaml.")
        .into())
}

/// Whether `reader` can read every view of schema `sankofa`.
///
/// # Errors
/// As [`public::failure`].
pub async fn sees_views(client: &Client, reader: &str) -> Result<bool> {
    let query = "SELECT pg_catalog.has_schema_privilege($1::text, 'sankofa', 'USAGE')
        AND pg_catalog.bool_and(coalesce(pg_catalog.has_table_privilege($1::text,
            pg_catalog.to_regclass('sankofa.' || v.name), 'SELECT'), false))
        FROM pg_catalog.unnest($2::text[]) AS v(name)";
    let cannot = "cannot see what the reader_role may read";
    let row =
        client.query_one(query, &[&reader, &VIEWS]).await.map_err(|error| public::failure(error, cannot))?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_upgraded_and_only_in_its_environment() {
        let found = |version, environment: &str| Found {
            version,
            min_binary: "0.1.0".into(),
            environment: environment.into(),
        };
        assert!(judge(&found(0, ""), "prod", Task::Init).is_ok());
        assert!(judge(&found(0, ""), "prod", Task::Upgrade).is_err());
        assert!(judge(&found(1, "prod"), "prod", Task::Upgrade).is_ok());
        assert!(judge(&found(1, "dev"), "prod", Task::Init).is_err());
    }
}
