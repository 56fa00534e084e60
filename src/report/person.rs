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

/// `text` with no character that could steer a terminal; line breaks and tabs stay.
pub fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "\u{fffd}")
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
    /// The figures per table, what was special, the totals and the warnings, each line ended.
    pub fn to_table(&self, look: Look) -> String {
        let mut text = String::new();
        if !self.tables.is_empty() {
            let _ = writeln!(text, "{}", self.figures(look));
        }
        for figures in &self.tables {
            let notes = [("read whole", &figures.reason), ("schema", &figures.schema_change)];
            for (what, note) in notes.iter().filter_map(|(what, note)| Some((what, note.as_ref()?))) {
                let _ = writeln!(text, "{}: {what}: {}", plain(&figures.table), plain(note));
            }
        }
        let _ = writeln!(text, "{}", self.summary());
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {}", plain(warning));
        }
        text
    }

    /// The table of figures; a count that is zero everywhere gives its column up in a narrow terminal.
    fn figures(&self, look: Look) -> Table {
        let rows: Vec<_> = self.tables.iter().map(row).collect();
        let all = lined_up(&rows, &[true; COLUMNS.len()], look);
        let gaps = 2 * (COLUMNS.len() as u16 - 1);
        if all.column_max_content_widths().iter().sum::<u16>().saturating_add(gaps) <= look.width {
            return all;
        }
        let kept = std::array::from_fn(|at| rows.iter().any(|row| row[at] != "-"));
        lined_up(&rows, &kept, look)
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

const COLUMNS: [&str; 10] =
    ["table", "mode", "read", "new", "changed", "deleted", "equal", "refused", "size", "time"];

fn row(figures: &TableFigures) -> [String; COLUMNS.len()] {
    let count = |number| figure(number, grouped(number));
    [
        plain(&figures.table),
        figures.mode.clone(),
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

/// `text`, or `-` when the number behind it is zero.
fn figure(number: u64, text: String) -> String {
    if number == 0 { "-".into() } else { text }
}

/// The `kept` columns of `rows`, names to the left and numbers to the right.
fn lined_up(rows: &[[String; COLUMNS.len()]], kept: &[bool; COLUMNS.len()], look: Look) -> Table {
    let chosen =
        |cells: Vec<Cell>| cells.into_iter().zip(kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if look.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let names = COLUMNS.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)).collect();
    table.set_header(chosen(names).collect::<Vec<_>>());
    for row in rows {
        let dim = |text: &String| {
            let cell = Cell::new(text);
            if text == "-" { cell.add_attribute(Attribute::Dim) } else { cell }
        };
        table.add_row(chosen(row.iter().map(dim).collect()).collect::<Vec<_>>());
    }
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if at < 2 { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
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
            schema_change: Some("column grade added".into()),
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
        assert_eq!(lines[2].join(" "), "public.employee: schema: column grade added");
        assert_eq!(lines[3].join(" "), "sync hr: ok: 1 table, 1,204 rows, 311.8 KiB in 4.1 s");
        assert_eq!(lines[4].join(" "), "warning: watermark pinned");
        assert!(!text.contains('\u{1b}'));

        let narrow = report.to_table(Look { width: 70, ..PLAIN });
        let row: Vec<&str> = narrow.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "public.employee incremental 1,204 1,204 311.8 KiB 412 ms");
    }

    #[test]
    fn a_report_without_tables_is_one_line() {
        let report = Report { command: "doctor".into(), duration_ms: 20, ..Default::default() };
        assert_eq!(report.to_table(PLAIN), "doctor: ok in 20 ms\n");
    }
}
