//! What a quality check has found, and what a person needs to know of a miss.
//!
//! In:    figures, verdict, keys of refused rows. Out: the same in words.
//! Holds: of a row nothing but its key is in it, and of that no column that is masked or of text.
//! Not here: how it is measured (`etl::quality`), which keys may be shown (`etl::publish`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checked {
    /// The source table.
    pub table: String,
    /// Name of the check, such as `null_rate(hire_date)`.
    pub check: String,
    /// `batch` or `table`.
    pub scope: String,
    /// `warn` or `fail`.
    pub severity: String,
    /// The figure; `None` where there is nothing to measure, such as the age of no rows.
    pub measured: Option<f64>,
    /// The bound, in words.
    pub bound: String,
    /// Whether the figure keeps it.
    pub passed: bool,
    /// When the first of the runs in a row that missed it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// That run's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_run: Option<String>,
    /// Keys of a few rows that it refuses, such as `emp_no=12`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    /// There are more of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_rows: bool,
    /// Who has accepted the miss for this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_because: Option<String>,
}

impl Checked {
    /// Whether it stops the run: it was missed, may fail it, and nobody has accepted that.
    pub fn refuses(&self) -> bool {
        !self.passed && self.severity == "fail" && self.accepted_by.is_none()
    }

    /// What it found, for a person.
    pub fn words(&self) -> String {
        let figure = match self.measured {
            Some(figure) if self.check.starts_with("null_rate") || self.check == "rows.max_change" => {
                percent(figure)
            }
            Some(figure) => format!("{figure}"),
            None => "nothing".to_owned(),
        };
        format!("{}: {} is {figure}, must be {}", self.table, self.check, self.bound)
    }

    /// As [`Checked::words`], and who has accepted it.
    pub fn told(&self) -> String {
        match (&self.accepted_by, &self.accepted_because) {
            (Some(by), Some(why)) => format!("{}; accepted for this run by {by}: {why}", self.words()),
            _ => self.words(),
        }
    }

    /// Since when, and which rows; empty where neither is known.
    pub fn details(&self) -> String {
        let since = self.since.map(|at| {
            let at = at.strftime("%Y-%m-%d %H:%M UTC");
            match &self.since_run {
                Some(run) => format!("since {at} (run {run})"),
                None => format!("since {at}"),
            }
        });
        let more = if self.more_rows { " and more" } else { "" };
        let rows = (!self.rows.is_empty()).then(|| format!("rows {}{more}", self.rows.join("; ")));
        since.into_iter().chain(rows).collect::<Vec<_>>().join("; ")
    }
}

/// A share in percent, two digits at most.
pub fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_told_with_figure_bound_since_when_and_rows() {
        let checked = Checked {
            table: "public.e".into(),
            check: "null_rate(hire_date)".into(),
            severity: "fail".into(),
            measured: Some(0.125),
            bound: "at most 0 %".into(),
            since: Some("2026-11-20T03:00:00Z".parse().unwrap()),
            since_run: Some("a/b".into()),
            rows: vec!["emp_no=12".into(), "emp_no=15".into()],
            more_rows: true,
            ..Default::default()
        };
        assert!(checked.refuses());
        assert_eq!(checked.words(), "public.e: null_rate(hire_date) is 12.5 %, must be at most 0 %");
        let details = "since 2026-11-20 03:00 UTC (run a/b); rows emp_no=12; emp_no=15 and more";
        assert_eq!(checked.details(), details);
        let accepted = Checked {
            accepted_by: Some("Ama".into()),
            accepted_because: Some("late forms".into()),
            ..checked
        };
        assert!(!accepted.refuses());
        assert!(accepted.told().ends_with("; accepted for this run by Ama: late forms"));
    }
}
