//! Schema `sankofa` of the warehouse: what was run, how far each table is, what was agreed on.
//!
//! In:    a warehouse session; the environment's name.
//! Out:   runs, table states and check figures, read and written in the caller's transaction.
//! Holds: the schema carries its version; migrations are numbered, forward only, in one transaction
//!        under a lock; a warehouse of another environment is refused.
//! Not here: what a watermark means (`etl::window`).

pub mod checks;
pub mod history;
pub mod lock;
pub mod notices;
pub mod overrides;
pub mod overview;
pub mod records;
pub mod run;
pub mod setup;
pub mod state;

use crate::error::Failure;
use crate::pg::public;
use crate::table::{literal, quote};
use anyhow::Result;
use tokio_postgres::Client;

/// All migrations, in order: the schema's version is their number.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
];
/// Oldest binary that may use the newest schema.
const MIN_BINARY: &str = "0.1.0";
/// The views that a reader may see: none of them names a person.
pub const VIEWS: &[&str] =
    &["runs", "tables", "watermarks", "contracts", "checks", "freshness", "backups", "drills", "coverage"];
/// Schema of rows on their way.
pub const STAGING_SCHEMA: &str = "sankofa_stage";

/// Version of schema `sankofa` that this binary writes.
pub fn version() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// What was found in a warehouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Version of its schema `sankofa`; 0: there is none.
    pub version: i32,
    /// The oldest binary that may use it.
    pub min_binary: String,
    /// The environment it belongs to.
    pub environment: String,
}

/// What schema `sankofa` says of itself.
///
/// # Errors
/// As [`public::failure`].
pub async fn look(client: &Client) -> Result<Found> {
    let there = "SELECT pg_catalog.to_regclass('sankofa.meta') IS NOT NULL";
    let ask = "SELECT schema_version, min_binary, environment FROM sankofa.meta";
    let cannot = "cannot read schema sankofa of the warehouse";
    let exists: bool =
        client.query_one(there, &[]).await.map_err(|error| public::failure(error, cannot))?.get(0);
    if !exists {
        return Ok(Found { version: 0, min_binary: String::new(), environment: String::new() });
    }
    let row = client.query_one(ask, &[]).await.map_err(|error| public::failure(error, cannot))?;
    Ok(Found { version: row.get(0), min_binary: row.get(1), environment: row.get(2) })
}

/// Makes sure that the ledger is there, of this version and of this environment.
///
/// A warehouse without one gets it; an older one is refused until `sankofa warehouse upgrade`.
///
/// # Errors
/// 78 for another environment, an older schema, or a schema that needs a newer binary.
pub async fn open(client: &Client, environment: &str) -> Result<()> {
    let found = look(client).await?;
    if found.version == 0 {
        upgrade(client, environment, None).await?;
        return Ok(());
    }
    Ok(refuse(&found, environment)?)
}

/// Sees once more, in the transaction that publishes, that this binary may write here: somebody may
/// have upgraded the schema since the run began. An upgrade waits until this transaction ends.
///
/// # Errors
/// 78 when it needs a newer binary by now; as [`look`].
pub async fn hold(client: &Client) -> Result<()> {
    let found = look(client).await?;
    Ok(check(&found, &found.environment)?)
}

/// Refuses a ledger that is there and that this binary cannot use as it is.
///
/// # Errors
/// As [`check`], and 78 for an older schema.
pub fn refuse(found: &Found, environment: &str) -> Result<(), Failure> {
    check(found, environment)?;
    if found.version < version() {
        return Err(Failure::config(format!(
            "cannot use the warehouse: its schema sankofa has version {}, this binary needs {}",
            found.version,
            version()
        ))
        .hint("Run `sankofa warehouse upgrade` with the role that owns it."));
    }
    Ok(())
}

/// Refuses a ledger of another environment, or one that this binary is too old for.
///
/// # Errors
/// 78, with what to do.
pub fn check(found: &Found, environment: &str) -> Result<(), Failure> {
    if found.environment != environment {
        return Err(Failure::config(format!(
            "cannot use the warehouse: it belongs to environment {:?}, this run is of {environment:?}",
            found.environment
        ))
        .hint("Check `--env` and the warehouse connection: two environments never share one warehouse."));
    }
    let ours = env!("CARGO_PKG_VERSION");
    if numbers(ours) < numbers(&found.min_binary) {
        return Err(Failure::config(format!(
            "cannot use the warehouse: its schema sankofa needs sankofa {} or newer, this is {ours}",
            found.min_binary
        ))
        .hint("Upgrade this binary (or image) first."));
    }
    Ok(())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

/// Brings schema `sankofa` to this binary's version: (version before, version after).
///
/// One transaction under an advisory lock; `owner` makes and owns everything, if given.
///
/// # Errors
/// As [`check`], and as [`public::failure`].
pub async fn upgrade(client: &Client, environment: &str, owner: Option<&str>) -> Result<(i32, i32)> {
    let cannot = "cannot set up schema sankofa in the warehouse";
    let run =
        async |sql: &str| client.batch_execute(sql).await.map_err(|error| public::failure(error, cannot));
    run("BEGIN; SET LOCAL lock_timeout = '30s'; SELECT pg_catalog.pg_advisory_xact_lock(7310293847561)")
        .await?;
    let outcome = async {
        if let Some(owner) = owner {
            run(&format!("SET LOCAL ROLE {}", quote(owner))).await?;
        }
        let found = look(client).await?;
        if found.version > 0 {
            check(&found, environment)?;
        }
        let done = usize::try_from(found.version).unwrap_or(0).min(MIGRATIONS.len());
        if (1..MIGRATIONS.len()).contains(&done) {
            // Who is publishing has read it in that transaction, and is waited for: see `hold`.
            run("LOCK TABLE sankofa.meta IN ACCESS EXCLUSIVE MODE").await?;
        }
        for migration in &MIGRATIONS[done..] {
            run(migration).await?;
        }
        if done < MIGRATIONS.len() {
            run(&format!(
                "INSERT INTO sankofa.meta (schema_version, min_binary, environment) VALUES ({0}, '{MIN_BINARY}', {1})
                 ON CONFLICT (only_row) DO UPDATE SET schema_version = {0}, min_binary = '{MIN_BINARY}'",
                version(),
                literal(environment)
            ))
            .await?;
        }
        Ok((found.version, version().max(found.version)))
    }
    .await;
    run(if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    outcome
}

/// Lets `reader` see the platform itself: the views, which name no person.
///
/// # Errors
/// As [`public::failure`].
pub async fn grant_reader(client: &Client, reader: &str) -> Result<()> {
    let reader = quote(reader);
    let views: Vec<String> = VIEWS.iter().map(|view| format!("sankofa.{view}")).collect();
    let sql = format!(
        "GRANT USAGE ON SCHEMA sankofa TO {reader}; GRANT SELECT ON {} TO {reader}",
        views.join(", ")
    );
    client.batch_execute(&sql).await.map_err(|error| {
        public::failure(error, &format!("cannot let {reader} read the views of schema sankofa"))
    })
}
