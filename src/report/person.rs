//! A report as a person reads it on a terminal.
//!
//! In:    a report, the terminal's width. Out: lines of text.
//! Holds: figures carry their unit and separators; a zero is a dim `-`, so that what moved stands out.

use super::{Report, Status, TableFigures};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Write;

/// How wide a person's terminal is, and whether it shows colours.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: u16,
    /// Whether escape sequences may be used.
    pub colour: bool,
}

/// A number with a comma between thousands: `1,204`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that leaves one to three digits before the point: `311.8 KiB`.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Milliseconds as a person says them: `412 ms`, `4.1 s`, `2 min 05 s`, `1 h 02 min`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

impl Report {
    /// The figures per table, the totals and the warnings, each line ended.
    pub fn to_table(&self, look: Look) -> String {
        let mut text = String::new();
        if !self.tables.is_empty() {
            let _ = writeln!(text, "{}", self.figures(look).trim_fmt());
        }
        let _ = writeln!(text, "{}", self.summary());
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }

    fn figures(&self, look: Look) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(look.width);
        if look.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let names =
            ["table", "mode", "read", "new", "changed", "deleted", "equal", "refused", "size", "time"];
        table.set_header(names.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        for figures in &self.tables {
            table.add_row(row(figures));
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// `sync hr: ok: 3 tables, 1,204 rows, 311.8 KiB in 4.1 s (run 0192...)`.
    fn summary(&self) -> String {
        let mut text = self.command.clone();
        if let Some(pipeline) = &self.pipeline {
            let _ = write!(text, " {pipeline}");
        }
        let _ = write!(text, ": {}", self.status.word().replace('_', " "));
        let mut facts = Vec::new();
        if !self.tables.is_empty() {
            facts.push(counted(self.tables.len() as u64, "table"));
        }
        if !self.tables.is_empty() || self.rows > 0 {
            facts.extend([counted(self.rows, "row"), size(self.bytes)]);
        }
        if self.checks_failed > 0 {
            facts.push(format!("{} failed", counted(self.checks_failed, "check")));
        }
        if self.checks_warned > 0 {
            facts.push(format!("{} warned", counted(self.checks_warned, "check")));
        }
        let separator = if facts.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{} in {}", facts.join(", "), duration(self.duration_ms));
        if let (Some(run_id), false) = (&self.run_id, self.status == Status::Skipped) {
            let _ = write!(text, " (run {run_id})");
        }
        text
    }
}

/// `1 row`, `1,204 rows`.
fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn row(figures: &TableFigures) -> Vec<Cell> {
    let mode = match &figures.reason {
        Some(reason) => format!("{} ({reason})", figures.mode),
        None => figures.mode.clone(),
    };
    let count = |number| figure(number, grouped(number));
    vec![
        Cell::new(&figures.table),
        Cell::new(mode),
        count(figures.read),
        count(figures.inserted),
        count(figures.updated),
        count(figures.deleted),
        count(figures.unchanged),
        count(figures.rejected),
        figure(figures.bytes, size(figures.bytes)),
        figure(figures.ms, duration(figures.ms)),
    ]
}

/// `text`, or a dim `-` when the number behind it is zero.
fn figure(number: u64, text: String) -> Cell {
    if number == 0 { Cell::new("-").add_attribute(Attribute::Dim) } else { Cell::new(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { width: 120, colour: false };

    #[test]
    fn figures_carry_separators_and_units() {
        assert_eq!([grouped(0), grouped(999), grouped(1_204_000)], ["0", "999", "1,204,000"]);
        assert_eq!([size(12), size(1024), size(319_283)], ["12 B", "1.0 KiB", "311.8 KiB"]);
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        assert_eq!([duration(412), duration(4_120), duration(125_000)], ["412 ms", "4.1 s", "2 min 05 s"]);
        assert_eq!(duration(3_720_000), "1 h 02 min");
    }

    #[test]
    fn a_zero_is_a_dash_and_the_totals_stand_below() {
        let figures = TableFigures {
            table: "public.employee".into(),
            mode: "incremental".into(),
            read: 1204,
            updated: 1204,
            bytes: 319_283,
            ms: 412,
            ..Default::default()
        };
        let report = Report {
            command: "sync".into(),
            pipeline: Some("hr".into()),
            rows: 1204,
            bytes: 319_283,
            duration_ms: 4_120,
            tables: vec![figures],
            warnings: vec!["watermark pinned".into()],
            ..Default::default()
        };
        let text = report.to_table(PLAIN);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let row = "public.employee incremental 1,204 - 1,204 - - - 311.8 KiB 412 ms";
        assert_eq!(lines[1].join(" "), row);
        assert_eq!(lines[2].join(" "), "sync hr: ok: 1 table, 1,204 rows, 311.8 KiB in 4.1 s");
        assert_eq!(lines[3].join(" "), "warning: watermark pinned");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_report_without_tables_is_one_line() {
        let report = Report { command: "doctor".into(), duration_ms: 20, ..Default::default() };
        assert_eq!(report.to_table(PLAIN), "doctor: ok in 20 ms\n");
    }
}
