//! Asks the servers which databases they have, and the stores how old their backups are.
//!
//! In:    the resolved `backups:`, where secrets are asked for.
//! Out:   what [`super::judge`] judges. Holds: nothing is written; a question that fails is an answer.

use super::{Found, Listed, Newest, Server};
use crate::backup::inventory::{self, Inventory};
use crate::backup::manifest::Kind;
use crate::backup::{names, stores};
use crate::config::model::{Backups, Database};
use crate::error::classify;
use crate::pg::{Session, SessionOptions, connect};
use crate::secret::Resolver;
use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};

/// Servers and stores that are asked side by side.
const SIDE_BY_SIDE: usize = 4;

const DATABASES: &str = "SELECT d.datname::text, d.oid, d.datistemplate, d.datallowconn,
        d.datconnlimit = -2, has_database_privilege(d.oid, 'CONNECT'), s.system_identifier::text
    FROM pg_catalog.pg_database d, pg_catalog.pg_control_system() s ORDER BY 1";
const IDENTITY: &str = "SELECT s.system_identifier::text, d.oid, d.datname::text
    FROM pg_catalog.pg_database d, pg_catalog.pg_control_system() s WHERE d.datname = current_database()";

/// Asks every server of `servers:`.
pub async fn servers(backups: &Backups, resolver: &Resolver) -> Vec<Server> {
    let ask = |id: &String| {
        let id = id.clone();
        async move {
            let found = databases(&id, resolver).await.map_err(|error| classify(&error).what);
            Server { id, found }
        }
    };
    stream::iter(backups.servers.iter().map(ask)).buffered(SIDE_BY_SIDE).collect().await
}

/// Asks every database of `databases:` which one it is, and its store for its newest backup.
pub async fn listed(backups: &Backups, environment: &str, resolver: &Resolver) -> Vec<Listed> {
    let ask = |database: &Database| {
        let database = database.clone();
        async move {
            let (identity, newest) = tokio::join!(
                identity(&database.connection, resolver),
                newest(&database, environment, resolver)
            );
            Listed {
                name: database.name,
                connection: database.connection,
                expected_every: database.expected_every,
                identity: identity.map_err(|error| classify(&error).what),
                newest: newest.map_err(|error| classify(&error).what),
            }
        }
    };
    stream::iter(backups.databases.iter().map(ask)).buffered(SIDE_BY_SIDE).collect().await
}

async fn open(id: &str, resolver: &Resolver) -> Result<Session> {
    let options = SessionOptions::named(concat!("sankofa/", env!("CARGO_PKG_VERSION"), " coverage"))
        .set("default_transaction_read_only", "on")
        .set("search_path", "")
        .set("statement_timeout", "60s");
    connect(&resolver.connection(id).await?, &options).await
}

async fn databases(id: &str, resolver: &Resolver) -> Result<(String, Vec<Found>)> {
    let session = open(id, resolver).await?;
    let rows = session.client.query(DATABASES, &[]).await;
    let rows = rows.map_err(|error| session.failure(error, &format!("cannot list the databases of {id}")))?;
    let mut identity = String::new();
    let mut all = Vec::new();
    for row in rows {
        let (template, open, invalid): (bool, bool, bool) =
            (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        let exempt = match () {
            () if template => Some("a template"),
            () if invalid => Some("left by a DROP DATABASE that was interrupted"),
            () if !open => Some("closed to connections (datallowconn = false)"),
            () => None,
        };
        identity = row.try_get(6)?;
        all.push(Found { name: row.try_get(0)?, oid: row.try_get(1)?, exempt, may_connect: row.try_get(5)? });
    }
    session.close().await;
    Ok((identity, all))
}

async fn identity(id: &str, resolver: &Resolver) -> Result<(super::Identity, String)> {
    let session = open(id, resolver).await?;
    let row = session.client.query_one(IDENTITY, &[]).await;
    let row = row.map_err(|error| session.failure(error, &format!("cannot tell the database of {id}")))?;
    let told = ((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    session.close().await;
    Ok(told)
}

async fn newest(database: &Database, environment: &str, resolver: &Resolver) -> Result<Option<Newest>> {
    let store = stores::open(&database.place, None, resolver).await?;
    let home = names::home(Kind::Database, &database.name);
    let inventory = inventory::take(store.as_ref(), &home, environment)
        .await
        .with_context(|| format!("cannot look for backups of {}", database.name))?;
    Ok(newest_of(&inventory, &home))
}

/// The newest good backup under `home`: the one whose more pessimistic time is the latest.
fn newest_of(inventory: &Inventory, home: &str) -> Option<Newest> {
    let good = inventory.of(home).filter(|backup| backup.is_good()).map(|backup| Newest {
        started_at: backup.manifest.started_at,
        stored_at: backup.stored_at,
        source: backup
            .manifest
            .source
            .database_oid
            .map(|oid| (backup.manifest.source.system_identifier.clone(), oid)),
    });
    good.max_by_key(Newest::at)
}
