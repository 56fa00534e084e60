//! How everything stands: what is late, failed or missing, of pipelines, tables, checks, backups, drills.
//!
//! In:    the project; what warehouse and stores say of it; the time.
//! Out:   one [`Line`] a thing, sorted by what wants attention; figures for charts.
//! Holds: what could not be asked is said and never taken for good.
//! Not here: asking (`look`), how it is shown (`html`, `cmd::status`).

pub mod chart;
pub mod html;
pub mod judge;
pub mod look;
pub mod schedule;

use crate::config::model::{Pipeline, Project};
use crate::error::Failure;
use crate::ledger::overview::Overview;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Pipelines.
    Pipelines,
    /// Their tables.
    Tables,
    /// Their checks.
    Checks,
    /// Newest backups.
    Backups,
    /// Newest drills.
    Drills,
    /// Databases that nobody backs up.
    Coverage,
}

impl Part {
    /// All of them, in the order of a page.
    pub const ALL: [Part; 6] =
        [Part::Pipelines, Part::Tables, Part::Checks, Part::Backups, Part::Drills, Part::Coverage];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Part::Pipelines => "pipelines",
            Part::Tables => "tables",
            Part::Checks => "checks",
            Part::Backups => "backups",
            Part::Drills => "drills",
            Part::Coverage => "coverage",
        }
    }
}

/// How one thing stands; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The newest try failed.
    Failed,
    /// It was never there.
    Missing,
    /// It was due.
    Late,
    /// It could not be asked.
    Unknown,
    /// Worth a look.
    Warned,
    /// As it should be.
    Good,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Failed => "failed",
            Verdict::Missing => "missing",
            Verdict::Late => "late",
            Verdict::Unknown => "unknown",
            Verdict::Warned => "warned",
            Verdict::Good => "good",
        }
    }

    /// Whether it is what `status` ends with 65 for.
    pub fn is_bad(self) -> bool {
        self <= Verdict::Late
    }
}

/// What is said of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What kind of thing it is.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// When it was last as it should be, or since when it is not.
    pub at: Option<Timestamp>,
    /// In words.
    pub said: String,
}

/// One backup that is in a store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// When it was made, as the more pessimistic of two clocks says.
    pub at: Timestamp,
    /// Bytes in the store.
    pub stored_bytes: u64,
}

/// One drill as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it ended.
    pub at: Timestamp,
    /// The restored database was equal.
    pub proven: bool,
    /// How long it took, and how long it may take, milliseconds.
    pub took_ms: (u64, u64),
}

/// What a store says of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Good backups, newest first.
    pub backups: Vec<Kept>,
    /// Drills, newest first.
    pub drills: Vec<Proof>,
}

/// Everything that was asked, before it is judged.
pub struct Seen {
    /// The pipelines, or why one cannot be read.
    pub pipelines: Vec<(String, Result<Pipeline, Failure>)>,
    /// What the ledger says; `None`: there is no warehouse.
    pub ledger: Option<Result<Overview, Failure>>,
    /// What the stores say, by database.
    pub stores: BTreeMap<String, Result<Stored, Failure>>,
}

/// How old things may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The newest published run of a pipeline; `None`: as its schedule says, else 26 hours.
    pub rows: Option<Duration>,
    /// The newest drill that proved a database.
    pub drill: Duration,
}

/// What is asked, and when.
pub struct Question<'a> {
    /// The operator's half.
    pub project: &'a Project,
    /// How old things may be.
    pub limits: Limits,
    /// The time.
    pub now: Timestamp,
}
