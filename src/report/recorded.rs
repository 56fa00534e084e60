//! A report in the ledger, and back: what asking again for a run that is done returns.
//!
//! In:    a report, or the object that was kept of one. Out: the other.
//! Holds: an object of an older version is read as far as it goes.

use super::{ErrorFields, Report, Status, TableFigures};
use crate::error::Checked;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The fields of an object; what is missing is zero or empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Recorded {
    #[serde(rename = "schema")]
    _schema: u32,
    status: Status,
    command: String,
    pipeline: Option<String>,
    run_id: Option<String>,
    rows: u64,
    bytes: u64,
    started_at: Timestamp,
    duration_ms: u64,
    full_refresh: bool,
    checks_failed: u64,
    checks_warned: u64,
    missed: Vec<Checked>,
    tables: Vec<TableFigures>,
    warnings: Vec<String>,
    error: Option<ErrorFields>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// The whole object, nothing left out.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.object(usize::MAX).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let old = Recorded::deserialize(from)?;
        Ok(Report {
            status: old.status,
            command: old.command,
            pipeline: old.pipeline,
            run_id: old.run_id,
            rows: old.rows,
            bytes: old.bytes,
            started_at: old.started_at,
            duration_ms: old.duration_ms,
            full_refresh: old.full_refresh,
            checks_failed: old.checks_failed,
            checks_warned: old.checks_warned,
            missed: old.missed,
            tables: old.tables,
            warnings: old.warnings,
            error: old.error,
            extra: old.extra,
            text: None,
        })
    }
}

impl Report {
    /// This report of a run that was done before, with the figures that were recorded then; those of
    /// an object that makes no sense are empty.
    #[must_use]
    pub fn already_done(self, recorded: Value) -> Self {
        let old: Report = serde_json::from_value(recorded).unwrap_or_default();
        let Report { command, pipeline, run_id, started_at, duration_ms, .. } = self;
        Report {
            status: Status::AlreadyDone,
            command,
            pipeline,
            run_id,
            started_at,
            duration_ms,
            error: None,
            text: None,
            ..old
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recorded_report_comes_back_with_its_figures_under_the_new_process() {
        let table = TableFigures {
            table: "public.a".into(),
            read: 7,
            watermark: Some("2026-01-01".into()),
            ..Default::default()
        };
        let old = Report {
            command: "load".into(),
            rows: 7,
            duration_ms: 900,
            tables: vec![table],
            warnings: vec!["pinned".into()],
            extra: Map::from_iter([("lag_s".to_owned(), json!(4))]),
            ..Default::default()
        };
        let new = Report { command: "sync".into(), run_id: Some("a/b".into()), ..Default::default() };
        let again = new.already_done(serde_json::to_value(&old).unwrap());
        assert_eq!((again.status, again.exit_code()), (Status::AlreadyDone, 0));
        assert_eq!((again.command.as_str(), again.run_id.as_deref()), ("sync", Some("a/b")));
        assert_eq!((again.rows, again.duration_ms), (7, 0));
        assert_eq!((again.tables, again.warnings, again.extra), (old.tables, old.warnings, old.extra));
    }

    #[test]
    fn an_object_that_makes_no_sense_is_read_as_empty() {
        let again = Report::default().already_done(json!({"rows": "many"}));
        assert_eq!((again.status, again.rows), (Status::AlreadyDone, 0));
    }
}
