//! Asks the server what it has of what an archive needs.
//!
//! In:    [`Needs`] of the archive. Out: what of it the server lacks.
//! Holds: nothing stays on the server: a locale is tried in a transaction that is rolled back.
//! Not here: what an archive needs (`needs`).

use super::needs::Needs;
use super::target::Target;
use crate::error::Failure;
use crate::pg::Session;
use crate::table::literal;
use anyhow::Result;
use std::collections::BTreeSet;

const EXTENSIONS: &str = "SELECT name::text FROM pg_catalog.pg_available_extensions";
const ROLES: &str = "SELECT rolname::text FROM pg_catalog.pg_roles";
const TABLESPACES: &str = "SELECT spcname::text FROM pg_catalog.pg_tablespace";

/// What of `needs` the server lacks.
///
/// # Errors
/// As [`crate::pg::public::failure`].
pub async fn missing(target: &Target, needs: &Needs) -> Result<Needs> {
    let session = &target.session;
    let have = Needs {
        extensions: names(session, EXTENSIONS).await?,
        roles: names(session, ROLES).await?,
        tablespaces: names(session, TABLESPACES).await?,
        locales: locales(session, &needs.locales).await?,
    };
    Ok(needs.beyond(&have))
}

/// The failure of a server that lacks `missing`; none if that is nothing.
///
/// # Errors
/// 78 that names all of it.
pub fn refuse(target: &Target, missing: &Needs) -> Result<(), Failure> {
    let sentences = missing.sentences();
    if sentences.is_empty() {
        return Ok(());
    }
    let what = format!("cannot restore into {}: the server lacks {}", target.place(), sentences.join("; "));
    let mut hints = Vec::new();
    if !missing.extensions.is_empty() {
        hints.push("Install the packages of the extensions on the server's machine.");
    }
    if !missing.roles.is_empty() {
        hints.push("`--with-globals` creates the roles; `--no-owner` does without owners and grants.");
    }
    if !missing.tablespaces.is_empty() {
        hints.push("Create the tablespaces there, or use `--no-tablespaces`.");
    }
    if !missing.locales.is_empty() {
        hints.push("Install the locales on the server's machine.");
    }
    Err(Failure::config(what).hint(hints.join(" ")))
}

async fn names(session: &Session, sql: &str) -> Result<BTreeSet<String>> {
    let rows = session.client.query(sql, &[]).await.map_err(|error| cannot(session, error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn cannot(session: &Session, error: tokio_postgres::Error) -> anyhow::Error {
    session.failure(error, &format!("cannot look at the server of {}", session.connection_id()))
}

/// Those of `wanted` that the server can make a collation of.
async fn locales(session: &Session, wanted: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let mut have = BTreeSet::new();
    for locale in wanted {
        let sql = format!(
            "BEGIN; CREATE COLLATION pg_temp.sankofa_try (provider = libc, locale = {})",
            literal(locale)
        );
        if session.client.batch_execute(&sql).await.is_ok() {
            have.insert(locale.clone());
        }
        session.client.batch_execute("ROLLBACK").await.map_err(|error| cannot(session, error))?;
    }
    Ok(have)
}
