//! Log lines on stderr: one event, one line, one write.
//!
//! In:    `tracing` events. Out: text for a person, JSON for a collector.
//! Holds: a value with a line break in it cannot make a second line; other crates are heard only when
//!        they warn, since what they say at lower levels may quote data.
//! Not here: the final error (`main` prints it once).

use clap::builder::{Resettable, StyledStr};
use indicatif::MultiProgress;
use std::io::{self, Write};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Values without help of their own keep a help page at one line a flag.
const NO_HELP: Resettable<StyledStr> = Resettable::Reset;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Time, level, event, fields.
    #[default]
    #[value(help = NO_HELP)]
    Text,
    /// One JSON object.
    #[value(help = NO_HELP)]
    Json,
}

/// What is logged: errors with `-q`, else everything from info on; debug with `-v`, trace with `-vv`.
pub fn level(quiet: bool, verbose: u8) -> LevelFilter {
    match (quiet, verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    }
}

/// Starts logging to stderr, above `bars`, for the whole process. A second call changes nothing.
pub fn start(format: Format, level: LevelFilter, colour: bool, bars: &MultiProgress) {
    let others = level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(others).with_target("sankofa", level);
    let writer = Stderr { bars: bars.clone() };
    let layer = match format {
        Format::Text => fmt::layer().with_target(false).with_ansi(colour).with_writer(writer).boxed(),
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}

/// Makes writers that move the progress bars out of the way.
struct Stderr {
    bars: MultiProgress,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bars: &self.bars }
    }
}

/// Writes what it is given as one line; the subscriber gives it one event at a time.
struct Line<'a> {
    bars: &'a MultiProgress,
}

impl Write for Line<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = one_line(event);
        self.bars.suspend(|| io::stderr().write_all(&line))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `event` with its inner line breaks written as `\n`.
fn one_line(event: &[u8]) -> Vec<u8> {
    let body = event.strip_suffix(b"\n").unwrap_or(event);
    let mut line = Vec::with_capacity(event.len() + 8);
    for byte in body {
        match byte {
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            _ => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_line_breaks_stays_on_its_line() {
        assert_eq!(one_line(b"loaded table=\"a\nb\r\"\n"), b"loaded table=\"a\\nb\\r\"\n");
        assert_eq!(one_line(b"loaded\n"), b"loaded\n");
    }

    #[test]
    fn quiet_wins_over_verbose() {
        assert_eq!(level(true, 2), LevelFilter::ERROR);
        assert_eq!([level(false, 0), level(false, 1)], [LevelFilter::INFO, LevelFilter::DEBUG]);
    }
}
