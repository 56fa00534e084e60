//! The database that a restore fills: made under a temporary name, or given and marked.
//!
//! In:    a [`Target`] that was looked at.
//! Out:   a database to fill; in the end its final name, or its own comment back.
//! Holds: the final name, or an unmarked database, is seen only after [`Place::settle`]; a leftover
//!        is removed only when nobody holds its lock and nobody is in it.
//! Not here: looking (`target`), filling (`apply`).

use super::target::{Target, objects};
use crate::error::Failure;
use crate::pg::{Session, public};
use crate::table::{literal, quote};
use anyhow::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_postgres::Client;
use tracing::{info, warn};

/// What stands between a database's name and our id while it is not proven.
const BETWEEN: &str = "__restoring_";
const ID_LETTERS: usize = 8;
const NAME_BYTES: usize = 63;

/// What a marker begins with; a person sees it in `\l+`.
const MARK: &str = "sankofa: a restore into this database is not finished, do not use it: ";

/// The mark of a given database, kept as its comment until what is in it is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of these fields.
    pub schema: u32,
    /// Which restore.
    pub restore: String,
    /// Of which database, by its name in the project.
    pub database: String,
    /// Id of the backup.
    pub backup: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether the database was empty, so that everything in it is the restore's.
    pub was_empty: bool,
    /// The comment that the database had.
    pub comment: Option<String>,
}

impl Marker {
    /// The marker in a database's comment, if that is one.
    pub fn read(comment: &str) -> Option<Marker> {
        serde_json::from_str(comment.strip_prefix(MARK)?).ok()
    }

    /// The comment that it is kept as.
    pub fn text(&self) -> String {
        format!("{MARK}{}", serde_json::to_string(self).unwrap_or_default())
    }
}

/// A database that is being filled.
#[derive(Clone, Debug)]
pub enum Place {
    /// We made it; it is called `temporary` until it is proven.
    Made {
        /// Its name now.
        temporary: String,
        /// Its name in the end.
        name: String,
    },
    /// It was there, and carries `marker` until it is proven.
    Given {
        /// Its name.
        name: String,
        /// What its comment is meanwhile.
        marker: Marker,
    },
}

/// A new id of a restore.
pub fn new_id() -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    id[id.len() - ID_LETTERS..].to_owned() // the random end
}

/// The name of a database that restore `id` makes for `name`.
pub fn temporary_name(name: &str, id: &str) -> String {
    let room = NAME_BYTES - BETWEEN.len() - ID_LETTERS;
    let end = (0..=room.min(name.len())).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    format!("{}{BETWEEN}{id}", &name[..end])
}

/// Whether `name` is one that [`temporary_name`] makes.
pub fn is_temporary(name: &str) -> bool {
    name.rsplit_once(BETWEEN).is_some_and(|(_, id)| {
        id.len() == ID_LETTERS
            && id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
    })
}

impl Place {
    /// The database's name at this moment.
    pub fn name(&self) -> &str {
        match self {
            Place::Made { temporary, .. } => temporary,
            Place::Given { name, .. } => name,
        }
    }

    /// Makes an empty database with `options` of `CREATE DATABASE`, under a temporary name. The lock of
    /// the name is held by the target's session.
    ///
    /// # Errors
    /// 77 without the right to make databases; 78 for a locale that the server lacks; as [`public::failure`].
    pub async fn make(target: &Target, id: &str, options: &str) -> Result<Place> {
        let temporary = temporary_name(&target.name, id);
        let client = &target.session.client;
        let cannot = format!("cannot make a database on {}", target.connection.id);
        try_lock(client, &temporary).await.map_err(|error| target.session.failure(error, &cannot))?;
        let made = client.batch_execute(&format!("CREATE DATABASE {} {options}", quote(&temporary))).await;
        made.map_err(|error| {
            let code = error.code().map(|state| state.code().to_owned());
            let mut failure = public::cause(&error);
            match code.as_deref() {
                Some("42501") => failure.hint = Some("Give the role CREATEDB, or name an empty database.".into()),
                Some("22023" | "42809" | "42704") => {
                    failure = Failure::config(failure.what).hint(
                        "Install the locale on the server's machine, or make an empty database by hand and restore \
                         into that.",
                    );
                }
                _ => {}
            }
            failure.what = format!("{cannot}: {}", failure.what);
            anyhow::Error::from(failure)
        })?;
        info!(database = %temporary, "database made under a temporary name");
        Ok(Place::Made { temporary, name: target.name.clone() })
    }

    /// Marks the database that is there.
    ///
    /// # Errors
    /// 75 when another restore is going into it; 77 when the role does not own it.
    pub async fn mark(target: &Target, marker: Marker) -> Result<Place> {
        let (client, name) = (&target.session.client, target.name.clone());
        let cannot = format!("cannot mark database {} as being restored", target.place());
        let locked = try_lock(client, &name).await.map_err(|error| target.session.failure(error, &cannot))?;
        if !locked {
            let what = format!("cannot restore into {}: another restore is going into it", target.place());
            return Err(Failure::temporary(what).hint("Wait for it, then run this again.").into());
        }
        let done = client.batch_execute(&comment(&name, Some(&marker.text()))).await;
        done.map_err(|error| target.session.failure(error, &cannot))?;
        Ok(Place::Given { name, marker })
    }

    /// Whether the given database is as empty as it was when it was looked at; else it is unmarked.
    ///
    /// # Errors
    /// 78 when somebody has put things into it meanwhile; as [`public::failure`].
    pub async fn check_still_empty(&self, target: &Target) -> Result<()> {
        let inside = target.session_in(self.name()).await?;
        let found = objects(&inside.client).await;
        let found = found
            .map_err(|error| inside.failure(error, &format!("cannot look at database {}", target.place())))?;
        inside.close().await;
        if found == 0 {
            return Ok(());
        }
        self.settle(target, &[]).await?;
        let what =
            format!("cannot restore into {}: it is not empty any more ({found} objects)", target.place());
        Err(Failure::config(what).hint("Name another database with `--database NAME`.").into())
    }

    /// What was restored is good: gives it its name, or its own comment. `statements` (about the
    /// database as such) run in the same commit. No session of ours may be in it.
    ///
    /// # Errors
    /// 78 when a database of that name has appeared meanwhile; as [`public::failure`].
    pub async fn settle(&self, target: &Target, statements: &[String]) -> Result<()> {
        let last = match self {
            Place::Made { temporary, name } => {
                format!("ALTER DATABASE {} RENAME TO {}", quote(temporary), quote(name))
            }
            Place::Given { name, marker } => comment(name, marker.comment.as_deref()),
        };
        let sql = format!("BEGIN;\n{}{last};\nCOMMIT", statements.concat());
        let cannot = format!("cannot give {} its name", target.place());
        let mut tries = 0;
        loop {
            let Err(error) = target.session.client.batch_execute(&sql).await else { return Ok(()) };
            let in_use = error.code().is_some_and(|state| state.code() == "55006");
            let _ = target.session.client.batch_execute("ROLLBACK").await;
            tries += 1;
            if !in_use || tries > 50 {
                return Err(target.session.failure(error, &cannot));
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // a session of ours is still leaving
        }
    }

    /// Takes back what was begun: a database that we made is dropped. A given one keeps its mark.
    pub async fn withdraw(&self, session: &Session) {
        if let Place::Made { temporary, .. } = self {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(temporary));
            match session.client.batch_execute(&sql).await {
                Ok(()) => info!(database = %temporary, "unfinished database dropped"),
                Err(_) => warn!(database = %temporary, "an unfinished database stays until the next restore"),
            }
        }
    }
}

fn comment(name: &str, text: Option<&str>) -> String {
    let text = text.map_or_else(|| "NULL".to_owned(), literal);
    format!("COMMENT ON DATABASE {} IS {text}", quote(name))
}

/// Databases on the server of `client` that are being restored, or were left so by a restore that died.
///
/// # Errors
/// The server's.
pub async fn unfinished(client: &Client) -> Result<Vec<(String, Option<Marker>)>, tokio_postgres::Error> {
    let sql = "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database ORDER BY 1";
    let rows = client.query(sql, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        let marker = comment.as_deref().and_then(Marker::read);
        (is_temporary(&name) || marker.is_some()).then_some((name, marker))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// Drops the databases under temporary names that restores and drills of earlier left: those whose lock
/// is free and that nobody is in. Returns the names dropped.
///
/// # Errors
/// As [`public::failure`].
pub async fn sweep(session: &Session) -> Result<Vec<String>> {
    let client = &session.client;
    let cannot = format!("cannot look for unfinished restores on {}", session.connection_id());
    let left = unfinished(client).await.map_err(|error| session.failure(error, &cannot))?;
    let mut dropped = Vec::new();
    for name in left.into_iter().map(|(name, _)| name).filter(|name| is_temporary(name)) {
        if !try_lock(client, &name).await.map_err(|error| session.failure(error, &cannot))? {
            continue; // a restore that lives
        }
        match drop_abandoned(client, &name).await {
            Ok(()) => dropped.push(name.clone()),
            Err(error) => {
                warn!(database = %name, why = %public::cause(&error), "an unfinished database cannot be dropped")
            }
        }
        let _ = client.execute("SELECT pg_catalog.pg_advisory_unlock($1)", &[&lock_number(&name)]).await;
    }
    if !dropped.is_empty() {
        info!(databases = dropped.join(", "), "what earlier restores left was dropped");
    }
    Ok(dropped)
}

/// A `pg_restore` whose parent was killed leaves within moments: it is waited for, never thrown out.
async fn drop_abandoned(client: &Client, name: &str) -> Result<(), tokio_postgres::Error> {
    let mut tries = 0;
    loop {
        match client.batch_execute(&format!("DROP DATABASE IF EXISTS {}", quote(name))).await {
            Err(error) if error.code().is_some_and(|state| state.code() == "55006") && tries < 2 => {
                tries += 1
            }
            other => return other, // each try waits 5 s for sessions to leave by itself
        }
    }
}

/// Empties a database that an earlier restore of ours has filled in part.
///
/// # Errors
/// 75 while somebody is in it; 78 when something of it stays; as [`public::failure`].
pub async fn empty(target: &Target) -> Result<()> {
    let cannot = format!("cannot empty {}, which an earlier restore has filled in part", target.place());
    let inside = target.session_in(&target.name).await?;
    let failed = |error| inside.failure(error, &cannot);
    let others: i64 = inside.client.query_one(OTHERS, &[]).await.map_err(failed)?.get(0);
    if others > 0 {
        let failure = Failure::temporary(format!("{cannot}: {others} sessions are in it"));
        return Err(failure.hint("Wait until they are gone, then run this again.").into());
    }
    inside.client.batch_execute(EMPTY).await.map_err(failed)?;
    let left = objects(&inside.client).await.map_err(failed)?;
    inside.close().await;
    if left > 0 {
        let failure = Failure::config(format!("{cannot}: {left} objects stay"));
        return Err(failure.hint("Drop the database and make it again, empty.").into());
    }
    info!(database = %target.name, "what an earlier restore left was dropped");
    Ok(())
}

const OTHERS: &str = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = pg_catalog.current_database() \
                      AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()";

/// Drops every schema but `public`, whose owner and grants stay, and all that is in that. The commands
/// are put together before the first is run: each takes others with it.
const EMPTY: &str = r"
DO $empty$
DECLARE command text;
BEGIN
    FOREACH command IN ARRAY coalesce((SELECT array_agg(format('DROP %s IF EXISTS %s CASCADE', kind, name) ORDER BY rank) FROM (
        SELECT 1 AS rank, 'EVENT TRIGGER' AS kind, quote_ident(evtname) AS name FROM pg_event_trigger
        UNION ALL SELECT 2, 'PUBLICATION', quote_ident(pubname) FROM pg_publication
        UNION ALL SELECT 3, 'EXTENSION', quote_ident(extname) FROM pg_extension WHERE extname <> 'plpgsql'
        UNION ALL SELECT 4, 'SCHEMA', quote_ident(nspname) FROM pg_namespace
            WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'public')
        UNION ALL SELECT CASE relkind WHEN 'S' THEN 6 ELSE 5 END, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text
            FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL SELECT 7, 'ROUTINE', oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 8, 'TYPE', oid::regtype::text FROM pg_type
            WHERE typnamespace = 'public'::regnamespace AND typelem = 0
            AND (typrelid = 0 OR typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c'))
    ) AS everything), '{}') LOOP
        EXECUTE command;
    END LOOP;
    PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
END
$empty$";

async fn try_lock(client: &Client, name: &str) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&lock_number(name)]).await?.get(0))
}

fn lock_number(name: &str) -> i64 {
    let digest = Sha256::digest(format!("sankofa restore {name}"));
    digest.first_chunk::<8>().map_or(0, |head| i64::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_fits_is_known_again_and_no_other_is() {
        let id = new_id();
        for name in ["hr", "", "a b\"c", &"é".repeat(31), &"x".repeat(63)] {
            let made = temporary_name(name, &id);
            assert!(made.len() <= 63 && is_temporary(&made), "{made}");
        }
        assert!(temporary_name("hr", &id).starts_with("hr__restoring_"));
        for other in [
            "hr",
            "hr__restoring_",
            "hr__restoring_12345",
            "hr__restoring_ABCDEF12",
            "hr__restoring_abcdef1g",
        ] {
            assert!(!is_temporary(other), "{other}");
        }
        assert_ne!(new_id(), id);
    }

    #[test]
    fn a_marker_is_read_back_with_the_comment_that_was_there() {
        let marker = Marker {
            schema: 1,
            restore: "abcdef12".into(),
            database: "hr".into(),
            backup: "x".into(),
            started_at: "2026-11-21T03:00:00Z".parse().unwrap(),
            was_empty: true,
            comment: Some("it's \"ours\"\n".into()),
        };
        assert_eq!(Marker::read(&marker.text()), Some(marker));
        for other in ["", "Human resources", &format!("{MARK}nonsense")] {
            assert_eq!(Marker::read(other), None);
        }
    }
}
