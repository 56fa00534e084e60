//! How long what is past is kept, resolved.
//!
//! In:    nothing; `config::resolve` builds it. Out: plain values.
//! Holds: the id of a run is kept for as long as a scheduler may try that run again.
//! Not here: backups (`backups: {keep}`), stages (`stage: {keep}`), what is deleted (`prune` of `etl`, `backup`).

use super::words::write_duration;
use serde::Serialize;
use std::time::Duration;

/// `retention:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Runs of pipelines, with the figures of their tables.
    #[serde(serialize_with = "write_duration")]
    pub runs: Duration,
    /// What checks have found; never longer than its run.
    #[serde(serialize_with = "write_duration")]
    pub checks: Duration,
    /// Records of backups, verifications, drills and coverage in the warehouse.
    #[serde(serialize_with = "write_duration")]
    pub records: Duration,
    /// Records of drills in the stores.
    #[serde(serialize_with = "write_duration")]
    pub drills: Duration,
}

impl Retention {
    /// A run that is younger is never forgotten: asked for again under its id, it must say `already_done`.
    /// A scheduler's own history of tries, and a person who clears last month's task, end before that.
    pub const SHORTEST_RUNS: Duration = Duration::from_secs(35 * 86_400);

    /// All of it for `time`.
    #[must_use]
    pub fn of(time: Duration) -> Retention {
        Retention { runs: time, checks: time, records: time, drills: time }
    }
}

impl Default for Retention {
    /// The same month of last year can still be looked at.
    fn default() -> Self {
        Retention::of(Duration::from_secs(400 * 86_400))
    }
}
