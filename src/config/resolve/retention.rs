//! `retention:` -> [`Retention`].
//!
//! In:    the raw keys. Out: times with every default filled in.
//! Holds: runs are kept for as long as a scheduler may try them again.

use super::At;
use crate::config::node::Fault;
use crate::config::raw::retention::RetentionKeys;
use crate::config::retention::Retention;

/// Resolves the keys.
///
/// # Errors
/// A [`Fault`] at `runs`, when it is too short.
pub fn resolve(at: At<'_>, keys: &RetentionKeys) -> Result<Retention, Fault> {
    let default = Retention::default();
    let runs = keys.runs.map_or(default.runs, |length| length.0);
    if runs < Retention::SHORTEST_RUNS {
        return Err(at
            .fault(&["retention", "runs"], "expected 35d or more")
            .hint("For so long a scheduler may ask for a run again, and it must be known as done."));
    }
    Ok(Retention {
        runs,
        checks: keys.checks.map_or(default.checks, |length| length.0).min(runs),
        records: keys.records.map_or(default.records, |length| length.0),
        drills: keys.drills.map_or(default.drills, |length| length.0),
    })
}
