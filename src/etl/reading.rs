//! Which rows of a table are read, and why: all of them, those from the watermark on, a window.
//!
//! In:    what [`crate::etl::plan`] is made from; the replication key, the last watermark, what changed.
//! Out:   a [`Reading`].
//! Holds: pure. What needs every row is never served by a part of them: a part would be taken as done.
//! Not here: the SQL (`etl::predicate`), how far a watermark may move (`etl::window`).

use crate::config::model::{Mode, TableSpec};
use crate::error::Failure;
use crate::etl::contract::Decision;
use crate::etl::fingerprint;
use crate::etl::plan::Inputs;
use crate::etl::reset::place;
use crate::etl::window::{self, Bound, KeyKind, ReplicationKey, Watermark};
use crate::table::TableName;
use serde::{Deserialize, Serialize};

/// Which rows are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Every row, for this reason.
    All(String),
    /// Rows from the watermark on.
    From { value: i64, after: bool },
    /// Rows before `until`, from the watermark on; `None`: from the start. The watermark moves there.
    Until { value: Option<i64>, after: bool, until: i64 },
    /// A window asked for by hand; the watermark stays.
    Window { from: String, to: String },
}

impl Reading {
    /// Whether it is a part that was asked for by hand.
    pub fn is_part(&self) -> bool {
        matches!(self, Reading::Window { .. } | Reading::Until { .. })
    }
}

/// Decides which rows are read.
///
/// # Errors
/// 78 for a part of a table that has none, and for a lookback in the wrong unit; 65 for a part where
/// every row is needed.
pub fn reading(
    inputs: &Inputs<'_>,
    key: Option<&ReplicationKey>,
    last: Option<&Watermark>,
    decision: &Decision,
    settings: &str,
) -> Result<Reading, Failure> {
    let needs_all = || whole(inputs, decision, settings);
    let too_small = |why: String| Err(window_too_small(&inputs.spec.name, &why));
    if let Some((from, to)) = &inputs.wishes.window {
        return match (parts_of(inputs, key, &[Mode::Incremental])?, needs_all()) {
            (_, None) => Ok(Reading::Window { from: from.clone(), to: to.clone() }),
            (_, Some(why)) => too_small(why),
        };
    }
    let until = match inputs.wishes.until {
        None => None,
        Some(point) => {
            let key = parts_of(inputs, key, &[Mode::Incremental, Mode::Append])?;
            Some(place(point, &key.kind).map_err(|why| wrong_point(inputs, key, why))?)
        }
    };
    let Some(key) = key else { return Ok(Reading::All("mode: full_refresh".to_owned())) };
    let lookback = lookback(inputs.spec, key)?;
    match (needs_all(), until) {
        (Some(why), None) => return Ok(Reading::All(why)),
        // A table that is not there can be made of its first part.
        (Some(_), Some(until)) if inputs.target.is_none() => {
            return Ok(Reading::Until { value: None, after: false, until });
        }
        (Some(why), Some(_)) => return too_small(why),
        (None, _) => {}
    }
    Ok(match (window::bound(last, key, inputs.facts, lookback), until) {
        (Bound::All(why), None) => Reading::All(why),
        (Bound::All(_), Some(until)) => Reading::Until { value: None, after: false, until },
        (Bound::From { value, after }, None) => Reading::From { value, after },
        (Bound::From { value, after }, Some(until)) => Reading::Until { value: Some(value), after, until },
    })
}

/// The key that a part is cut by.
fn parts_of<'a>(
    inputs: &Inputs<'_>,
    key: Option<&'a ReplicationKey>,
    modes: &[Mode],
) -> Result<&'a ReplicationKey, Failure> {
    key.filter(|key| modes.contains(&inputs.spec.mode) && key.kind != KeyKind::Xmin).ok_or_else(|| {
        Failure::config(format!(
            "cannot read a window of {}: only an incremental table has one",
            inputs.spec.name
        ))
        .hint("Name the incremental tables with --table.")
    })
}

fn wrong_point(inputs: &Inputs<'_>, key: &ReplicationKey, why: &str) -> Failure {
    Failure::usage(format!(
        "cannot read {} up to there: its replication key {} {why}",
        inputs.spec.name, key.name
    ))
    .hint("Name the tables of one kind with --table, and a point of their kind with --until.")
}

/// Why rows from the watermark on, or of a window, are not enough.
fn whole(inputs: &Inputs<'_>, decision: &Decision, settings: &str) -> Option<String> {
    let target = &inputs.target_name;
    let said = match (inputs.state, inputs.filled_from) {
        _ if inputs.wishes.full_refresh => "--full-refresh",
        (None, Some(other)) => {
            return Some(format!("first load; {target} was filled from {other} until now"));
        }
        (None, None) => "first load",
        (Some(state), _) if inputs.target.is_none() && state.target != target.to_string() => {
            return Some(format!("its target was {}, which stays as it is", state.target));
        }
        (Some(_), _) if inputs.target.is_none() => "the warehouse table is gone",
        (Some(_), _) if decision.reload => "the schema has changed",
        (Some(state), _) => fingerprint::difference(&state.settings, settings)?,
    };
    Some(said.to_owned())
}

/// Publishing a window would take what all other rows still need as done.
fn window_too_small(name: &TableName, why: &str) -> Failure {
    let failure =
        Failure::data(format!("cannot read a window of {name}: all its rows have to be read ({why})"));
    failure.hint(match why {
        "first load" => "Run it once without --from and --to, or part by part with --until.",
        _ => "Run it once without --from, --to and --until.",
    })
}

fn lookback(spec: &TableSpec, key: &ReplicationKey) -> Result<u64, Failure> {
    window::reach(spec.lookback, &key.kind).ok_or_else(|| {
        Failure::config(format!(
            "cannot read {}: its lookback is not in the unit of its replication key {}",
            spec.name, key.name
        ))
        .hint("A time key takes a duration such as `10m`, an integer key a count such as `1000`.")
    })
}
