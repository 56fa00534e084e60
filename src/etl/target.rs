//! Opens the warehouse for one run: the ledger, the lock, the sessions that write.
//!
//! In:    a connection, the pipeline.
//! Out:   a [`Target`]: one session that holds the lock and publishes, others that copy.
//! Holds: nothing is written before the lock is held; a standby or a read-only warehouse is said at once.

use crate::config::model::Warehouse;
use crate::error::Failure;
use crate::etl::types::Sides;
use crate::ledger::{self, lock, setup};
use crate::pg::{Session, SessionOptions, connect};
use crate::secret::Connection;
use crate::table::quote;
use anyhow::Result;

/// The warehouse of one run.
pub struct Target {
    /// Holds the pipeline's lock, and publishes.
    pub publisher: Session,
    /// Records what became of the run, whatever state the publisher is in; copies rows too.
    pub second: Session,
}

/// How a warehouse is opened.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// Its settings.
    pub warehouse: &'a Warehouse,
    /// Name of the environment.
    pub environment: &'a str,
    /// The pipeline whose lock is taken.
    pub pipeline: &'a str,
    /// Shown in `pg_stat_activity`: says who holds the lock.
    pub application_name: &'a str,
    /// Whoever holds the lock is ended.
    pub take_over: bool,
}

/// Opens the warehouse, makes sure of its ledger, and takes the pipeline's lock.
///
/// # Errors
/// 75 unreachable, in recovery, or locked; 77 without a right; 78 for another environment or a pooler.
pub async fn open(connection: &Connection, opening: &Opening<'_>) -> Result<Target> {
    let publisher = session(connection, opening, None).await?;
    refuse_unwritable(&publisher)?;
    publisher.set(&lock::settings(publisher.major())).await?;
    let second = session(connection, opening, Some(&publisher)).await?;
    let found = ledger::look(&publisher.client).await?;
    if found.version > 0 {
        // Before the lock: it is not another environment's to wait for, let alone to take over.
        ledger::check(&found, opening.environment)?;
    }
    lock::of(opening.pipeline).by(opening.environment).take(&publisher, &second, opening.take_over).await?;
    ledger::open(&publisher.client, opening.environment).await?;
    if let Some(reader) = &opening.warehouse.reader_role {
        setup::admit(&publisher.client, reader).await?;
    }
    Ok(Target { publisher, second })
}

/// One more session on the same server, for copying; `encoding` is that of the rows it gets.
///
/// # Errors
/// As [`open`].
pub async fn writer(
    connection: &Connection,
    opening: &Opening<'_>,
    of: &Target,
    encoding: Option<&str>,
) -> Result<Session> {
    let session = session(connection, opening, Some(&of.publisher)).await?;
    if let Some(encoding) = encoding {
        session.set(&[("client_encoding".to_owned(), encoding.to_owned())]).await?;
    }
    Ok(session)
}

/// A session that only looks: no lock, no ledger of its own making.
///
/// # Errors
/// As [`open`].
pub async fn look(connection: &Connection, warehouse: &Warehouse, application_name: &str) -> Result<Session> {
    let options = settings(application_name).set("default_transaction_read_only", "on");
    let session = connect(connection, &options).await?;
    act_as_owner(&session, warehouse).await?;
    Ok(session)
}

/// A session that writes to the ledger without a pipeline; with `dry_run` it cannot.
///
/// # Errors
/// As [`open`].
pub async fn acting(
    connection: &Connection,
    warehouse: &Warehouse,
    application_name: &str,
    dry_run: bool,
) -> Result<Session> {
    if dry_run {
        return look(connection, warehouse, application_name).await;
    }
    let session = bare(connection, application_name).await?;
    session.set(&lock::settings(session.major())).await?;
    act_as_owner(&session, warehouse).await?;
    Ok(session)
}

/// A session as whoever logs in, that may write once it was found that it can.
///
/// # Errors
/// As [`open`].
pub async fn bare(connection: &Connection, application_name: &str) -> Result<Session> {
    let session = connect(connection, &settings(application_name)).await?;
    refuse_unwritable(&session)?;
    Ok(session)
}

fn settings(application_name: &str) -> SessionOptions {
    SessionOptions::named(application_name)
        .set("client_encoding", "UTF8")
        .set("DateStyle", "ISO, YMD")
        .set("IntervalStyle", "postgres")
        .set("TimeZone", "UTC")
        .set("search_path", "")
        .set("default_transaction_isolation", "read committed")
        .set("array_nulls", "on")
        .set("bytea_output", "hex")
        .set("extra_float_digits", "1")
        .set("quote_all_identifiers", "off")
        .set("xmloption", "content")
        .set("statement_timeout", "0")
}

async fn act_as_owner(session: &Session, warehouse: &Warehouse) -> Result<()> {
    let Some(owner) = &warehouse.owner_role else { return Ok(()) };
    let cannot = format!("cannot act as the warehouse's owner_role {owner}");
    let done = session.client.batch_execute(&format!("SET ROLE {}", quote(owner))).await;
    done.map_err(|error| session.failure(error, &cannot))
}

async fn session(
    connection: &Connection,
    opening: &Opening<'_>,
    beside: Option<&Session>,
) -> Result<Session> {
    let mut options = settings(opening.application_name);
    if let Some(first) = beside {
        options = options.pinned(&first.endpoint);
    }
    let session = connect(connection, &options).await?;
    act_as_owner(&session, opening.warehouse).await?;
    Ok(session)
}

/// Refuses a standby, and a server whose transactions are read only.
///
/// # Errors
/// 75 in recovery; 78 read only.
pub fn refuse_unwritable(session: &Session) -> Result<(), Failure> {
    if session.in_recovery {
        return Err(Failure::temporary(
            "cannot write to the warehouse: the server is in recovery (a standby)",
        )
        .hint(
            "Point the connection at the primary, or name all hosts with target_session_attrs=read-write.",
        ));
    }
    if session.read_only {
        return Err(Failure::config("cannot write to the warehouse: its transactions are read only")
            .hint("See default_transaction_read_only of the role, the database and the server."));
    }
    Ok(())
}

/// What source and warehouse can do.
///
/// # Errors
/// As the server fails.
pub async fn sides(session: &Session, source_major: u32) -> Result<Sides> {
    let query = "SELECT e.extname::text, t.typname::text,
            pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname)
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND e.oid = d.refobjid
        JOIN pg_catalog.pg_type t ON d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE d.deptype = 'e'";
    let rows = session
        .client
        .query(query, &[])
        .await
        .map_err(|error| session.failure(error, "cannot see the warehouse's extensions"))?;
    let warehouse_xml = session.client.simple_query("SELECT '<a/>'::xml").await.is_ok();
    Ok(Sides {
        source_major,
        warehouse_major: session.major(),
        warehouse_xml,
        warehouse_types: rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect(),
    })
}
