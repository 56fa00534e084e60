//! One run of something at a time: a session lock on a server.
//!
//! In:    the session that will hold it, and a second one.
//! Out:   the lock, or who holds it.
//! Holds: the lock lives and dies with the session; a server that loses us frees it within 60 s
//!        (keepalives; `client_connection_check_interval` from 14 on); a transaction pooler, under
//!        which a session lock means nothing, is found out and refused; what another environment holds
//!        is neither waited for nor taken over.
//! Not here: what is locked (`ledger::lock`, `backup::source`).

use super::{Session, public};
use crate::error::Failure;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::Client;

/// A lock, by what it keeps apart.
#[derive(Clone, Debug)]
pub struct Lock {
    /// Its number on the server, in the database of the session.
    number: i64,
    /// What cannot be done while another holds it, such as `run hr`.
    verb: String,
    /// Where it is, for messages: `the warehouse`.
    place: String,
    /// The environment that takes it; `None`: nobody says.
    environment: Option<String>,
}

/// First key of the locks by which a session tells its environment. Locks of two keys are apart from
/// those of one.
const ENVIRONMENT: i32 = 0x53_6e_6b_66;

impl Lock {
    /// The lock called `name`, such as `pipeline hr`; see [`Lock`] for `verb` and `place`.
    pub fn new(name: &str, verb: impl Into<String>, place: impl Into<String>) -> Self {
        let digest = Sha256::digest(format!("sankofa {name}"));
        let number = digest.first_chunk::<8>().map_or(0, |head| i64::from_be_bytes(*head));
        Lock { number, verb: verb.into(), place: place.into(), environment: None }
    }

    /// The same, taken by this environment: what another one holds is 78.
    #[must_use]
    pub fn by(self, environment: &str) -> Self {
        Lock { environment: Some(environment.to_owned()), ..self }
    }

    /// Its number, as `pg_advisory_lock` takes it.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// Takes it in `holder`; with `take_over`, ends whoever holds it first.
    ///
    /// # Errors
    /// 75 naming the holder; 78 behind a transaction pooler, or when another environment holds it; 77
    /// when the holder may not be ended.
    pub async fn take(&self, holder: &Session, other: &Session, take_over: bool) -> Result<()> {
        refuse_pooler(&holder.client, &other.client, &self.place).await?;
        self.tell_environment(&holder.client).await?;
        if self.try_take(&holder.client).await? {
            return Ok(());
        }
        self.refuse_other_environment(&holder.client).await?;
        if take_over {
            self.end_holder(&holder.client).await?;
            for _ in 0..50 {
                if self.try_take(&holder.client).await? {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let who = self.describe_holder(&holder.client).await?;
        Err(Failure::temporary(format!("cannot {}: another run holds its lock: {who}", self.verb))
            .hint("Wait for it, or end it with `--take-over` if it is an orphan.")
            .into())
    }

    /// Takes it if it is free.
    ///
    /// # Errors
    /// As [`public::failure`].
    pub async fn try_take(&self, client: &Client) -> Result<bool> {
        let row = client
            .query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&self.number])
            .await
            .map_err(|error| public::failure(error, "cannot take the lock"))?;
        Ok(row.get(0))
    }

    /// Lets others see whose this session is.
    async fn tell_environment(&self, client: &Client) -> Result<()> {
        let Some(environment) = &self.environment else { return Ok(()) };
        let sql = "SELECT pg_catalog.pg_try_advisory_lock_shared($1, $2)";
        let told = client.query_one(sql, &[&ENVIRONMENT, &number_of(environment)]).await;
        told.map(drop).map_err(|error| public::failure(error, "cannot tell the environment of the lock"))
    }

    async fn refuse_other_environment(&self, client: &Client) -> Result<()> {
        let Some(environment) = &self.environment else { return Ok(()) };
        let query = format!(
            "SELECT EXISTS (SELECT {MARK} AND e.objid::int8 <> ($3::int4)::int8 & 4294967295)
                AND NOT EXISTS (SELECT {MARK} AND e.objid::int8 = ($3::int4)::int8 & 4294967295)"
        );
        let row = client.query_one(&query, &[&self.number, &ENVIRONMENT, &number_of(environment)]).await;
        let is_other: bool = row
            .map_err(|error| public::failure(error, "cannot see which environment holds the lock"))?
            .get(0);
        if !is_other {
            return Ok(());
        }
        let (verb, who) = (&self.verb, self.describe_holder(client).await?);
        let what =
            format!("cannot {verb}: a run of another environment than {environment:?} holds its lock: {who}");
        Err(Failure::config(what)
            .hint("Check `--env` and the connection: what one environment works on is not another's to wait for.")
            .into())
    }

    async fn describe_holder(&self, client: &Client) -> Result<String> {
        let query = format!(
            "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unknown program'),
                    coalesce(a.client_addr::text, 'local'), coalesce(extract(epoch FROM now() - a.backend_start)::int8, 0)
             FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) WHERE {HELD}"
        );
        let row = client
            .query_opt(&query, &[&self.number])
            .await
            .map_err(|error| public::failure(error, "cannot see who holds the lock"))?;
        Ok(row.map_or("it has just ended".to_owned(), |row| {
            let (pid, program, from, seconds): (i32, String, String, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            format!("{program}, server process {pid}, from {from}, for {seconds} s")
        }))
    }

    async fn end_holder(&self, client: &Client) -> Result<()> {
        let query = format!(
            "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks l
             WHERE {HELD} AND l.pid <> pg_catalog.pg_backend_pid()"
        );
        client
            .query(&query, &[&self.number])
            .await
            .map(drop)
            .map_err(|error| public::failure(error, "cannot end the run that holds the lock"))
    }
}

/// Settings of the session that holds a lock, for a server of `major`.
pub fn settings(major: u32) -> Vec<(String, String)> {
    let mut settings = vec![
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "5"),
        ("tcp_user_timeout", "40000"),
        ("idle_in_transaction_session_timeout", "0"),
    ];
    if major >= 14 {
        settings.push(("client_connection_check_interval", "10s"));
        settings.push(("idle_session_timeout", "0"));
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Two live sessions have two server processes; behind a transaction pooler an idle one lends its
/// process to the next that asks.
///
/// # Errors
/// 78 behind a transaction pooler; as [`public::failure`].
pub async fn refuse_pooler(holder: &Client, other: &Client, place: &str) -> Result<()> {
    let cannot = format!("cannot tell whether a pooler stands before {place}");
    let ask = "SELECT pg_catalog.pg_backend_pid()";
    let pid = async |client: &Client| -> Result<i32> {
        let asked = tokio::time::timeout(Duration::from_secs(10), client.query_one(ask, &[])).await;
        match asked {
            Ok(row) => Ok(row.map_err(|error| public::failure(error, &cannot))?.get(0)),
            Err(_) => Ok(-1),
        }
    };
    let before = pid(holder).await?;
    other.batch_execute("BEGIN").await.map_err(|error| public::failure(error, &cannot))?;
    let lent = pid(other).await?;
    let after = if lent == before { before } else { pid(holder).await? };
    other.batch_execute("ROLLBACK").await.map_err(|error| public::failure(error, &cannot))?;
    if lent == before || after != before {
        return Err(Failure::config(format!("cannot use {place}: a transaction pooler stands before it"))
            .hint("Give the connection the server's own host and port: locks belong to a session.")
            .into());
    }
    Ok(())
}

/// The number of an environment, as the second key of its locks.
fn number_of(environment: &str) -> i32 {
    let digest = Sha256::digest(format!("sankofa environment {environment}"));
    digest.first_chunk::<4>().map_or(0, |head| i32::from_be_bytes(*head))
}

/// Locks that tell the environment of whoever holds lock `$1`; `$2` is their first key.
const MARK: &str = "FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_locks e USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_catalog.pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND (l.classid::int8 << 32 | l.objid::int8) = $1::int8
      AND e.locktype = 'advisory' AND e.granted AND e.objsubid = 2 AND e.database = l.database
      AND e.classid::int8 = ($2::int4)::int8";

/// The condition under which a row of `pg_locks` is the lock numbered `$1` of this database.
const HELD: &str = "l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND (l.classid::int8 << 32 | l.objid::int8) = $1::int8";
