//! What can go wrong, and what a scheduler and a person do about it.
//!
//! In:    nothing; every module makes [`Failure`]s.
//! Out:   a kind (exit status, retry or not), a sentence, a hint.
//! Holds: one table, [`Kind::exit_code`], is the whole of DESIGN.md section 1 "Exit status";
//!        the help pages print it from here.
//! Not here: what may be shown of a server error (`pg::public`).

mod checked;

pub use checked::{Checked, percent};
use std::fmt;
use std::io::ErrorKind;

/// The classes of failure a caller can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing to do, and `--skip-if-empty` was asked for.
    Skipped,
    /// Server, vault or store unreachable or overloaded; disk full; lock held.
    Temporary,
    /// A failure nobody has classified, a panic included.
    Unclassified,
    /// Data refused by contract or quality; a proof that failed.
    Data,
    /// A secret is missing, or a right.
    Permission,
    /// The project files are wrong.
    Config,
    /// A flag is wrong.
    Usage,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// Every kind with its exit status, its word in results and what a scheduler makes of it;
/// ordered by how serious it is, the most serious last.
pub const EXIT_STATUS: &[(Kind, u8, &str, &str)] = &[
    (Kind::Skipped, 99, "skipped", "nothing to do, and --skip-if-empty was asked for"),
    (Kind::Temporary, 75, "temporary", "server unreachable or overloaded, disk full, lock held: retry"),
    (Kind::Unclassified, 1, "unclassified", "unclassified failure: retry"),
    (Kind::Data, 65, "data", "data refused by contract or quality: tell the data owner"),
    (Kind::Permission, 77, "permission", "secret missing or permission denied: never retry"),
    (Kind::Config, 78, "config", "configuration: never retry"),
    (Kind::Usage, 2, "usage", "bad flag: never retry"),
    (Kind::Interrupted, 130, "interrupted", "SIGINT: rolled back"),
    (Kind::Terminated, 143, "terminated", "SIGTERM: rolled back"),
];

impl Kind {
    fn row(self) -> &'static (Kind, u8, &'static str, &'static str) {
        EXIT_STATUS.iter().find(|row| row.0 == self).unwrap_or(&EXIT_STATUS[2])
    }

    /// The process's exit status.
    pub fn exit_code(self) -> u8 {
        self.row().1
    }

    /// The word for it in `error.code` of a result.
    pub fn word(self) -> &'static str {
        self.row().2
    }
}

/// One failure as it reaches a person: `error: cannot <verb> <object>: <cause>` and `hint: ...`.
///
/// It is the root of an [`anyhow::Error`]; context added above it reads as a prefix.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides exit status and retry.
    pub kind: Kind,
    /// What could not be done to what, and why; lower case, no full stop, no cell value, no secret.
    pub what: String,
    /// What to type or look at next; a sentence.
    pub hint: Option<String>,
    /// The checks that refused the rows, if it was checks.
    pub missed: Vec<Checked>,
}

impl Failure {
    /// A failure of `kind` that reads `what`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Failure { kind, what: what.into(), hint: None, missed: Vec::new() }
    }

    /// The data is refused (65).
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(Kind::Data, what)
    }

    /// It may work later (75).
    pub fn temporary(what: impl Into<String>) -> Self {
        Self::new(Kind::Temporary, what)
    }

    /// A secret or a right is missing (77).
    pub fn permission(what: impl Into<String>) -> Self {
        Self::new(Kind::Permission, what)
    }

    /// The project files are wrong (78).
    pub fn config(what: impl Into<String>) -> Self {
        Self::new(Kind::Config, what)
    }

    /// A flag is wrong (2).
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Where a place cannot be written to.
pub const MAY_WRITE: &str = "Let this user write there, or name another place.";

/// The failure at the root of `error`, with the context above it as a prefix.
///
/// An error that no module has classified is [`Kind::Unclassified`], but for a full disk, which is
/// [`Kind::Temporary`], and a place that this user may not write to, [`Kind::Permission`].
pub fn classify(error: &anyhow::Error) -> Failure {
    let what = format!("{error:#}");
    if let Some(found) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        return Failure { what, ..found.clone() };
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind) {
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Failure::temporary(what).hint("Free some disk space and run it again.")
        }
        Some(ErrorKind::PermissionDenied) => Failure::permission(what),
        Some(ErrorKind::ReadOnlyFilesystem) => Failure::permission(what).hint(MAY_WRITE),
        _ => Failure::new(Kind::Unclassified, what),
    }
}

/// What caused `error`, the outermost first, each once; without the text of `error` itself, which in an
/// HTTP client's has the URL in it and says nothing that its causes do not say better.
pub fn causes(error: &dyn std::error::Error) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(one) = cause {
        let word = one.to_string();
        let is_noise = word.starts_with("client error (") && one.source().is_some();
        if !is_noise && !words.iter().any(|said| said.contains(&word)) {
            words.push(word);
        }
        cause = one.source();
    }
    (!words.is_empty()).then(|| words.join(": "))
}

/// A hint that names the nearest of `known` to `word`, or some of them.
pub fn nearest_hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_by_cached_key(|name| std::cmp::Reverse((strsim::jaro_winkler(word, name) * 1e6) as u64));
    match known.first() {
        None => "There is none at all.".to_owned(),
        Some(near) if strsim::jaro_winkler(word, near) > 0.8 => format!("Did you mean {near}?"),
        Some(_) => format!("There are: {}.", known[..known.len().min(8)].join(", ")),
    }
}

/// The most serious of several failures; the first of equals.
pub fn most_serious(failures: &[Failure]) -> Option<&Failure> {
    failures.iter().rev().max_by_key(|failure| failure.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn context_prefixes_the_sentence_and_keeps_kind_and_hint() {
        let error = Err::<(), _>(Failure::config("no such table").hint("Look again."))
            .context("cannot plan hr")
            .unwrap_err();
        let failure = classify(&error);
        assert_eq!(failure.kind.exit_code(), 78);
        assert_eq!(failure.what, "cannot plan hr: no such table");
        assert_eq!(failure.hint.as_deref(), Some("Look again."));
    }

    #[test]
    fn the_most_serious_of_several_failures_decides() {
        let all = [Failure::temporary("a"), Failure::config("b"), Failure::data("c")];
        assert_eq!(most_serious(&all).map(|f| f.what.as_str()), Some("b"));
    }

    #[test]
    fn a_full_disk_is_temporary_and_one_that_takes_no_writes_a_matter_of_rights() {
        let full = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(classify(&full).kind, Kind::Temporary);
        let shut = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem));
        assert_eq!(
            (classify(&shut).kind, classify(&shut).hint.as_deref()),
            (Kind::Permission, Some(MAY_WRITE))
        );
    }
}
