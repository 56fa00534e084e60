//! What a person takes on for one run: `--accept`, `--set-aside`, `--by`, `--reason`.
//!
//! In:    words of the command line, the pipeline.
//! Out:   tables and checks by the names that the ledger keeps.
//! Holds: a name that the pipeline does not have is refused, so that nothing else is taken on.
//! Not here: what it leads to (`etl::publish`), that it is kept (`ledger::overrides`).

use super::arguments::find_table;
use crate::config::model::Pipeline;
use crate::error::{Failure, nearest_hint};
use crate::etl::quality;
use crate::ledger::overrides::Asked;

const HEADING: &str = "For this run alone, kept in the ledger";

/// What is taken on, by whom and why.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct OverrideArgs {
    /// Publish although this check is missed, named as the error does: 'public.t: unique(n)'; may be repeated
    #[arg(long, value_name = "CHECK", requires_all = ["by", "reason"], help_heading = HEADING)]
    pub accept: Vec<String>,
    /// Leave this table as it is and publish the others; its watermark stays; may be repeated
    #[arg(long, value_name = "TABLE", requires_all = ["by", "reason"], help_heading = HEADING)]
    pub set_aside: Vec<String>,
    /// Who takes that on
    #[arg(long, value_name = "NAME", value_parser = words::<100>, help_heading = HEADING)]
    pub by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", value_parser = words::<500>, help_heading = HEADING)]
    pub reason: Option<String>,
}

/// One line of text, of at most `LONGEST` bytes.
fn words<const LONGEST: usize>(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".into()),
        text if text.contains(char::is_control) => Err("it has control characters".into()),
        text if text.len() > LONGEST => Err(format!("it is longer than {LONGEST} bytes")),
        text => Ok(text.to_owned()),
    }
}

impl OverrideArgs {
    /// The same by the names of `pipeline`.
    ///
    /// # Errors
    /// 2 for a table or a check that it does not have.
    pub fn asked(&self, pipeline: &Pipeline) -> Result<Asked, Failure> {
        let accept = self.accept.iter().map(|text| find_check(pipeline, text));
        let aside = self.set_aside.iter().map(|text| Ok(find_table(pipeline, text)?.name.to_string()));
        Ok(Asked {
            accept: accept.collect::<Result<_, Failure>>()?,
            set_aside: aside.collect::<Result<_, Failure>>()?,
            by: self.by.clone().unwrap_or_default(),
            because: self.reason.clone().unwrap_or_default(),
        })
    }
}

/// Table and check that a person calls `text`: `public.t: unique(n)`, or the check alone where one table
/// has it.
fn find_check(pipeline: &Pipeline, text: &str) -> Result<(String, String), Failure> {
    let all = pipeline
        .tables
        .iter()
        .flat_map(|table| table.checks.iter().map(|check| (table.name.to_string(), quality::name(check))));
    let all: Vec<(String, String)> = all.collect();
    let is_meant = |(table, check): &&(String, String)| {
        text == check
            || text.strip_prefix(table.as_str()).and_then(|rest| rest.strip_prefix(':')).map(str::trim)
                == Some(check.as_str())
    };
    let found: Vec<&(String, String)> = all.iter().filter(is_meant).collect();
    if let [one] = found[..] {
        return Ok(one.clone());
    }
    let names: Vec<String> = all.iter().map(|(table, check)| format!("{table}: {check}")).collect();
    let why = if found.is_empty() { "the pipeline has no such check" } else { "several tables have it" };
    let failure = Failure::usage(format!("cannot accept a miss of {text:?}: {why}"));
    Err(match found.is_empty() {
        true => failure.hint(nearest_hint(text, names.iter().map(String::as_str))),
        false => failure.hint("Write the table before it, as in 'public.t: unique(n)'."),
    })
}
