//! What a restore must not write into.
//!
//! In:    the target as it was looked at; what a person has allowed.
//! Out:   how the restore goes in, or why not.
//! Holds: pure; a database with things in it is refused unless that was allowed, the source itself
//!        unless its name was given once more.
//! Not here: looking (`target`), writing (`place`).

use super::target::Target;
use crate::backup::manifest::Source;
use crate::error::Failure;

/// What a person has allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The database may have things in it.
    pub not_empty: bool,
    /// The restore may go into the database it came from: its name, once more.
    pub over_source: Option<String>,
}

/// How a restore goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A database is made.
    Make,
    /// An empty one is filled.
    Fill,
    /// One that an earlier restore of ours left half full is emptied and filled.
    StartOver,
    /// One with things of its own is added to, in one transaction.
    Add,
}

/// Decides it.
///
/// # Errors
/// 78 for a database that is not empty, or that is the source, and was not allowed.
pub fn decide(target: &Target, source: &Source, allowed: &Allowed) -> Result<Entry, Failure> {
    let Some(existing) = &target.existing else { return Ok(Entry::Make) };
    let place = target.place();
    if target.is_source(source) && allowed.over_source.as_deref() != Some(target.name.as_str()) {
        let what =
            format!("cannot restore into {place}: it is the very database that the backup was made of");
        let hint = format!(
            "Restore beside it with `--database OTHER`; if you mean it: `--not-empty --over-source {}`.",
            target.name
        );
        return Err(Failure::config(what).hint(hint));
    }
    match &existing.marker {
        _ if existing.objects == 0 => Ok(Entry::Fill),
        Some(marker) if marker.was_empty => Ok(Entry::StartOver),
        _ if allowed.not_empty => Ok(Entry::Add),
        _ => {
            let what = format!("cannot restore into {place}: it is not empty ({} objects)", existing.objects);
            let hint = "Name another database with `--database NAME`, which is made if it is not there; \
                        `--not-empty` adds what is missing to this one.";
            Err(Failure::config(what).hint(hint))
        }
    }
}

/// The server can read what the dump's major version wrote.
///
/// # Errors
/// 78 for an older server.
pub fn check_version(target: &Target, source: &Source) -> Result<(), Failure> {
    let dumped: u32 = major(&source.pg_dump_version);
    if target.session.major() >= dumped {
        return Ok(());
    }
    let what = format!(
        "cannot restore into {}: the server is PostgreSQL {}, the backup was made by pg_dump {}",
        target.place(),
        target.session.major(),
        source.pg_dump_version
    );
    Err(Failure::config(what).hint("Restore into a server of the same major version or a newer one."))
}

/// The major version in `17.10` or `18beta1`.
pub fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
