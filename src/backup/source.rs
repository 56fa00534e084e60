//! A database that is about to be dumped: locked against a second backup, and described.
//!
//! In:    its connection, the backup's name.
//! Out:   a [`Source`]: where the dump goes, under which settings, what the manifest says of it.
//! Holds: one backup of a name at a time; the server is the very one that is dumped; the settings that
//!        shape the text of rows were seen to be in force in a session that asked for them as
//!        pg_dump will.
//! Not here: the dump (`dump`).

use crate::backup::manifest;
use crate::error::Failure;
use crate::pg::child::Ended;
use crate::pg::lock::{self, Lock};
use crate::pg::tool::{ToolSession, options_text};
use crate::pg::{ConnectParams, Session, SessionOptions, connect, public};
use crate::secret::Connection;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;

/// How a source is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Name of the backup.
    pub database: &'a str,
    /// Name of the environment.
    pub environment: &'a str,
    /// Shown in `pg_stat_activity`: says who holds the lock.
    pub application_name: &'a str,
    /// Whoever holds the lock is ended.
    pub take_over: bool,
    /// Nothing is locked: only looked at.
    pub look_only: bool,
}

/// A database, held for one backup.
pub struct Source {
    /// The connection.
    pub params: ConnectParams,
    /// What the manifest says of it; the version of pg_dump is not known yet.
    pub facts: manifest::Source,
    /// Encoding of the dump.
    pub encoding: &'static str,
    /// Settings that shape the text of rows.
    pub settings: Vec<(String, String)>,
    /// What a person should know.
    pub warnings: Vec<String>,
    application_name: String,
    database: String,
    holder: Session,
}

/// Settings that pg_dump leaves to the role, the database and the server, and that change a row's text.
const PINNED: &[(&str, &str)] = &[("bytea_output", "hex"), ("lc_monetary", "C"), ("TimeZone", "UTC")];

/// How often the session that holds the lock is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Opens the database of `connection` and takes the lock of its backup.
///
/// # Errors
/// 75 unreachable, or locked, naming the holder; 77 login refused or a right missing; 78 for a
/// transaction pooler, one that drops settings, or a lock that another environment holds.
pub async fn open(connection: &Connection, opening: &Opening<'_>) -> Result<Source> {
    let params = ConnectParams::of(connection)?;
    let settings: Vec<(String, String)> =
        PINNED.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut pinned = connection.clone();
    let options = options_text(params.options.as_deref(), &settings);
    pinned.extra.insert("options".into(), Value::String(options));
    let how = SessionOptions::named(opening.application_name).set("client_encoding", "UTF8");
    let holder = connect(&pinned, &how).await?;
    holder.set(&lock::settings(holder.major())).await?;
    check_settings(&holder, &settings).await?;
    let second = connect(&pinned, &how.pinned(&holder.endpoint)).await?;
    let place = format!("database {}", opening.database);
    let verb = format!("back up {}", opening.database);
    let lock = Lock::new(&format!("backup {}", opening.database), verb, &place).by(opening.environment);
    match opening.look_only {
        true => lock::refuse_pooler(&holder.client, &second.client, &place).await?,
        false => lock.take(&holder, &second, opening.take_over).await?,
    }
    second.close().await;
    let mut warnings = Vec::new();
    let facts = describe(&holder, &mut warnings).await?;
    let encoding = encoding(&facts.encoding);
    Ok(Source {
        params: ConnectParams::of(connection)?, // the password may have been asked for anew meanwhile
        facts,
        encoding,
        settings,
        warnings,
        application_name: opening.application_name.to_owned(),
        database: opening.database.to_owned(),
        holder,
    })
}

impl Source {
    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.holder.major()
    }

    /// How PostgreSQL's programs reach it.
    pub fn session(&self) -> ToolSession<'_> {
        ToolSession {
            params: &self.params,
            at: &self.holder.endpoint,
            application_name: &self.application_name,
            settings: &self.settings,
        }
    }

    /// Waits until the session that holds the lock has ended: another run has taken over, or the
    /// server is gone.
    pub async fn lost(&self) -> Failure {
        while !self.holder.client.is_closed() {
            tokio::time::sleep(WATCH_EVERY).await;
        }
        self.gone("the session that holds its lock was ended")
    }

    /// Makes sure that the lock is held still.
    ///
    /// # Errors
    /// 75 if it is not.
    pub async fn still_held(&self) -> Result<()> {
        let asked = self.holder.client.batch_execute("SELECT 1");
        match tokio::time::timeout(Duration::from_secs(10), asked).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.gone("the session that holds its lock does not answer").into()),
        }
    }

    fn gone(&self, why: &str) -> Failure {
        Failure::temporary(format!("cannot back up {}: {why}", self.database))
            .hint("Another run may have taken over, or the server was restarted; the next run starts anew.")
    }

    /// Why a program failed; `None` if it did not.
    ///
    /// A server that answers in another language is not understood, so a lost server is told here.
    pub fn failure_of(&self, ended: &Ended, cannot: &str) -> Option<Failure> {
        let failure = ended.failure(cannot)?;
        let is_known = failure.kind != crate::error::Kind::Unclassified;
        Some(if is_known || !self.holder.client.is_closed() {
            failure
        } else {
            self.gone("the server is gone")
        })
    }

    /// Gives the lock back.
    pub async fn close(self) {
        self.holder.close().await;
    }
}

/// UTF8 whatever the database has: it can be restored into any. Where no conversion exists, its own.
fn encoding(of_database: &str) -> &'static str {
    match of_database {
        "SQL_ASCII" => "SQL_ASCII",
        "MULE_INTERNAL" => "MULE_INTERNAL",
        _ => "UTF8",
    }
}

/// A pooler may drop what was asked for at the start of a session.
async fn check_settings(session: &Session, settings: &[(String, String)]) -> Result<()> {
    for (name, wanted) in settings {
        let row = session.client.query_one("SELECT current_setting($1)", &[name]).await;
        let row =
            row.map_err(|error| session.failure(error, &format!("cannot see {name} of the session")))?;
        let is: String = row.get(0);
        if is != *wanted {
            return Err(Failure::config(format!("cannot dump with {name}={wanted}: the session has {is}"))
                .hint("A pooler drops start-up options: give the connection the server's own host and port.")
                .into());
        }
    }
    Ok(())
}

const FACTS: &str = "SELECT d.oid, pg_catalog.pg_encoding_to_char(d.encoding)::text,
    pg_catalog.current_setting('server_version'), pg_catalog.pg_database_size(d.oid)
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
const IDENTIFIER: &str = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";

async fn describe(session: &Session, warnings: &mut Vec<String>) -> Result<manifest::Source> {
    let cannot = "cannot describe the database";
    let row = session.client.query_one(FACTS, &[]).await.map_err(|error| session.failure(error, cannot))?;
    let (oid, encoding, version, bytes): (u32, String, String, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let system_identifier = match session.client.query_one(IDENTIFIER, &[]).await {
        Ok(row) => row.get(0),
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => {
            warnings.push(format!(
                "the server's identity could not be read ({}): restore cannot tell whether it would restore over \
                 the source; GRANT EXECUTE ON FUNCTION pg_control_system() TO {} mends it",
                public::cause(&error).what,
                "<role>"
            ));
            String::new()
        }
        Err(error) => return Err(session.failure(error, cannot)),
    };
    Ok(manifest::Source {
        system_identifier,
        database_oid: Some(oid),
        server_version: version.split_whitespace().next().unwrap_or_default().to_owned(),
        pg_dump_version: String::new(),
        encoding,
        database_bytes: u64::try_from(bytes).unwrap_or(0),
        standby: session.in_recovery,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_utf8_unless_there_is_no_conversion() {
        assert_eq!(
            [encoding("LATIN1"), encoding("UTF8"), encoding("SQL_ASCII")],
            ["UTF8", "UTF8", "SQL_ASCII"]
        );
    }
}
