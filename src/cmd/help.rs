//! The command line as a whole: its help pages, and what is said of a line that cannot be read.
//!
//! In:    words. Out: a [`Cli`], a page to print, or a usage failure.
//! Holds: every help page ends with the one table of exit statuses; a word that may carry a secret is
//!        not repeated, nor is more than the start of a long one.

use super::{Cli, launched};
use crate::error::{EXIT_STATUS, Failure, Kind};
use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::io::IsTerminal;

/// Columns of a help page that goes into a file or a pipe.
const PAGE_COLUMNS: usize = 100;

/// The most of a refused word that is repeated, bytes.
const QUOTED_BYTES: usize = 80;

/// What the words of a command line ask for.
pub enum Asked {
    /// A command.
    Run(Box<Cli>),
    /// A page for stdout: help or version.
    Page(String),
    /// They cannot be read.
    Refused {
        /// The command they are about, as far as it could be read.
        command: String,
        /// What is wrong with them.
        failure: Failure,
        /// What to show a person instead of the failure.
        page: Option<String>,
    },
}

/// The command line's description, exit statuses included.
pub fn command() -> clap::Command {
    let required = |command: clap::Command| {
        command.mut_arg("run", |run| {
            run.required(true)
                .default_value(Resettable::<OsStr>::Reset)
                .help("Id of the run that extracted the stage")
        })
    };
    let command = Cli::command().mut_subcommand("validate", required).mut_subcommand("load", required);
    let command = if std::io::stdout().is_terminal() { command } else { command.term_width(PAGE_COLUMNS) };
    with_footer(command, &exit_status())
}

/// Adds `footer` to `command` and all below it.
fn with_footer(command: clap::Command, footer: &str) -> clap::Command {
    let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    below
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |below| with_footer(below, footer)))
        .after_help(footer.to_owned())
}

/// The table of exit statuses, as the help pages end with it.
pub fn exit_status() -> String {
    let mut rows: Vec<(u8, &str)> = EXIT_STATUS.iter().map(|row| (row.1, row.3)).collect();
    rows.push((0, "done, \"nothing new\" included"));
    rows.sort_unstable();
    let mut table = String::from("Exit status:");
    for (status, meaning) in rows {
        let _ = write!(table, "\n  {status:>3}  {meaning}");
    }
    table
}

/// Reads a command line, the program's name first, as far as the launcher that set `variables` permits it.
pub fn parse(words: impl IntoIterator<Item = OsString>, variables: &BTreeMap<String, String>) -> Asked {
    let refused =
        |command: &str, failure| Asked::Refused { command: command.to_owned(), failure, page: None };
    let words = match launched::words(words.into_iter().collect(), variables) {
        Ok(words) => words,
        Err(failure) => return refused("", failure),
    };
    let named = named(&words);
    let parsed = command().try_get_matches_from(words).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    let error = match parsed {
        Ok((cli, matches)) => {
            return match launched::permit(&matches, variables) {
                Ok(()) => Asked::Run(Box::new(cli)),
                Err(failure) => refused(&named, failure),
            };
        }
        Err(error) => error,
    };
    let text = without_private_words(&error);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Asked::Page(page(&error)),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let failure = Failure::usage("a command is missing");
            Asked::Refused { command: named, failure, page: Some(text) }
        }
        _ => Asked::Refused { failure: failure(&text, &named), command: named, page: None },
    }
}

/// A help page, in colour where a person looks at it.
fn page(error: &clap::Error) -> String {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = error.render();
    if colour { text.ansi().to_string() } else { text.to_string() }
}

/// What clap says of a line about `command`, in one sentence and a hint.
fn failure(text: &str, command: &str) -> Failure {
    let mut what = Vec::new();
    let mut hint = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => hint.push(sentence(tip)),
            None => what.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    let separator = if command.is_empty() { "" } else { " " };
    hint.push(format!("See `sankofa{separator}{command} --help`."));
    Failure::new(Kind::Usage, what.join(" ")).hint(hint.join(" "))
}

/// `tip` with a capital and a full stop.
fn sentence(tip: &str) -> String {
    let mut chars = tip.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

/// The command that a line is about, such as `state reset`; empty where it names none.
fn named(words: &[OsString]) -> String {
    let root = Cli::command();
    let mut command = &root;
    let mut names = Vec::new();
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(below) = command.find_subcommand(word) {
            names.push(below.get_name());
            command = below;
        }
    }
    names.join(" ")
}

/// What clap says, with refused words cut, or left out where they may carry a secret.
fn without_private_words(error: &clap::Error) -> String {
    let mut text = error.render().to_string();
    let kinds = [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand];
    for value in kinds.into_iter().filter_map(|kind| error.get(kind)) {
        let words = match value {
            ContextValue::String(word) => std::slice::from_ref(word),
            ContextValue::Strings(words) => words,
            _ => continue,
        };
        for word in words.iter().filter(|word| !word.is_empty()) {
            text = text.replace(word, &public(word));
        }
    }
    text
}

/// `word` as an error may repeat it.
fn public(word: &str) -> String {
    if word.contains("://") || word.contains("AGE-SECRET-KEY") {
        return "[REDACTED]".into();
    }
    let shown: String = word.chars().flat_map(char::escape_debug).collect();
    if word.len() <= QUOTED_BYTES && !word.contains(char::is_control) {
        return word.into();
    }
    let end = (0..=QUOTED_BYTES.min(shown.len())).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    if end == shown.len() { shown } else { format!("{}...", &shown[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> Failure {
        let line = std::iter::once("sankofa").chain(words.iter().copied()).map(OsString::from);
        match parse(line, &BTreeMap::new()) {
            Asked::Refused { failure, .. } => failure,
            _ => panic!("{words:?} was read"),
        }
    }

    #[test]
    fn the_description_of_the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_misspelt_word_gets_the_nearest_one_as_its_hint() {
        let failure = refused(&["snyc", "hr"]);
        assert_eq!(failure.kind, Kind::Usage);
        assert_eq!(failure.what, "unrecognized subcommand 'snyc'");
        let hint = "A similar subcommand exists: 'sync'. See `sankofa --help`.";
        assert_eq!(failure.hint.as_deref(), Some(hint));
    }

    #[test]
    fn a_missing_argument_names_the_command_to_ask_for_help() {
        let failure = refused(&["state", "reset", "hr"]);
        assert_eq!(failure.what, "the following required arguments were not provided: --table <TABLE>");
        assert_eq!(failure.hint.as_deref(), Some("See `sankofa state reset --help`."));
        assert!(refused(&["load", "hr"]).what.contains("--run <ID>"));
    }

    #[test]
    fn a_refused_word_is_neither_long_nor_secret_nor_able_to_steer_a_terminal() {
        let long = refused(&["sync", "hr", "--run", &"x".repeat(10_240)]).what;
        assert!(long.len() < 250 && long.contains("10240 bytes"), "{long}");
        let secret = refused(&["sync", "hr", "postgres://ama:secret@db/hr"]);
        assert!(!format!("{secret:?}").contains("secret@"), "{secret:?}");
        let escape = refused(&["sync", "hr", "--run", "a\u{1b}[31m"]).what;
        assert!(!escape.contains('\u{1b}'), "{escape}");
    }

    #[test]
    fn every_exit_status_is_in_the_table_in_order() {
        let table = exit_status();
        let numbers: Vec<u8> = table
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(numbers, [0, 1, 2, 65, 75, 77, 78, 99, 130, 143]);
    }
}
