//! Arguments that several commands share, and the grammar of their values.
//!
//! In:    words of the command line. Out: values in bounds.
//! Holds: a value that is refused is described, never quoted by our own words.
//! Not here: whether a name in them exists (`config`).

use super::overrides::OverrideArgs;
use crate::config::model::{Pipeline, TableSpec};
use crate::config::words;
use crate::error::Failure;
use crate::etl::plan::Wishes;
use crate::etl::reset;
use crate::logging::Format;
use crate::table::{TableName, quote_if_needed};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const GLOBAL: &str = "Options of every command";

/// Options of every command.
#[derive(clap::Args, Clone, Debug)]
pub struct Global {
    /// Directory that holds sankofa.yaml and pipelines/
    #[arg(long, global = true, value_name = "DIR", default_value = ".", help_heading = GLOBAL)]
    pub project: PathBuf,
    /// Environment of sankofa.yaml whose settings are laid over the others
    #[arg(long, global = true, value_name = "NAME", help_heading = GLOBAL)]
    pub env: Option<String>,
    /// How log lines on stderr look [default: $SANKOFA_LOG_FORMAT, else text]
    #[arg(long, global = true, value_name = "FORMAT", help_heading = GLOBAL)]
    pub log_format: Option<Format>,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub quiet: bool,
    /// Log more: -v steps, -vv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Print the result as one JSON object also on a terminal
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
}

/// Arguments of every step of a run.
#[derive(clap::Args, Clone, Debug)]
pub struct StepArgs {
    /// Pipeline, by the name of its file in pipelines/
    pub pipeline: String,
    /// Id of the run; the same id again is the same run [default: a new one]
    #[arg(long, value_name = "ID", default_value_t = RunId::fresh(), hide_default_value = true)]
    pub run: RunId,
    /// End with 75 after this time, such as 90s, 45m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// End with 99 instead of 0 when there is nothing to do
    #[arg(long)]
    pub skip_if_empty: bool,
    /// End another run that holds this pipeline's lock, then go on
    #[arg(long)]
    pub take_over: bool,
    /// Accept a schema change that rewrites a table; `plan` tells how long it takes
    #[arg(long)]
    pub allow_rewrite: bool,
    /// Accept more deletes than `deletes: at_most` of the pipeline
    #[arg(long)]
    pub allow_deletes: bool,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What somebody takes on for this run.
    #[command(flatten)]
    pub overrides: OverrideArgs,
}

/// What is read, where it is not simply what is new.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SelectArgs {
    /// Only this table, as schema.table; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Read every row again, whatever the mode
    #[arg(long, conflicts_with_all = ["from", "to", "until"])]
    pub full_refresh: bool,
    /// Backfill from here: date, RFC 3339 time or integer; the watermark stays
    #[arg(long, value_name = "START", requires = "to", allow_hyphen_values = true)]
    pub from: Option<Point>,
    /// Backfill up to here, itself not included
    #[arg(long, value_name = "END", requires = "from", allow_hyphen_values = true)]
    pub to: Option<Point>,
    /// Read only up to here, itself not included, and move the watermark there: a first load in parts
    #[arg(long, value_name = "END", conflicts_with_all = ["from", "to"], allow_hyphen_values = true)]
    pub until: Option<Point>,
}

impl SelectArgs {
    /// The tables of `pipeline` that are asked for: all of them without `--table`.
    ///
    /// # Errors
    /// A usage failure that names the nearest table.
    pub fn tables_of<'a>(&self, pipeline: &'a Pipeline) -> Result<Vec<&'a TableSpec>, Failure> {
        if self.tables.is_empty() {
            return Ok(pipeline.tables.iter().collect());
        }
        let mut found: Vec<&TableSpec> = Vec::new();
        for name in &self.tables {
            let table = find_table(pipeline, name)?;
            if !found.iter().any(|other| other.name == table.name) {
                found.push(table);
            }
        }
        Ok(found)
    }

    /// What is asked for beyond the configuration.
    ///
    /// # Errors
    /// As [`SelectArgs::window`].
    pub fn wishes(&self, allow_rewrite: bool) -> Result<Wishes, Failure> {
        let window = self.window()?.map(|(from, to)| (from.to_string(), to.to_string()));
        Ok(Wishes {
            full_refresh: self.full_refresh,
            window,
            until: self.until.map(Into::into),
            allow_rewrite,
        })
    }

    /// The half-open window of a backfill.
    ///
    /// # Errors
    /// A usage failure, when it is empty or its ends are of two kinds.
    pub fn window(&self) -> Result<Option<(Point, Point)>, Failure> {
        let refuse = |why: &str| {
            let failure = Failure::usage(format!("cannot backfill from --from to --to: {why}"));
            Err(failure
                .hint("The window starts at --from and ends before --to; both are times or both integers."))
        };
        match (self.from, self.to) {
            (Some(Point::Time(from)), Some(Point::Time(to))) if from >= to => refuse("the window is empty"),
            (Some(Point::Number(from)), Some(Point::Number(to))) if from >= to => {
                refuse("the window is empty")
            }
            (Some(Point::Time(_)), Some(Point::Number(_)))
            | (Some(Point::Number(_)), Some(Point::Time(_))) => refuse("one is a time, the other an integer"),
            (Some(from), Some(to)) => Ok(Some((from, to))),
            _ => Ok(None),
        }
    }
}

/// The table of `pipeline` that a person calls `text`: by its name at the source, in the warehouse,
/// or without a schema where that is one table only.
///
/// # Errors
/// A usage failure that names the nearest table.
pub fn find_table<'a>(pipeline: &'a Pipeline, text: &str) -> Result<&'a TableSpec, Failure> {
    let wanted = TableName::parse(text);
    let target = |table: &TableSpec| TableName::new(&pipeline.schema, &table.target);
    let by_name = |wanted: &TableName| {
        let at_source = pipeline.tables.iter().find(|table| table.name == *wanted);
        at_source.or_else(|| pipeline.tables.iter().find(|table| target(table) == *wanted))
    };
    let bare = |table: &&TableSpec| {
        [&table.name.name, &table.target].map(|name| quote_if_needed(name)).contains(&text.into())
    };
    let found = match &wanted {
        Ok(wanted) => by_name(wanted),
        Err(_) => match pipeline.tables.iter().filter(bare).collect::<Vec<_>>()[..] {
            [one] => Some(one),
            _ => None,
        },
    };
    found.ok_or_else(|| {
        let names = pipeline.tables.iter().map(|table| table.name.to_string());
        let likeness = |name: &String| strsim::jaro_winkler(name, text);
        let nearest = names.max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
        let failure = Failure::usage(format!("cannot find table {text} in pipeline {}", pipeline.name));
        match nearest {
            Some(name) => failure.hint(format!("The nearest of its tables is {name}.")),
            None => failure,
        }
    })
}

/// Id of a run: what a scheduler passes as `dag_id/run_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId(String);

impl RunId {
    /// The longest, in bytes: it is a key in the ledger and a part of names in stores.
    const MAX_BYTES: usize = 250;

    /// A new one that sorts by time.
    pub fn fresh() -> Self {
        RunId(uuid::Uuid::now_v7().to_string())
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => return Err("it is empty".into()),
            bytes if bytes > Self::MAX_BYTES => {
                return Err(format!("it is {bytes} bytes long, at most {} are allowed", Self::MAX_BYTES));
            }
            _ => (),
        }
        match text.chars().position(char::is_control) {
            Some(at) => Err(format!("character {} is a control character", at + 1)),
            None => Ok(RunId(text.to_owned())),
        }
    }
}

/// A place on the axis of a replication key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// For timestamps and dates; a date is its first instant in UTC.
    Time(Timestamp),
    /// For integers.
    Number(i64),
}

impl FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
            && let Ok(number) = text.parse()
        {
            return Ok(Point::Number(number));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Point::Time(time));
        }
        let is_date = text.len() == "2026-01-31".len();
        match text.parse::<Date>().ok().filter(|_| is_date).map(|date| date.to_zoned(TimeZone::UTC)) {
            Some(Ok(midnight)) => Ok(Point::Time(midnight.timestamp())),
            _ => Err("it is neither a date such as 2026-01-31, nor a time such as 2026-01-31T06:00:00Z, \
                      nor an integer"
                .into()),
        }
    }
}

impl From<Point> for reset::Point {
    fn from(point: Point) -> reset::Point {
        match point {
            Point::Time(time) => reset::Point::Time(time),
            Point::Number(number) => reset::Point::Number(number),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Time(time) => time.fmt(f),
            Point::Number(number) => number.fmt(f),
        }
    }
}

/// Reads a duration in the grammar of the project files.
///
/// # Errors
/// A sentence, when it is something else, or zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    words::duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it is not a duration such as 90s, 45m, 1h30m or 2d".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_run_id_has_bounds_and_a_new_one_is_within_them() {
        assert!("etl_hr/scheduled__2026-11-21T03:00:00+00:00".parse::<RunId>().is_ok());
        assert!(RunId::fresh().as_str().parse::<RunId>().is_ok());
        assert!("ɛ".repeat(125).parse::<RunId>().is_ok());
        let long = "x".repeat(10_240).parse::<RunId>().unwrap_err();
        assert_eq!(long, "it is 10240 bytes long, at most 250 are allowed");
        assert_eq!("ab\u{1b}[31m".parse::<RunId>().unwrap_err(), "character 3 is a control character");
        assert!("".parse::<RunId>().is_err());
    }

    #[test]
    fn a_point_is_a_date_a_time_with_its_offset_or_an_integer() {
        let time = |text: &str| Ok(Point::Time(text.parse().unwrap()));
        assert_eq!("2026-01-31".parse(), time("2026-01-31T00:00:00Z"));
        assert_eq!("2026-01-31T06:00:00+02:00".parse(), time("2026-01-31T04:00:00Z"));
        assert_eq!("20260131".parse(), Ok(Point::Number(20_260_131)));
        assert_eq!("-5".parse(), Ok(Point::Number(-5)));
        for text in ["2026-01-31T06:00:00", "2026-13-01", "yesterday", "", "1-2", "2026-W05-1"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_deadline_is_a_duration_of_the_project_files_and_not_zero() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "5", "soon", "-1h", "0s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_that_is_empty_or_of_two_kinds_is_refused() {
        let window = |from: &str, to: &str| {
            SelectArgs { from: from.parse().ok(), to: to.parse().ok(), ..Default::default() }.window()
        };
        assert!(window("2026-01-01", "2026-01-02").unwrap().is_some());
        assert!(window("1", "2").unwrap().is_some());
        assert!(window("2026-01-02", "2026-01-02").is_err());
        assert!(window("2", "1").is_err());
        assert!(window("2026-01-02", "5").is_err());
        assert!(SelectArgs::default().window().unwrap().is_none());
    }

    fn pipeline() -> Pipeline {
        let place = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(place.path().join(file), text).unwrap();
        std::fs::create_dir(place.path().join("pipelines")).unwrap();
        write("sankofa.yaml", "version: 1\nsecrets: [environment]\nwarehouse: {connection: warehouse}\n");
        write(
            "pipelines/hr.yaml",
            r#"
source: hr_db
schema: hr
defaults: {mode: full_refresh}
tables:
  public.employee: {target: employees}
  'public."Course"': {}
  old.employee: {target: old_employee}
"#,
        );
        let files = config::Files { project_dir: place.path().into(), ..Default::default() };
        let project = config::load_project(&files).unwrap();
        config::load_pipeline(&files, &project, "hr").unwrap()
    }

    #[test]
    fn a_table_is_found_by_its_name_at_the_source_in_the_warehouse_or_alone_if_it_is_the_only_one() {
        let pipeline = pipeline();
        for (text, name) in [
            ("public.employee", "public.employee"),
            ("hr.employees", "public.employee"),
            ("employees", "public.employee"),
            ("\"Course\"", "public.\"Course\""),
            ("old.employee", "old.employee"),
        ] {
            assert_eq!(find_table(&pipeline, text).unwrap().name.to_string(), name);
        }
        assert!(find_table(&pipeline, "employee").is_err(), "two tables have this name");
        let failure = find_table(&pipeline, "public.emploee").unwrap_err();
        assert_eq!(failure.what, "cannot find table public.emploee in pipeline hr");
        assert_eq!(failure.hint.as_deref(), Some("The nearest of its tables is public.employee."));
    }

    #[test]
    fn a_table_that_is_asked_for_twice_is_there_once() {
        let pipeline = pipeline();
        let tables = vec!["hr.employees".into(), "public.employee".into()];
        let select = SelectArgs { tables, ..Default::default() };
        assert_eq!(select.tables_of(&pipeline).unwrap().len(), 1);
        assert_eq!(SelectArgs::default().tables_of(&pipeline).unwrap().len(), 3);
    }
}
