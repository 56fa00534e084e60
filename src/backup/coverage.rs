//! Every database of every server against its newest backup.
//!
//! In:    what is found on the servers, what the project lists and ignores, the newest good backups.
//! Out:   one [`Row`] a database, gaps marked.
//! Holds: pure; what cannot be looked at is a gap, never a skip; a database is told by its server's
//!        identity and its OID, whatever connection leads to it.
//! Not here: asking servers and stores (`backup::coverage::look`).

pub mod look;

use crate::report::lines::span;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// A backup may be this much ahead of our clock, seconds.
const AHEAD_S: i64 = 300;

/// A database, wherever it is looked at from: `system_identifier` of its server, and its OID.
pub type Identity = (String, u32);

/// One server of `servers:`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Id of its connection.
    pub id: String,
    /// Its `system_identifier` and its databases, or why they cannot be told.
    pub found: Result<(String, Vec<Found>), String>,
}

/// A database that a server has.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its OID.
    pub oid: u32,
    /// Why it holds nothing to back up, if it does not.
    pub exempt: Option<&'static str>,
    /// Whether the role that looked may connect to it.
    pub may_connect: bool,
}

/// A database of `databases:`.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name in the project.
    pub name: String,
    /// Id of its connection.
    pub connection: String,
    /// How old its newest backup may be.
    pub expected_every: Duration,
    /// Which database its connection leads to, and that one's name; or why it cannot be told.
    pub identity: Result<(Identity, String), String>,
    /// Its newest good backup, or why that cannot be told.
    pub newest: Result<Option<Newest>, String>,
}

/// The newest good backup of a database.
#[derive(Clone, Debug)]
pub struct Newest {
    /// When its dump began.
    pub started_at: Timestamp,
    /// When the store took it.
    pub stored_at: Timestamp,
    /// What it was made of.
    pub source: Option<Identity>,
}

impl Newest {
    /// When it was made, as the more pessimistic of two clocks says.
    fn at(&self) -> Timestamp {
        self.started_at.min(self.stored_at)
    }
}

/// What is said of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its newest backup is young enough.
    Covered,
    /// It holds nothing to back up.
    Exempt,
    /// The project ignores it.
    Ignored,
    /// It is not covered.
    Gap,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Covered => "covered",
            Verdict::Exempt => "exempt",
            Verdict::Ignored => "ignored",
            Verdict::Gap => "GAP",
        }
    }
}

/// One database, or one thing that hides databases from us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Id of the connection that it was looked at from.
    pub server: String,
    /// Its name on the server; `None` where a whole server is meant.
    pub database: Option<String>,
    /// Its name in the project.
    pub listed: Option<String>,
    /// When its newest good backup was made.
    pub newest_at: Option<Timestamp>,
    /// How old that is, and how old it may be, seconds.
    pub age_s: Option<(i64, u64)>,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, in words.
    pub said: String,
}

/// The rows, server by server; then what is listed and found on none of them, and what is ignored in vain.
pub fn judge(servers: &[Server], listed: &[Listed], ignore: &[String], now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen: BTreeSet<Identity> = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for server in servers {
        let (identity, all) = match &server.found {
            Ok(found) => found,
            Err(why) => {
                rows.push(row(
                    &server.id,
                    None,
                    Verdict::Gap,
                    format!("its databases cannot be told: {why}"),
                ));
                continue;
            }
        };
        for found in all {
            names.insert(&found.name);
            let of = (identity.clone(), found.oid);
            if !seen.insert(of.clone()) {
                continue; // the same server by another connection
            }
            let by: Vec<&Listed> = listed.iter().filter(|one| known(one) == Some(&of)).collect();
            told.extend(by.iter().map(|one| one.name.as_str()));
            match by[..] {
                [] => rows.push(unlisted(server, found, ignore)),
                _ => rows.extend(by.iter().map(|one| aged(one, &server.id, Some(&found.name), ignore, now))),
            }
        }
    }
    let elsewhere = listed.iter().filter(|one| !told.contains(one.name.as_str()));
    rows.extend(elsewhere.map(|one| {
        let name = one.identity.as_ref().ok().map(|(_, name)| name.as_str());
        aged(one, &one.connection, name, ignore, now)
    }));
    if servers.iter().all(|server| server.found.is_ok()) {
        let vain = ignore.iter().filter(|name| !names.contains(name.as_str()));
        let why = "it is ignored, and no server has it: remove it from `ignore:`";
        rows.extend(vain.map(|name| row("-", Some(name), Verdict::Gap, why.into())));
    }
    rows
}

/// Which database it is: as its connection says, else as its newest backup does.
fn known(listed: &Listed) -> Option<&Identity> {
    let by_backup = || listed.newest.as_ref().ok()?.as_ref()?.source.as_ref();
    listed.identity.as_ref().ok().map(|(identity, _)| identity).or_else(by_backup)
}

fn row(server: &str, database: Option<&str>, verdict: Verdict, said: String) -> Row {
    let (server, database) = (server.to_owned(), database.map(str::to_owned));
    Row { server, database, listed: None, newest_at: None, age_s: None, verdict, said }
}

fn unlisted(server: &Server, found: &Found, ignore: &[String]) -> Row {
    let (verdict, said) = match found.exempt {
        Some(why) => (Verdict::Exempt, why.to_owned()),
        None if ignore.contains(&found.name) => (Verdict::Ignored, "listed under `ignore:`".to_owned()),
        None if found.may_connect => {
            (Verdict::Gap, "neither under `databases:` nor under `ignore:`".to_owned())
        }
        None => {
            let why = "neither under `databases:` nor under `ignore:`, and CONNECT is not granted";
            (Verdict::Gap, why.to_owned())
        }
    };
    row(&server.id, Some(&found.name), verdict, said)
}

/// A listed database by the age of its newest backup.
fn aged(listed: &Listed, server: &str, database: Option<&str>, ignore: &[String], now: Timestamp) -> Row {
    let limit = listed.expected_every.as_secs();
    let newest = listed.newest.as_ref().ok().and_then(Option::as_ref).map(Newest::at);
    let age_s = newest.map(|at| now.duration_since(at).as_secs());
    let gap = |said: String| (Verdict::Gap, said);
    let both = database.is_some_and(|name| ignore.iter().any(|ignored| ignored == name));
    let (verdict, said) = match (&listed.newest, &listed.identity, age_s) {
        (Err(why), _, _) => gap(format!("its backups cannot be told: {why}")),
        (Ok(None), _, _) => gap("it has no good backup".into()),
        (_, _, Some(age)) if age < -AHEAD_S => {
            gap(format!("its newest backup is {} ahead of now: a clock is wrong", span(age.unsigned_abs())))
        }
        (_, _, Some(age)) if age.max(0).unsigned_abs() > limit => {
            gap(format!("late by {}", span(age.unsigned_abs() - limit)))
        }
        (_, Err(why), _) => gap(format!("the next backup would fail: {why}")),
        _ if both => gap("it is backed up and under `ignore:` too: remove it there".into()),
        _ => (Verdict::Covered, String::new()),
    };
    let age_s = age_s.map(|age| (age, limit));
    let listed = Some(listed.name.clone());
    Row { listed, newest_at: newest, age_s, ..row(server, database, verdict, said) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn found(name: &str, oid: u32) -> Found {
        Found { name: name.into(), oid, exempt: None, may_connect: true }
    }

    fn server(id: &str, identity: &str, all: &[Found]) -> Server {
        Server { id: id.into(), found: Ok((identity.into(), all.to_vec())) }
    }

    /// A database whose newest backup is `hours` old and may be 26 hours old.
    fn listed(name: &str, of: (&str, u32), hours: i64) -> Listed {
        let at = now() - jiff::SignedDuration::from_hours(hours);
        let identity = (of.0.to_owned(), of.1);
        Listed {
            name: name.into(),
            connection: format!("{name}_db"),
            expected_every: Duration::from_secs(26 * 3600),
            identity: Ok((identity.clone(), name.into())),
            newest: Ok(Some(Newest { started_at: at, stored_at: at, source: Some(identity) })),
        }
    }

    fn said(rows: &[Row]) -> Vec<(&str, Verdict, &str)> {
        rows.iter()
            .map(|row| (row.database.as_deref().unwrap_or("*"), row.verdict, row.said.as_str()))
            .collect()
    }

    #[test]
    fn a_database_is_covered_up_to_its_limit_and_late_after_it() {
        let servers = [server("a", "7", &[found("hr", 1), found("late", 2), found("new", 3)])];
        let all = [listed("hr", ("7", 1), 26), listed("late", ("7", 2), 29)];
        let rows = judge(&servers, &all, &[], now());
        let expected = [
            ("hr", Verdict::Covered, ""),
            ("late", Verdict::Gap, "late by 3 h"),
            ("new", Verdict::Gap, "neither under `databases:` nor under `ignore:`"),
        ];
        assert_eq!(said(&rows), expected);
        assert_eq!(rows[0].listed.as_deref(), Some("hr"));
    }

    #[test]
    fn a_database_of_the_same_name_on_another_server_is_not_the_same() {
        let servers = [server("a", "7", &[found("hr", 1)]), server("b", "8", &[found("hr", 1)])];
        let rows = judge(&servers, &[listed("hr", ("7", 1), 1)], &[], now());
        assert_eq!((rows[0].verdict, rows[1].verdict), (Verdict::Covered, Verdict::Gap));
        let same = [server("a", "7", &[found("hr", 1)]), server("again", "7", &[found("hr", 1)])];
        assert_eq!(judge(&same, &[listed("hr", ("7", 1), 1)], &[], now()).len(), 1);
    }

    #[test]
    fn templates_are_exempt_by_name_and_revoked_connect_is_a_gap() {
        let template = Found { exempt: Some("a template"), ..found("template1", 1) };
        let revoked = Found { may_connect: false, ..found("secret", 2) };
        let servers = [server("a", "7", &[template, revoked.clone(), found("scratch", 3)])];
        let rows = judge(&servers, &[], &["scratch".into()], now());
        assert_eq!(
            rows.iter().map(|row| row.verdict).collect::<Vec<_>>(),
            [Verdict::Exempt, Verdict::Gap, Verdict::Ignored]
        );
        assert!(rows[1].said.ends_with("and CONNECT is not granted"));
        let refused = Listed { identity: Err("permission denied".into()), ..listed("secret", ("7", 2), 1) };
        let rows = judge(&[server("a", "7", &[revoked])], &[refused], &[], now());
        assert_eq!(said(&rows), [("secret", Verdict::Gap, "the next backup would fail: permission denied")]);
    }

    #[test]
    fn what_cannot_be_looked_at_is_a_gap() {
        let down = Server { id: "a".into(), found: Err("connection refused".into()) };
        let no_store = Listed { newest: Err("cannot list bucket x".into()), ..listed("hr", ("7", 1), 1) };
        let none = Listed { newest: Ok(None), ..listed("records", ("7", 2), 1) };
        let rows = judge(&[down], &[no_store, none], &["scratch".into()], now());
        let expected = [
            ("*", Verdict::Gap, "its databases cannot be told: connection refused"),
            ("hr", Verdict::Gap, "its backups cannot be told: cannot list bucket x"),
            ("records", Verdict::Gap, "it has no good backup"),
        ];
        assert_eq!(said(&rows), expected);
    }

    #[test]
    fn an_ignored_name_that_fits_nothing_or_what_is_backed_up_is_a_gap() {
        let servers =
            [server("a", "7", &[found("hr", 1), Found { exempt: Some("x"), ..found("template0", 2) }])];
        let ignore = ["hr", "template0", "gone"].map(str::to_owned);
        let rows = judge(&servers, &[listed("hr", ("7", 1), 1)], &ignore, now());
        assert!(rows[0].said.starts_with("it is backed up and under `ignore:` too"));
        assert_eq!((rows[1].verdict, rows[2].database.as_deref()), (Verdict::Exempt, Some("gone")));
        assert_eq!((rows.len(), rows[2].verdict), (3, Verdict::Gap));
    }

    #[test]
    fn neither_a_future_time_nor_one_clock_alone_makes_a_backup_young() {
        let rows = |started: i64, stored: i64| {
            let at = |hours| now() - jiff::SignedDuration::from_hours(hours);
            let newest = Newest { started_at: at(started), stored_at: at(stored), source: None };
            let one = Listed { newest: Ok(Some(newest)), ..listed("hr", ("7", 1), 1) };
            judge(&[], &[one], &[], now()).remove(0)
        };
        assert_eq!(rows(1, 1).verdict, Verdict::Covered);
        assert_eq!(rows(-960, 30).said, "late by 4 h");
        assert_eq!(rows(-48, -48).said, "its newest backup is 2 days ahead of now: a clock is wrong");
    }
}
