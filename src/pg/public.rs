//! What an operator may read of a PostgreSQL error, and what a scheduler makes of it.
//!
//! In:    any error of `tokio_postgres`.
//! Out:   a [`Failure`] with public text, its SQLSTATE kept beside it.
//! Holds: DETAIL, HINT and CONTEXT of the server are never shown, nor the message of classes
//!        22 and 23: they quote cell values ("Key (email)=(...)"). Works in any `lc_messages`.
//! Not here: what could not be done (the caller says `cannot ...`), retries.

use crate::error::{Failure, Kind};
use std::error::Error as _;
use std::fmt;
use std::io;
use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// What could not be done because of a server's answer; its source is the [`Failure`].
#[derive(Debug)]
pub struct ServerError {
    cannot: String,
    /// SQLSTATE; none if the server did not answer.
    pub code: Option<String>,
    failure: Failure,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cannot)
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

/// Turns `error` into a failure that reads `<cannot>: <public text>`.
///
/// In: `cannot` such as `cannot read hr.employees`.
/// Out: an error with a [`Failure`] of the right kind at its root, and [`sqlstate`] beside it.
pub fn failure(error: Error, cannot: &str) -> anyhow::Error {
    let code = error.code().map(|state| state.code().to_string());
    wrap(cannot, code, cause(&error))
}

/// As [`failure`] on a server in recovery, where "read only" (25006) ends with its promotion.
///
/// The server itself says so of some statements only: of others it tells the same as to a
/// session that was made read only (measured, 13 to 18).
pub(super) fn failure_on_standby(error: Error, cannot: &str) -> anyhow::Error {
    let code = error.code().map(|state| state.code().to_string());
    let mut failure = cause(&error);
    if code.as_deref() == Some("25006") {
        failure.kind = Kind::Temporary;
        failure.hint = Some(RECOVERY_HINT.into());
    }
    wrap(cannot, code, failure)
}

/// A failure with the SQLSTATE it came from.
pub(super) fn wrap(cannot: &str, code: Option<String>, failure: Failure) -> anyhow::Error {
    ServerError { cannot: cannot.to_string(), code, failure }.into()
}

/// The SQLSTATE under `error`, whatever context stands above it.
pub fn sqlstate(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<ServerError>()).and_then(|server| server.code.clone())
}

/// Kind, public text and hint of `error`, without what could not be done.
pub fn cause(error: &Error) -> Failure {
    if let Some(db) = error.as_db_error() {
        return db_cause(db);
    }
    match io_cause(error) {
        Some(io) if error.to_string() == CONNECTING => Failure::temporary(io_text(io)),
        Some(io) => Failure::temporary(format!("{error}: {}", io_text(io))),
        None if error.is_closed() => Failure::temporary("the server closed the connection"),
        // A conversion error may quote the value it choked on, so its source stays hidden.
        None => Failure::new(Kind::Unclassified, error.to_string()),
    }
}

// `tokio_postgres` keeps its kinds private, its words are all there is (0.7.18, `error/mod.rs`).
const CONNECTING: &str = "error connecting to server";
const NETWORK: &[&str] =
    &[CONNECTING, "error communicating with the server", "error performing TLS handshake"];

fn io_cause(error: &Error) -> Option<&io::Error> {
    // Errors of parsing and encoding carry an io::Error too, and are not the network's.
    let source = error.source()?.downcast_ref::<io::Error>()?;
    NETWORK.contains(&error.to_string().as_str()).then_some(source)
}

/// The system's own words for an I/O error, without its number.
pub(super) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.chars().take(1).flat_map(char::to_lowercase).chain(text.chars().skip(1)).collect()
}

/// What may be shown of a server error: SQLSTATE and message; for classes 22 and 23 SQLSTATE and place.
pub fn public_text(error: &DbError) -> String {
    let code = error.code().code();
    if !(code.starts_with("22") || code.starts_with("23")) {
        return format!("SQLSTATE {code}: {}", error.message());
    }
    let table = error.table().map(|table| match error.schema() {
        Some(schema) => format!("{schema}.{table}"),
        None => table.to_string(),
    });
    let rest = [error.column(), error.datatype(), error.constraint()].into_iter().flatten().map(String::from);
    let place = table.into_iter().chain(rest).collect::<Vec<_>>().join(", ");
    let meaning = DATA_ERRORS.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    match (meaning, place.is_empty()) {
        (Some(meaning), true) => format!("SQLSTATE {code}: {meaning}"),
        (Some(meaning), false) => format!("SQLSTATE {code}: {meaning} ({place})"),
        (None, true) => format!("SQLSTATE {code}"),
        (None, false) => format!("SQLSTATE {code} ({place})"),
    }
}

// What is said instead of the server's message. PostgreSQL manual, appendix A.
const DATA_ERRORS: &[(&str, &str)] = &[
    ("22001", "value too long"),
    ("22003", "number out of range"),
    ("22007", "invalid date or time"),
    ("22008", "date or time out of range"),
    ("22012", "division by zero"),
    ("22021", "bytes that are not valid in the encoding"),
    ("22023", "invalid parameter value"),
    ("22026", "bit string of another length"),
    ("22030", "duplicate key in JSON"),
    ("22032", "invalid JSON"),
    ("22P02", "text that is no value of the type"),
    ("22P03", "binary that is no value of the type"),
    ("22P04", "bad COPY data"),
    ("22P05", "character that the encoding cannot hold"),
    ("23502", "NULL in a NOT NULL column"),
    ("23503", "foreign key violated"),
    ("23505", "duplicate key"),
    ("23514", "check constraint violated"),
    ("23P01", "exclusion constraint violated"),
];

fn db_cause(error: &DbError) -> Failure {
    let code = error.code().code();
    let (kind, hint) = verdict(code, error);
    let failure = Failure::new(kind, public_text(error));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Kind and hint by SQLSTATE; PostgreSQL manual, appendix A.
fn verdict(code: &str, error: &DbError) -> (Kind, Option<String>) {
    let hint = |text: &str| Some(text.to_string());
    match code {
        "08P01" if startup_refused(error) => (Kind::Config, hint(POOLER_HINT)),
        "53100" => (Kind::Temporary, hint("The server's disk is full: free space there and run it again.")),
        "53300" => (Kind::Temporary, hint("The server is out of connections; the next run may find one.")),
        "40001" | "40P01" if recovery_conflict(error) => (Kind::Temporary, hint(STANDBY_HINT)),
        "57014" if recovery_conflict(error) => (Kind::Temporary, hint(STANDBY_HINT)),
        "40001" | "40P01" | "55P03" | "57014" | "58030" | "25P03" | "25P04" => (Kind::Temporary, None),
        _ if code.starts_with("57P0") || code.starts_with("08") || code.starts_with("53") => {
            (Kind::Temporary, None)
        }
        "25006" if during_recovery(error) => (Kind::Temporary, hint(RECOVERY_HINT)),
        "25006" => {
            (Kind::Config, hint("The session or the server is read only; name a server that takes writes."))
        }
        "42501" => (Kind::Permission, Some(grant_hint(error.message()))),
        _ if code.starts_with("28") => {
            (Kind::Permission, hint("Check login and password of the connection."))
        }
        _ if code.starts_with("22") || code.starts_with("23") => (Kind::Data, None),
        "3D000" | "3F000" | "42P01" | "42703" | "42704" => (Kind::Config, None),
        _ => (Kind::Unclassified, None),
    }
}

const STANDBY_HINT: &str = "The standby cancelled the read to replay changes; run it again, or raise \
                            max_standby_streaming_delay or turn on hot_standby_feedback there.";
const RECOVERY_HINT: &str = "The server is in recovery; it takes writes once it is promoted.";
const POOLER_HINT: &str = "A pooler refused a start-up option: remove `options` from the connection, or name the \
                           PostgreSQL server itself.";

fn startup_refused(error: &DbError) -> bool {
    error.message().contains("startup parameter")
}

/// Told by the routine, since the message is translated: the server ended us for a replay.
fn recovery_conflict(error: &DbError) -> bool {
    let routine = error.routine().unwrap_or_default();
    let by_routine = routine.contains("RecoveryConflict")
        || (matches!(error.code().code(), "40001" | "40P01") && routine.starts_with("ProcessInterrupts"));
    by_routine || error.message().contains("conflict with recovery")
}

fn during_recovery(error: &DbError) -> bool {
    error.routine() == Some("PreventCommandDuringRecovery") || error.message().contains("during recovery")
}

/// Names the grant where the message is the English `permission denied for <kind> <name>`.
///
/// Of a database it is that to make a schema: what a login lacks is told in `connect`.
fn grant_hint(message: &str) -> String {
    const GRANTS: &[(&str, &str)] = &[
        ("materialized view ", "SELECT ON"),
        ("foreign table ", "SELECT ON"),
        ("table ", "SELECT ON"),
        ("view ", "SELECT ON"),
        ("sequence ", "SELECT ON SEQUENCE"),
        ("schema ", "USAGE ON SCHEMA"),
        ("database ", "CREATE ON DATABASE"),
        ("function ", "EXECUTE ON FUNCTION"),
        ("type ", "USAGE ON TYPE"),
        ("foreign server ", "USAGE ON FOREIGN SERVER"),
    ];
    if message.contains("row-level security") {
        return "Row security would hide rows from the role: ALTER ROLE <role> BYPASSRLS;".into();
    }
    let object = message.strip_prefix("permission denied for ").unwrap_or_default();
    let known = GRANTS.iter().find_map(|(kind, grant)| object.strip_prefix(kind).map(|name| (*grant, name)));
    match known {
        Some((grant, name)) => {
            format!("The role needs at least: GRANT {grant} {} TO <role>;", quoted(name))
        }
        None => "The role of the connection lacks a right; its owner or a superuser can GRANT it.".into(),
    }
}

/// Quotes a name unless it needs none.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => name.to_string(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
