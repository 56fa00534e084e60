//! The server and the database that a restore goes to, looked at.
//!
//! In:    a connection, the database's name there.
//! Out:   [`Target`]: a session on the server, what the server has, whether the database is there,
//!        empty, marked, the source itself.
//! Holds: nothing is written here.
//! Not here: making, marking and naming databases (`place`), what an archive needs (`needs`).

use super::place::Marker;
use crate::error::Failure;
use crate::pg::connect::{SessionOptions, connect};
use crate::pg::params::ConnectParams;
use crate::pg::{Session, public};
use crate::secret::Connection;
use anyhow::Result;
use tokio_postgres::Client;

/// What our sessions are called in `pg_stat_activity`.
pub const APPLICATION: &str = "sankofa restore";

/// Databases that are there to log in to, not to restore into.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// Where a restore goes.
pub struct Target {
    /// The connection as it was given.
    pub connection: Connection,
    /// A session on the server, in another database than the one restored into where that can be.
    pub session: Session,
    /// Name of the database that is to be there in the end.
    pub name: String,
    /// `system_identifier` of the cluster.
    pub system_identifier: String,
    /// The database of that name, if there is one.
    pub existing: Option<Existing>,
}

/// A database that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Its OID.
    pub oid: u32,
    /// How many relations, routines, types and large objects are in it that no extension owns.
    pub objects: i64,
    /// Its comment, when that is not a marker.
    pub comment: Option<String>,
    /// The mark of a restore that was not finished.
    pub marker: Option<Marker>,
    /// Encoding.
    pub encoding: String,
}

impl Target {
    /// Looks at the server of `connection`, and at database `name` there; without a name, at the
    /// connection's own unless that is `postgres` or `template1`, else at `fallback`.
    ///
    /// # Errors
    /// As [`connect`]; 78 on a standby.
    pub async fn look(connection: &Connection, name: Option<&str>, fallback: &str) -> Result<Target> {
        let own = ConnectParams::of(connection)?.database;
        let own = Some(own).filter(|own| !MAINTENANCE.contains(&own.as_str()));
        let name = name.map(str::to_owned).or(own).unwrap_or_else(|| fallback.to_owned());
        let session = maintenance(connection, &name).await?;
        if session.in_recovery {
            let what = format!("cannot restore into {}: the server is a standby", connection.id);
            return Err(Failure::config(what).hint("Restore into its primary.").into());
        }
        let system_identifier =
            text(&session, "SELECT system_identifier::text FROM pg_control_system()").await?;
        let mut target =
            Target { connection: connection.clone(), session, name, system_identifier, existing: None };
        target.existing = target.look_at_database().await?;
        Ok(target)
    }

    /// How messages call it: `hr on drill_server`.
    pub fn place(&self) -> String {
        format!("{} on {}", self.name, self.connection.id)
    }

    /// The connection to database `name` of this server.
    pub fn connection_to(&self, name: &str) -> Connection {
        to_database(&self.connection, name)
    }

    /// A session in database `name`, on the very server that was looked at.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn session_in(&self, name: &str) -> Result<Session> {
        let options = SessionOptions::named(APPLICATION).pinned(&self.session.endpoint);
        connect(&self.connection_to(name), &options).await
    }

    /// Whether the database is the very one that `source` was dumped from.
    pub fn is_source(&self, source: &crate::backup::manifest::Source) -> bool {
        let oid = self.existing.as_ref().map(|existing| existing.oid);
        source.system_identifier == self.system_identifier && oid.is_some() && source.database_oid == oid
    }

    async fn look_at_database(&self) -> Result<Option<Existing>> {
        let sql = "SELECT oid, pg_catalog.shobj_description(oid, 'pg_database'), \
                   pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = $1";
        let client = &self.session.client;
        let row = client.query_opt(sql, &[&self.name]).await.map_err(|error| self.cannot_look(error))?;
        let Some(row) = row else { return Ok(None) };
        let comment: Option<String> = row.get(1);
        let marker = comment.as_deref().and_then(Marker::read);
        let inside = self.session_in(&self.name).await?;
        let objects = objects(&inside.client).await.map_err(|error| self.cannot_look(error))?;
        inside.close().await;
        let comment = comment.filter(|_| marker.is_none());
        Ok(Some(Existing { oid: row.get(0), objects, comment, marker, encoding: row.get(2) }))
    }

    fn cannot_look(&self, error: tokio_postgres::Error) -> anyhow::Error {
        self.session.failure(error, &format!("cannot look at database {}", self.place()))
    }
}

/// `connection` with another database.
pub fn to_database(connection: &Connection, name: &str) -> Connection {
    let mut other = connection.clone();
    other.extra.remove("dbname"); // it would win over the schema
    other.schema = Some(name.to_owned());
    other
}

/// A session in the connection's own database, or in one that every server has where that one is
/// not there or is the one that is to be renamed.
async fn maintenance(connection: &Connection, name: &str) -> Result<Session> {
    let options = SessionOptions::named(APPLICATION);
    let own = ConnectParams::of(connection)?.database;
    let mut first = None;
    let others = MAINTENANCE.iter().copied().filter(|other| *other != own);
    for database in std::iter::once(own.as_str()).filter(|own| *own != name).chain(others) {
        match connect(&to_database(connection, database), &options).await {
            Ok(session) => return Ok(session),
            Err(error) if !may_be_elsewhere(&error) => return Err(error),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    // No other database lets us in: the one itself has to do.
    match connect(connection, &options).await {
        Err(_) if first.is_some() => Err(first.unwrap_or_else(|| Failure::temporary("no database").into())),
        other => other,
    }
}

/// No such database, no right to connect, no rule in `pg_hba.conf`.
fn may_be_elsewhere(error: &anyhow::Error) -> bool {
    public::sqlstate(error).is_some_and(|code| ["3D000", "42501", "28000", "55000"].contains(&code.as_str()))
}

async fn text(session: &Session, sql: &str) -> Result<String> {
    let found = session.client.query_one(sql, &[]).await;
    let row = found.map_err(|error| {
        session.failure(error, &format!("cannot look at the server of {}", session.connection_id()))
    })?;
    Ok(row.get(0))
}

/// Everything that a restore could meet in its way, but for what extensions own.
const OBJECTS: &str = "
WITH owned AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
spaces AS (SELECT oid FROM pg_catalog.pg_namespace
           WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema')
SELECT (SELECT count(*) FROM pg_catalog.pg_class c WHERE relnamespace IN (SELECT oid FROM spaces)
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_class'::regclass AND objid = c.oid))
     + (SELECT count(*) FROM pg_catalog.pg_proc p WHERE pronamespace IN (SELECT oid FROM spaces)
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_proc'::regclass AND objid = p.oid))
     + (SELECT count(*) FROM pg_catalog.pg_type t WHERE typnamespace IN (SELECT oid FROM spaces) AND typelem = 0
            AND (typrelid = 0 OR typrelid IN (SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'c'))
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_type'::regclass AND objid = t.oid))
     + (SELECT count(*) FROM pg_catalog.pg_namespace n WHERE oid IN (SELECT oid FROM spaces) AND nspname <> 'public'
            AND NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_namespace'::regclass AND objid = n.oid))
     + (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata)
     + (SELECT count(*) FROM pg_catalog.pg_event_trigger e
            WHERE NOT EXISTS (SELECT FROM owned WHERE classid = 'pg_event_trigger'::regclass AND objid = e.oid))
     + (SELECT count(*) FROM pg_catalog.pg_publication)";

/// How many objects of its own the database of `client` has.
///
/// # Errors
/// The server's.
pub async fn objects(client: &Client) -> Result<i64, tokio_postgres::Error> {
    Ok(client.query_one(OBJECTS, &[]).await?.get(0))
}
