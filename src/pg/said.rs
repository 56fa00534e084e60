//! What PostgreSQL's programs say on stderr, and what of it may be shown.
//!
//! In:    their stderr, in English (`LC_ALL=C`; the server's own words may be in another language).
//! Out:   warnings counted by class; a [`Failure`] with public text.
//! Holds: memory is bounded however much they say; what they quote of a row, a query or a value is
//!        not shown: of an error that is not known, quoted parts are left out.
//! Not here: their exit status (`tool`).

use crate::error::{Failure, Kind};
use std::collections::BTreeMap;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// What a program has said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Errors and their details, oldest first, without the program's name.
    errors: Vec<String>,
    /// Errors of `pg_restore`, each between the entry of the archive that met it and its command.
    met: Vec<String>,
    /// Warnings: class, and how often.
    pub warnings: BTreeMap<String, u64>,
}

/// The errors that are kept; what comes after is a consequence.
const ERRORS_KEPT: usize = 50;
/// The bytes of a line that are looked at.
const LINE_KEPT: u64 = 4096;

/// Warnings by a part of their text; anything else is `other`. PostgreSQL sources, `src/bin/pg_dump`.
const WARNINGS: &[(&str, &str)] = &[
    ("subscriptions not dumped", "subscriptions_not_dumped"),
    ("circular foreign-key constraints", "circular_foreign_keys"),
    ("could not resolve dependency loop", "dependency_loop"),
    ("appears to be invalid", "invalid_owner"),
    ("owner of", "invalid_owner"),
    ("bogus value", "bogus_catalog_value"),
    ("could not find where to insert IF EXISTS", "if_exists"),
    ("not dumped", "not_dumped"),
    ("could not parse", "unparsable_catalog_value"),
];

/// What an error means, by a part of its text; the first that fits. Shown: whether its first line may be.
struct Meaning {
    part: &'static str,
    kind: Kind,
    shown: bool,
    hint: &'static str,
}

const fn meaning(part: &'static str, kind: Kind, hint: &'static str) -> Meaning {
    Meaning { part, kind, shown: true, hint }
}

const fn secret(part: &'static str, kind: Kind, hint: &'static str) -> Meaning {
    Meaning { part, kind, shown: false, hint }
}

const LOGIN: &str = "Check login and password of the connection.";
const READ_ALL: &str = "The role must read everything: GRANT pg_read_all_data TO <role> (14 and newer); large objects \
                        need their owner, a superuser, or lo_compat_privileges.";
const BYPASS: &str = "A backup never leaves out rows: ALTER ROLE <role> BYPASSRLS, or use the owner's role.";
const AGAIN: &str = "Nothing was stored. The next run starts from the beginning.";
const CHANGED: &str = "The schema was changed while it was read; the next run starts from the beginning.";
const WAITED: &str = "Somebody holds a lock on a table, such as an ALTER TABLE that has not committed.";
const DAMAGED: &str = "The server cannot read its own data: look at its log before the older backups expire.";
const ENCODING: &str = "A text in the database is not valid in its encoding; the server's log has the bytes.";
const STANDBY: &str = "The standby cancelled the read to replay changes: raise max_standby_streaming_delay or turn on \
                       hot_standby_feedback there, or back up the primary.";

const NO_TLS: &str =
    "These programs were built without TLS: install those of postgresql.org or of the distribution.";
const UNSAID: &str =
    "pg_dumpall does not say why. If it stays: were the programs built with TLS (`ldd` names libssl)?";

const MEANINGS: &[Meaning] = &[
    meaning("password authentication failed", Kind::Permission, LOGIN),
    meaning("no password supplied", Kind::Permission, LOGIN),
    meaning("no pg_hba.conf entry", Kind::Permission, LOGIN),
    meaning("is not permitted to log in", Kind::Permission, LOGIN),
    meaning("row-level security policy", Kind::Permission, BYPASS),
    meaning("permission denied for large object", Kind::Permission, READ_ALL),
    meaning("permission denied", Kind::Permission, READ_ALL),
    meaning("must be superuser", Kind::Permission, READ_ALL),
    meaning("must be owner", Kind::Permission, READ_ALL),
    meaning(
        "server version mismatch",
        Kind::Config,
        "Install the programs of the server's own major version.",
    ),
    meaning("SSL support is not compiled in", Kind::Config, NO_TLS),
    // All that pg_dumpall says, whatever the reason; our own session was let in a moment before.
    meaning("could not connect to database", Kind::Temporary, UNSAID),
    meaning("certificate verify failed", Kind::Config, "Check sslrootcert and sslmode of the connection."),
    meaning("canceling statement due to conflict with recovery", Kind::Temporary, STANDBY),
    meaning("canceling statement due to statement timeout", Kind::Temporary, WAITED),
    meaning("canceling statement due to lock timeout", Kind::Temporary, WAITED),
    meaning("canceling statement", Kind::Temporary, AGAIN),
    meaning("server closed the connection", Kind::Temporary, AGAIN),
    meaning("terminating connection", Kind::Temporary, AGAIN),
    meaning("connection to server was lost", Kind::Temporary, AGAIN),
    meaning("lost synchronization with server", Kind::Temporary, AGAIN),
    meaning("SSL SYSCALL error", Kind::Temporary, AGAIN),
    meaning("SSL error", Kind::Temporary, AGAIN),
    meaning("could not receive data from server", Kind::Temporary, AGAIN),
    meaning("could not send data to server", Kind::Temporary, AGAIN),
    meaning("no connection to the server", Kind::Temporary, AGAIN),
    meaning("the database system is", Kind::Temporary, AGAIN),
    meaning("too many clients", Kind::Temporary, AGAIN),
    meaning("connection slots", Kind::Temporary, AGAIN),
    meaning("too many connections", Kind::Temporary, AGAIN),
    meaning("No space left on device", Kind::Temporary, "The server's disk is full: free space there."),
    meaning("out of memory", Kind::Temporary, AGAIN),
    meaning("deadlock detected", Kind::Temporary, AGAIN),
    meaning("FATAL:  database", Kind::Config, "Check the database's name in the connection."),
    meaning("FATAL:  role", Kind::Permission, LOGIN),
    meaning("connection to server", Kind::Temporary, AGAIN),
    meaning("could not translate host name", Kind::Temporary, AGAIN),
    secret("invalid page in block", Kind::Data, DAMAGED),
    secret("missing chunk number", Kind::Data, DAMAGED),
    secret("unexpected chunk number", Kind::Data, DAMAGED),
    secret("could not read block", Kind::Data, DAMAGED),
    secret("data is corrupt", Kind::Data, DAMAGED),
    secret("invalid byte sequence", Kind::Data, ENCODING),
    secret("has no equivalent in encoding", Kind::Data, ENCODING),
    meaning("could not open relation", Kind::Temporary, CHANGED),
    meaning("cache lookup failed", Kind::Temporary, CHANGED),
    meaning("does not exist", Kind::Temporary, CHANGED),
];

impl Said {
    /// Reads `stderr` to its end.
    pub async fn listen(stderr: impl AsyncRead + Unpin) -> Said {
        let mut said = Said::default();
        let mut lines = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match (&mut lines).take(LINE_KEPT).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return said,
                Ok(_) => said.line(String::from_utf8_lossy(&line).trim_end()),
            }
        }
    }

    /// Takes one line. A line without the program's name goes on from the one before.
    fn line(&mut self, line: &str) {
        let told = line.strip_prefix("pg_").and_then(|rest| rest.split_once(": "));
        if line.starts_with("Command was: ") && self.met.len() < 3 * ERRORS_KEPT {
            self.met.push(line.to_owned());
        }
        let Some((_, told)) = told else { return };
        if let Some(warning) = told.strip_prefix("warning: ") {
            let class =
                WARNINGS.iter().find(|(part, _)| warning.contains(part)).map_or("other", |known| known.1);
            *self.warnings.entry(class.to_owned()).or_default() += 1;
            return;
        }
        let is_met = told.starts_with("from TOC entry ") || told.starts_with("error: ");
        if is_met && self.met.len() < 3 * ERRORS_KEPT {
            self.met.push(told.to_owned());
        }
        let error = told.strip_prefix("error: ").or(told.strip_prefix("fatal: "));
        let detail = told.strip_prefix("detail: ").filter(|text| text.starts_with(FROM_SERVER));
        if let Some(text) = error.or(detail).filter(|_| self.errors.len() < ERRORS_KEPT) {
            self.errors.push(text.to_owned());
        }
    }

    /// What `pg_restore` said of errors and of the entries that met them; not to be shown as it is.
    pub fn met(&self) -> &[String] {
        &self.met
    }

    /// Whether it told of any error.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors, each with its meaning, in words that may be shown.
    pub fn failures(&self) -> impl Iterator<Item = Failure> {
        self.errors.iter().filter(|text| !is_query(text)).map(|text| of(text))
    }

    /// Why the program failed: the first error whose meaning is known, else the first.
    ///
    /// In: `cannot` such as `cannot dump records`.
    pub fn failure(&self, cannot: &str) -> Option<Failure> {
        let known = self.failures().find(|failure| failure.kind != Kind::Unclassified);
        let mut failure = known.or_else(|| self.failures().next())?;
        failure.what = format!("{cannot}: {}", failure.what);
        Some(failure)
    }
}

const FROM_SERVER: &str = "Error message from server: ";

/// Versions before 14 tell the query as an error of its own.
fn is_query(text: &str) -> bool {
    ["The command was:", "query was:", "Command was:", "Query was:"].iter().any(|head| text.starts_with(head))
}

fn of(text: &str) -> Failure {
    match MEANINGS.iter().find(|meaning| text.contains(meaning.part)) {
        Some(meaning) if meaning.shown => Failure::new(meaning.kind, servers_words(text)).hint(meaning.hint),
        Some(meaning) => Failure::new(meaning.kind, meaning.part).hint(meaning.hint),
        None => Failure::new(Kind::Unclassified, without_quotes(servers_words(text)))
            .hint("The log of the server may say more."),
    }
}

/// What the server or the system said, without what the program says around it.
fn servers_words(text: &str) -> &str {
    ["ERROR:  ", "FATAL:  ", FROM_SERVER]
        .iter()
        .find_map(|mark| text.rfind(mark).map(|at| text[at + mark.len()..].trim()))
        .unwrap_or(text)
}

/// Leaves out what stands between double quotes, and everything behind an odd one.
fn without_quotes(text: &str) -> String {
    let parts = text.split('"').enumerate().map(|(nth, part)| if nth % 2 == 0 { part } else { "..." });
    parts.collect::<Vec<_>>().join("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(text: &str) -> Said {
        Said::listen(text.as_bytes()).await
    }

    async fn failure(text: &str) -> (Kind, String) {
        let failure = said(text).await.failure("cannot dump records").unwrap();
        (failure.kind, failure.what)
    }

    #[tokio::test]
    async fn an_error_of_the_server_is_told_in_its_words_whatever_the_version_says_around_it() {
        let old = "pg_dump: error: query failed: ERROR:  permission denied for table t\n\
                   pg_dump: error: query was: LOCK TABLE public.t IN ACCESS SHARE MODE\n";
        let new = "pg_dump: error: query failed: ERROR:  permission denied for table t\n\
                   pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE\n";
        for text in [old, new] {
            let what = "cannot dump records: permission denied for table t".to_owned();
            assert_eq!(failure(text).await, (Kind::Permission, what));
        }
        let lost = "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed.\n\
                    pg_dump: detail: Error message from server: server closed the connection unexpectedly\n\
                    \tThis probably means the server terminated abnormally\n\
                    pg_dump: detail: Command was: COPY public.t (MARK) TO stdout;\n";
        let what = "cannot dump records: server closed the connection unexpectedly".to_owned();
        assert_eq!(failure(lost).await, (Kind::Temporary, what));
    }

    #[tokio::test]
    async fn what_an_unknown_error_quotes_is_not_shown() {
        for text in [
            "pg_dump: error: query failed: ERROR:  strange thing \"MARK\" in \"MARK\n",
            "pg_dump: error: Error message from server: ERROR:  invalid byte sequence for encoding \"UTF8\": MARK\n",
            "pg_dump: error: x\nDETAIL:  MARK\npg_dump: detail: Command was: COPY MARK\n",
        ] {
            let (_, what) = failure(text).await;
            assert!(!what.contains("MARK"), "{what}");
        }
    }

    #[tokio::test]
    async fn kinds_are_those_of_the_exit_table() {
        for (text, kind) in [
            (
                "connection to server at \"h\", port 1 failed: FATAL:  password authentication failed for user \"u\"",
                Kind::Permission,
            ),
            ("connection to server at \"h\", port 1 failed: Connection refused", Kind::Temporary),
            (
                "connection to server at \"h\", port 1 failed: FATAL:  database \"x\" does not exist",
                Kind::Config,
            ),
            ("aborting because of server version mismatch", Kind::Config),
            (
                "query failed: ERROR:  query would be affected by row-level security policy for table \"t\"",
                Kind::Permission,
            ),
            ("query failed: ERROR:  canceling statement due to statement timeout", Kind::Temporary),
            (
                "Error message from server: ERROR:  missing chunk number 0 for toast value 1 in pg_toast_1",
                Kind::Data,
            ),
            ("something nobody knows", Kind::Unclassified),
        ] {
            assert_eq!(failure(&format!("pg_dump: error: {text}\n")).await.0, kind, "{text}");
        }
    }

    #[tokio::test]
    async fn warnings_are_counted_by_class_and_a_flood_is_bounded() {
        let mut text = "pg_dump: warning: there are circular foreign-key constraints on this table:\npg_dump: detail: t\n\
                        pg_dump: warning: subscriptions not dumped because current user is not a superuser\n"
            .to_owned();
        text.push_str(&"pg_dump: error: x\n".repeat(10_000));
        text.push_str(&"y".repeat(100_000));
        let said = said(&text).await;
        assert_eq!(said.errors.len(), ERRORS_KEPT);
        let classes: Vec<_> = said.warnings.iter().map(|(class, count)| (class.as_str(), *count)).collect();
        assert_eq!(classes, [("circular_foreign_keys", 1), ("subscriptions_not_dumped", 1)]);
    }
}
