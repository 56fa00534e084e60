//! The result of a command, as a scheduler reads it and as a person does.
//!
//! In:    figures that a command has counted.
//! Out:   one JSON object of a bounded size, or a table.
//! Holds: [`Report::to_json`] never exceeds its limit, whatever the names and messages in it;
//!        what had to be left out is counted in the object itself.
//! Not here: where it is written (`cmd::result`).

pub mod lines;
mod person;
mod recorded;

use crate::error::{Checked, Failure, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use person::{Look, duration, grouped, plain, size};

/// The version of the object's fields.
pub const SCHEMA: u32 = 1;

/// The most bytes a scheduler is given: what Kubernetes keeps of a termination message.
pub const LIMIT_BYTES: usize = 4096;

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It did what was asked, "nothing new" included.
    #[default]
    Ok,
    /// This run id was done before; the figures are the recorded ones.
    AlreadyDone,
    /// Nothing to do, and `--skip-if-empty` was asked for.
    Skipped,
    /// See `error`.
    Failed,
    /// A signal ended it.
    Cancelled,
}

impl Status {
    /// The word for it in results.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::AlreadyDone => "already_done",
            Status::Skipped => "skipped",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

/// What happened to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableFigures {
    /// Name at the source, as `schema.table`.
    pub table: String,
    /// Name in the warehouse, as `schema.table`.
    pub target: String,
    /// How it was read: `incremental`, `append`, `full_refresh`.
    pub mode: String,
    /// Why every row was read although the mode does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows read from the source.
    pub read: u64,
    /// Rows written to stage or staging.
    pub staged: u64,
    /// Rows new in the warehouse.
    pub inserted: u64,
    /// Rows changed in the warehouse.
    pub updated: u64,
    /// Rows marked as deleted or removed.
    pub deleted: u64,
    /// Rows that were equal already, and not written.
    pub unchanged: u64,
    /// Rows refused.
    pub rejected: u64,
    /// Bytes read from the source, as COPY sends them.
    pub bytes: u64,
    /// Milliseconds from the first byte read to the last row staged.
    pub ms: u64,
    /// Where the next run starts reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
    /// What changed in the source's schema, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_change: Option<String>,
}

/// Why a command failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFields {
    /// The word of its kind, such as `temporary`.
    pub code: String,
    /// The exit status of the process.
    pub exit: u8,
    /// `cannot <verb> <object>: <cause>`.
    pub message: String,
    /// What to type or look at next.
    pub hint: Option<String>,
    /// Where more is said: the page of its exit status, which `sankofa man` prints too.
    #[serde(default)]
    pub page: String,
}

impl From<&Failure> for ErrorFields {
    fn from(failure: &Failure) -> Self {
        ErrorFields {
            code: failure.kind.word().to_owned(),
            exit: failure.kind.exit_code(),
            message: failure.what.clone(),
            hint: failure.hint.clone(),
            page: format!("docs/errors/{}.md", failure.kind.exit_code()),
        }
    }
}

/// What a command prints instead of its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// For a person on a terminal; a program still gets the object.
    ForPerson(String),
    /// For everybody: a man page, a completion script, a schema.
    Verbatim(String),
}

/// The result of a command.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How it ended.
    pub status: Status,
    /// The command as typed, such as `state reset`.
    pub command: String,
    /// The pipeline it was about.
    pub pipeline: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
    /// Rows moved, all tables.
    pub rows: u64,
    /// Bytes moved, all tables.
    pub bytes: u64,
    /// When the command started.
    pub started_at: Timestamp,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
    /// Whether every row of at least one table that is not always read whole was read.
    pub full_refresh: bool,
    /// Checks whose miss refused the run.
    pub checks_failed: u64,
    /// Checks whose miss was only told.
    pub checks_warned: u64,
    /// Checks that were missed, whatever that led to.
    pub missed: Vec<Checked>,
    /// Per table, in any order.
    pub tables: Vec<TableFigures>,
    /// What a person should look at although the command went through.
    pub warnings: Vec<String>,
    /// Why it failed.
    pub error: Option<ErrorFields>,
    /// Fields of one command only; they stand beside the others in the object.
    pub extra: Map<String, Value>,
    /// What is printed instead, if anything; not part of the object.
    pub text: Option<Text>,
}

impl Report {
    /// The same report, ended by `failure`; `status` is cancelled for signals, skipped for 99.
    #[must_use]
    pub fn failed(mut self, failure: &Failure) -> Self {
        self.status = match failure.kind {
            Kind::Skipped => Status::Skipped,
            Kind::Interrupted | Kind::Terminated => Status::Cancelled,
            _ => Status::Failed,
        };
        self.error = (failure.kind != Kind::Skipped).then(|| ErrorFields::from(failure));
        if !failure.missed.is_empty() {
            self.missed.clone_from(&failure.missed);
            self.checks_failed = self.missed.iter().filter(|checked| checked.refuses()).count() as u64;
            self.checks_warned = self.missed.len() as u64 - self.checks_failed;
        }
        self
    }

    /// The same report, shown to a person as `text` instead of the table of figures.
    #[must_use]
    pub fn for_person(mut self, text: impl Into<String>) -> Self {
        self.text = Some(Text::ForPerson(text.into()));
        self
    }

    /// The same report, with `text` as all that is printed.
    #[must_use]
    pub fn verbatim(mut self, text: impl Into<String>) -> Self {
        self.text = Some(Text::Verbatim(text.into()));
        self
    }

    /// The process's exit status.
    pub fn exit_code(&self) -> u8 {
        match (&self.error, self.status) {
            (Some(error), _) => error.exit,
            (None, Status::Ok | Status::AlreadyDone) => 0,
            (None, Status::Skipped) => Kind::Skipped.exit_code(),
            (None, Status::Failed | Status::Cancelled) => Kind::Unclassified.exit_code(),
        }
    }

    /// One JSON object on one line, with everything in it.
    pub fn to_full_json(&self) -> String {
        self.to_json(usize::MAX)
    }

    /// One JSON object on one line, of at most `limit` bytes (which is [`LIMIT_BYTES`] or more).
    ///
    /// Names and messages are cut first, then `extra` fields, missed checks, warnings and tables (those with the
    /// most rows stay) are left out and counted: `extra_left_out`, `missed_left_out`, `warnings_left_out`,
    /// `tables_left_out`.
    pub fn to_json(&self, limit: usize) -> String {
        Value::Object(self.object(limit)).to_string()
    }

    fn object(&self, limit: usize) -> Map<String, Value> {
        let cut_to = |bytes: usize| if limit == usize::MAX { usize::MAX } else { bytes };
        let mut object = Filling::new(self.head(&cut_to), limit);
        object.add_fields(&self.extra);
        if !self.missed.is_empty() {
            let missed = self.missed.iter().map(|checked| json!(shortened(checked, &cut_to)));
            object.add_list("missed", missed.collect(), object.left / 2);
        }
        let warnings = self.warnings.iter().map(|text| json!(cut(text, cut_to(300))));
        object.add_list("warnings", warnings.collect(), object.left / 2);
        let mut tables: Vec<&TableFigures> = self.tables.iter().collect();
        tables.sort_by_key(|figures| std::cmp::Reverse(figures.read.max(figures.staged)));
        let tables = tables.into_iter().map(|figures| json!(figures.shortened(&cut_to)));
        object.add_list("tables", tables.collect(), object.left);
        object.fields
    }

    /// The fields that are always there; the longest they can be is well below [`LIMIT_BYTES`].
    fn head(&self, cut_to: &dyn Fn(usize) -> usize) -> Map<String, Value> {
        let mut head = Map::new();
        let mut put = |name: &str, value: Value| head.insert(name.to_owned(), value);
        put("schema", json!(SCHEMA));
        put("status", json!(self.status));
        put("command", json!(cut(&self.command, cut_to(60))));
        put("pipeline", json!(self.pipeline.as_deref().map(|name| cut(name, cut_to(260)))));
        put("run_id", json!(self.run_id.as_deref().map(|id| cut(id, cut_to(520)))));
        put("rows", json!(self.rows));
        put("bytes", json!(self.bytes));
        put("started_at", json!(self.started_at.to_string()));
        put("duration_ms", json!(self.duration_ms));
        put("full_refresh", json!(self.full_refresh));
        put("checks_failed", json!(self.checks_failed));
        put("checks_warned", json!(self.checks_warned));
        let error = self.error.as_ref().map(|error| ErrorFields {
            code: cut(&error.code, cut_to(40)),
            exit: error.exit,
            message: cut(&error.message, cut_to(1400)),
            hint: error.hint.as_deref().map(|hint| cut(hint, cut_to(600))),
            page: cut(&error.page, cut_to(40)),
        });
        put("error", json!(error));
        head
    }
}

/// A miss with names that fit.
fn shortened(checked: &Checked, cut_to: &dyn Fn(usize) -> usize) -> Checked {
    let optional = |text: &Option<String>, bytes| text.as_deref().map(|text| cut(text, cut_to(bytes)));
    Checked {
        table: cut(&checked.table, cut_to(140)),
        check: cut(&checked.check, cut_to(200)),
        since_run: optional(&checked.since_run, 120),
        rows: checked.rows.iter().map(|row| cut(row, cut_to(120))).collect(),
        accepted_because: optional(&checked.accepted_because, 200),
        ..checked.clone()
    }
}

impl TableFigures {
    fn shortened(&self, cut_to: &dyn Fn(usize) -> usize) -> Self {
        let optional = |text: &Option<String>, bytes| text.as_deref().map(|text| cut(text, cut_to(bytes)));
        TableFigures {
            table: cut(&self.table, cut_to(280)),
            target: cut(&self.target, cut_to(280)),
            mode: cut(&self.mode, cut_to(40)),
            reason: optional(&self.reason, 200),
            watermark: optional(&self.watermark, 100),
            schema_change: optional(&self.schema_change, 300),
            ..*self
        }
    }
}

/// An object that is filled up to a number of bytes.
struct Filling {
    fields: Map<String, Value>,
    left: usize,
}

impl Filling {
    /// The bytes that `"extra_left_out":N` and the same of `missed`, `warnings` and `tables` may take.
    const COUNTS_BYTES: usize = 180;

    fn new(fields: Map<String, Value>, limit: usize) -> Self {
        let used = Value::Object(fields.clone()).to_string().len() + Self::COUNTS_BYTES;
        Filling { fields, left: limit.saturating_sub(used) }
    }

    /// Takes `bytes` off what is left, if so much is left.
    fn spend(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    /// Adds each field that fits; a field that is there already stays as it is.
    fn add_fields(&mut self, extra: &Map<String, Value>) {
        let mut left_out = 0;
        for (name, value) in extra {
            let bytes = json!(name).to_string().len() + value.to_string().len() + 2;
            if self.fields.contains_key(name) || !self.spend(bytes) {
                left_out += 1;
            } else {
                self.fields.insert(name.clone(), value.clone());
            }
        }
        self.count("extra_left_out", left_out);
    }

    /// Adds as a list the first `items` that fit into `share` bytes; an empty list is there, too.
    fn add_list(&mut self, name: &str, mut items: Vec<Value>, share: usize) {
        let all = items.len();
        let mut used = name.len() + 6;
        let fits = |item: &&Value| {
            used += item.to_string().len() + 1;
            used <= share
        };
        let kept = items.iter().take_while(fits).count();
        items.truncate(kept);
        if self.spend(name.len() + 6 + items.iter().map(|item| item.to_string().len() + 1).sum::<usize>()) {
            self.fields.insert(name.to_owned(), Value::Array(items));
            self.count(&format!("{name}_left_out"), all - kept);
        } else {
            self.count(&format!("{name}_left_out"), all);
        }
    }

    fn count(&mut self, name: &str, left_out: usize) {
        if left_out > 0 {
            self.fields.insert(name.to_owned(), json!(left_out));
        }
    }
}

/// The start of `text` that takes at most `bytes` inside JSON quotes, with `...` where it was cut.
fn cut(text: &str, bytes: usize) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let mut used = 0;
    let mut short_end = 0;
    for (at, c) in text.char_indices() {
        if used + 3 <= bytes {
            short_end = at;
        }
        used += escaped(c);
        if used > bytes {
            return format!("{}...", &text[..short_end]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures(table: &str, read: u64) -> TableFigures {
        TableFigures { table: table.into(), target: table.into(), read, ..Default::default() }
    }

    fn parsed(report: &Report) -> Value {
        let text = report.to_json(LIMIT_BYTES);
        assert!(text.len() <= LIMIT_BYTES, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_small_report_is_whole() {
        let mut report = Report { command: "sync".into(), pipeline: Some("hr".into()), ..Default::default() };
        report.tables = vec![figures("public.a", 1), figures("public.b", 2)];
        report.warnings.push("watermark pinned".into());
        report.extra.insert("watermark_age_s".into(), json!(4));
        let object = parsed(&report);
        assert_eq!(object["schema"], 1);
        assert_eq!(object["status"], "ok");
        assert_eq!(object["watermark_age_s"], 4);
        assert_eq!(object["tables"][0]["table"], "public.b");
        assert_eq!(object["error"], Value::Null);
        assert!(object.get("tables_left_out").is_none());
    }

    #[test]
    fn the_largest_tables_stay_and_the_others_are_counted() {
        let tables = (0..300).map(|i| figures(&format!("public.t{i}"), i)).collect();
        let object = parsed(&Report { tables, ..Default::default() });
        let kept = object["tables"].as_array().unwrap();
        assert!(kept.len() > 8, "{}", kept.len());
        assert_eq!(kept[0]["table"], "public.t299");
        assert_eq!(object["tables_left_out"].as_u64().unwrap() as usize, 300 - kept.len());
    }

    #[test]
    fn a_full_object_leaves_nothing_out_and_cuts_nothing() {
        let tables = (0..300).map(|i| figures(&"t".repeat(400), i)).collect();
        let report = Report { tables, ..Default::default() };
        let object: Value = serde_json::from_str(&report.to_full_json()).unwrap();
        assert_eq!(object["tables"].as_array().unwrap().len(), 300);
        assert_eq!(object["tables"][0]["table"].as_str().unwrap().len(), 400);
    }

    #[test]
    fn an_extra_field_cannot_replace_a_common_one() {
        let mut report = Report::default();
        report.extra.insert("status".into(), json!("ok, really"));
        let object = parsed(&report.failed(&Failure::config("no")));
        assert_eq!(object["status"], "failed");
        assert_eq!(object["extra_left_out"], 1);
    }

    #[test]
    fn the_exit_status_is_that_of_the_error_and_a_signal_reads_as_cancelled() {
        let terminated = Report::default().failed(&Failure::new(Kind::Terminated, "stopped"));
        assert_eq!((terminated.status, terminated.exit_code()), (Status::Cancelled, 143));
        let skipped = Report { status: Status::Skipped, ..Default::default() };
        assert_eq!(skipped.exit_code(), 99);
        let refused = Report::default().failed(&Failure::data("no"));
        assert_eq!((refused.status, refused.exit_code()), (Status::Failed, 65));
    }

    #[test]
    fn text_is_cut_between_characters_and_never_longer_than_asked() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("ab\u{1}cdefgh", 8), "ab...");
        assert_eq!(cut("ɛɛɛɛɛ", 8), "ɛɛ...");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_input_makes_it_longer_than_the_limit(
            text in "\\PC{0,40}|[\\x00-\\x1f\"\\\\]{0,3000}|.{0,3000}|ɛ{0,3000}",
            many in 0usize..60,
            number in any::<u64>(),
        ) {
            let table = TableFigures {
                table: text.clone(), target: text.clone(), mode: text.clone(),
                reason: Some(text.clone()), watermark: Some(text.clone()), schema_change: Some(text.clone()),
                read: number, staged: number, inserted: number, updated: number, deleted: number,
                unchanged: number, rejected: number, bytes: number, ms: number,
            };
            let missed = Checked {
                table: text.clone(), check: text.clone(), bound: text.clone(), rows: vec![text.clone(); 5],
                since_run: Some(text.clone()), accepted_by: Some(text.clone()),
                accepted_because: Some(text.clone()), ..Default::default()
            };
            let mut report = Report {
                command: text.clone(), pipeline: Some(text.clone()), run_id: Some(text.clone()),
                rows: number, bytes: number, duration_ms: number, checks_failed: number,
                checks_warned: number, missed: vec![missed; many], tables: vec![table; many], warnings: vec![text.clone(); many],
                error: Some(ErrorFields {
                    code: text.clone(), exit: 255, message: text.clone(), hint: Some(text.clone()), page: text.clone(),
                }),
                ..Default::default()
            };
            for i in 0..many {
                report.extra.insert(format!("{text}{i}"), json!(text));
            }
            let object = parsed(&report);
            let kept = object["tables"].as_array().map_or(0, Vec::len);
            let left_out = object.get("tables_left_out").and_then(Value::as_u64).unwrap_or(0) as usize;
            prop_assert_eq!(kept + left_out, many);
        }
    }
}
