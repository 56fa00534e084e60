//! Small tables and ages of a command's own text, for a person on a terminal.
//!
//! In:    a header and rows of cells, seconds. Out: lines of text, each ended.
//! Holds: no cell can steer a terminal; no line ends in blanks.

use super::plain;
use jiff::Timestamp;

/// A time as a person reads it.
pub fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Rows under a header, each column as wide as its widest cell, two blanks apart, indented by two.
pub fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(&head).chain(rows).map(|row| clean(row)).collect();
    let width = |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..header.len()).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = format!("  {}", cells.collect::<Vec<_>>().join("  "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn clean(row: &[String]) -> Vec<String> {
    row.iter().map(|cell| plain(cell).replace(['\n', '\t'], " ")).collect()
}

/// How long ago something was: `4 min ago`, `3 days ago`.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds.unsigned_abs()))
}

/// A length of time in its largest unit: `12 s`, `4 min`, `7 h`, `3 days`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_cells_cannot_steer_a_terminal() {
        let rows = [vec!["a".into(), "ɛɛɛ".into()], vec!["bb\u{1b}".into(), "".into()]];
        assert_eq!(columns(&["x", "y"], &rows), "  x    y\n  a    ɛɛɛ\n  bb\u{fffd}\n");
    }

    #[test]
    fn an_age_is_said_in_its_largest_unit() {
        assert_eq!([span(5), span(300), span(7_200), span(400_000)], ["5 s", "5 min", "2 h", "4 days"]);
        assert_eq!(ago(90), "90 s ago");
    }
}
