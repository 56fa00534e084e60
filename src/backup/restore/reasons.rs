//! Why `pg_restore` failed, sorted by what mends it.
//!
//! In:    what it said on standard error, line by line.
//! Out:   reasons with the names they are about, and how many there were; a [`Failure`].
//! Holds: pure; nothing is shown but names of roles, extensions and the like, and the entries of the
//!        archive: the server's other words may quote cell values.
//! Not here: the process (`apply`).

use crate::error::{Failure, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// What stands in the way of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The disk of the server is full.
    DiskFull,
    /// The session was ended, or could not be begun.
    Connection,
    /// A role that the server lacks.
    Role,
    /// An extension that the server lacks.
    Extension,
    /// A collation or locale that the server lacks.
    Collation,
    /// A tablespace that the server lacks.
    Tablespace,
    /// The role that restores may not do it.
    Permission,
    /// Something of this name is there already.
    Exists,
    /// Another.
    Other,
}

/// What was said, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// The names per reason; what has no name is only counted.
    pub names: BTreeMap<Reason, BTreeSet<String>>,
    /// How many errors there were.
    pub errors: u64,
    entry: Option<String>,
    /// The reason of the last error, while nothing names what it is about.
    unnamed: Option<Reason>,
}

/// What is known of the server's words: where it begins, where the name ends.
const KNOWN: &[(Reason, &str, &str)] = &[
    (Reason::DiskFull, "No space left on device", ""),
    (Reason::Connection, "server closed the connection", ""),
    (Reason::Connection, "terminating connection", ""),
    (Reason::Connection, "connection to server", ""),
    (Reason::Connection, "canceling statement due to user request", ""),
    (Reason::Role, "role \"", "\" does not exist"),
    (Reason::Extension, "extension \"", "\" is not available"),
    (Reason::Extension, "could not open extension control file \"", "\""),
    (Reason::Extension, "could not access file \"", "\""),
    (Reason::Collation, "collation \"", "\" for encoding"),
    (Reason::Collation, "collation \"", "\" does not exist"),
    (Reason::Collation, "could not create locale \"", "\""),
    (Reason::Tablespace, "tablespace \"", "\" does not exist"),
    (Reason::Permission, "permission denied", ""),
    (Reason::Permission, "must be owner of", ""),
    (Reason::Permission, "must be superuser", ""),
    (Reason::Permission, "must be member of role", ""),
    (Reason::Permission, "must be able to SET ROLE", ""),
    (Reason::Exists, "already exists", ""),
];

/// Names shown per reason; the rest is counted.
const SHOWN: usize = 8;

impl Reasons {
    /// Takes the next line. Lines of an entry come before the error that it met.
    pub fn line(&mut self, line: &str) {
        let line = line.strip_prefix("pg_restore: ").unwrap_or(line);
        if let Some(entry) = line.strip_prefix("from TOC entry ") {
            self.entry = entry_name(entry);
            return;
        }
        if let Some(command) = line.strip_prefix("Command was: ") {
            // Sessions side by side do not tell the entry.
            if let (Some(reason), Some(name)) = (self.unnamed.take(), command_name(command)) {
                self.names.entry(reason).or_default().insert(name);
            }
            return;
        }
        let Some(error) = line.strip_prefix("error: ") else { return };
        self.errors += 1;
        let (reason, name) = sort(error);
        let name = name.or_else(|| self.entry.take());
        self.unnamed = name.is_none().then_some(reason);
        self.names.entry(reason).or_default().extend(name);
    }

    /// The failure of restoring into `target`, for an exit status of `status`.
    pub fn failure(&self, target: &str, status: &str) -> Failure {
        let told: Vec<String> = self.names.iter().map(|(reason, names)| sentence(*reason, names)).collect();
        let cause = if told.is_empty() { "it gave no reason".to_owned() } else { told.join("; ") };
        let what = format!("cannot restore into {target}: pg_restore ended with {status}: {cause}");
        let worst = self.names.keys().next().copied().unwrap_or(Reason::Other);
        let failure = Failure::new(kind(worst), what);
        match hint(worst) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn sort(error: &str) -> (Reason, Option<String>) {
    let said = error.split_once("ERROR:  ").map_or(error, |(_, said)| said);
    for (reason, before, after) in KNOWN {
        if after.is_empty() && said.contains(before) {
            return (*reason, None);
        }
        // A name is read only where the message begins with it: elsewhere a cell may be quoted.
        let named = said.strip_prefix(before).and_then(|rest| rest.split_once(after));
        if let Some((name, _)) = named.filter(|_| !after.is_empty()) {
            return (*reason, Some(name.to_owned()));
        }
    }
    (Reason::Other, None)
}

/// `215; 1259 16391 TABLE public employee owner` is `TABLE public employee`.
fn entry_name(entry: &str) -> Option<String> {
    let mut words: Vec<&str> = entry.split(' ').skip(3).collect();
    words.pop(); // the owner
    (!words.is_empty()).then(|| words.join(" "))
}

/// The head of a statement that defines something: `ALTER TABLE ONLY public.visit`. No constant is in it.
fn command_name(command: &str) -> Option<String> {
    const HEADS: &[&str] = &["CREATE", "ALTER", "COMMENT", "GRANT", "REVOKE", "REFRESH", "COPY", "SET"];
    let is_name = |word: &&str| word.chars().all(|c| c.is_alphanumeric() || "_.\"$".contains(c));
    let words: Vec<&str> = command.split([' ', ';']).take_while(is_name).take(4).collect();
    words.first().filter(|head| HEADS.contains(head))?;
    Some(words.join(" ").trim().to_owned())
}

fn sentence(reason: Reason, names: &BTreeSet<String>) -> String {
    let what = match reason {
        Reason::DiskFull => "the server's disk is full",
        Reason::Connection => "the session was lost or refused",
        Reason::Role => "roles are missing",
        Reason::Extension => "extensions are missing",
        Reason::Collation => "collations are missing",
        Reason::Tablespace => "tablespaces are missing",
        Reason::Permission => "a right is missing",
        Reason::Exists => "something of the name is there already",
        Reason::Other => "the server refused",
    };
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match (shown.is_empty(), names.len().saturating_sub(SHOWN)) {
        (true, _) => what.to_owned(),
        (false, 0) => format!("{what}: {}", shown.join(", ")),
        (false, more) => format!("{what}: {} and {more} more", shown.join(", ")),
    }
}

fn kind(reason: Reason) -> Kind {
    match reason {
        Reason::DiskFull | Reason::Connection => Kind::Temporary,
        Reason::Permission => Kind::Permission,
        Reason::Role | Reason::Extension | Reason::Collation | Reason::Tablespace | Reason::Exists => {
            Kind::Config
        }
        Reason::Other => Kind::Data,
    }
}

fn hint(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::DiskFull => "Free some disk space on the server, or choose another one.",
        Reason::Connection => "Run it again: it starts over.",
        Reason::Role => {
            "Create the roles, run it with `--with-globals`, or with `--no-owner` if owners and grants do not matter."
        }
        Reason::Extension => "Install the packages of the extensions on the server.",
        Reason::Collation => "Install the locales on the server's machine, or choose another server.",
        Reason::Tablespace => "Create the tablespaces on the server.",
        Reason::Permission => "Restore as a superuser, or as the owner with `--no-owner`.",
        Reason::Exists => "Restore into an empty database.",
        Reason::Other => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reasons {
        let mut reasons = Reasons::default();
        text.lines().for_each(|line| reasons.line(line));
        reasons
    }

    #[test]
    fn reasons_are_sorted_and_named_and_the_worst_decides() {
        let reasons = read(concat!(
            "pg_restore: while PROCESSING TOC:\n",
            "pg_restore: from TOC entry 215; 1259 16391 TABLE public employee hr_owner\n",
            "pg_restore: error: could not execute query: ERROR:  role \"hr_owner\" does not exist\n",
            "Command was: ALTER TABLE public.employee OWNER TO hr_owner;\n",
            "pg_restore: from TOC entry 2; 3079 16385 EXTENSION - hstore \n",
            "pg_restore: error: could not execute query: ERROR:  extension \"hstore\" is not available\n",
            "DETAIL:  Could not open extension control file \"/usr/share/hstore.control\": No such file.\n",
            "pg_restore: warning: errors ignored on restore: 2\n",
        ));
        assert_eq!(reasons.errors, 2);
        let failure = reasons.failure("hr", "exit status 1");
        assert_eq!(failure.kind, Kind::Config);
        assert_eq!(
            failure.what,
            "cannot restore into hr: pg_restore ended with exit status 1: roles are missing: hr_owner; extensions are \
             missing: hstore"
        );
    }

    #[test]
    fn a_message_that_may_quote_a_cell_is_not_shown_but_the_entry_is() {
        let reasons = read(concat!(
            "pg_restore: from TOC entry 3301; 0 16391 TABLE DATA public employee hr_owner\n",
            "pg_restore: error: COPY failed for table \"employee\": ERROR:  invalid input syntax for type integer: \"MARK\"\n",
            "CONTEXT:  COPY employee, line 1, column id: \"MARK\"\n",
        ));
        let failure = reasons.failure("hr", "exit status 1");
        assert!(!format!("{failure:?}{reasons:?}").contains("MARK"));
        assert!(failure.what.contains("TABLE DATA public employee"), "{}", failure.what);
        assert_eq!(failure.kind, Kind::Data);
    }

    #[test]
    fn an_error_of_a_session_beside_others_is_named_by_its_command_but_never_by_a_constant() {
        let reasons = read(concat!(
            "pg_restore: error: could not execute query: ERROR:  relation \"public.visit\" does not exist\n",
            "Command was: ALTER TABLE ONLY public.visit\n    ADD CONSTRAINT x;\n",
            "pg_restore: error: could not execute query: ERROR:  strange\n",
            "Command was: SELECT pg_catalog.setval('public.MARK', 1);\n",
            "pg_restore: error: could not execute query: ERROR:  odd\n",
            "Command was: COMMENT ON TABLE public.t IS 'MARK';\n",
        ));
        let failure = reasons.failure("hr", "exit status 1");
        assert!(
            failure.what.ends_with("ALTER TABLE ONLY public.visit, COMMENT ON TABLE public.t"),
            "{}",
            failure.what
        );
    }

    #[test]
    fn a_full_disk_and_a_lost_session_are_temporary() {
        for line in [
            "pg_restore: error: COPY failed for table \"a\": ERROR:  could not extend file \"base/1/2\": No space left on device",
            "pg_restore: error: could not execute query: server closed the connection unexpectedly",
        ] {
            assert_eq!(read(line).failure("hr", "exit status 1").kind, Kind::Temporary, "{line}");
        }
        assert!(read("").failure("hr", "signal 9").what.ends_with("it gave no reason"));
    }
}
