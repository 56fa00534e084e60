//! `docs/reference.md`: every command and every key, as the code has them.
//!
//! In:    the command line's description, the schemas of the project files. Out: Markdown.
//! Holds: `tests/cli.rs` compares the file in the repository with [`page`].

mod keys;

use crate::config::{self, FileKind};
use std::fmt::Write;

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(
        "# Reference\n\nMade from the code by `sankofa config reference`; a test holds it current.\n\n## Commands\n",
    );
    let mut root = super::help::command().term_width(100);
    root.build();
    let _ = write!(page, "\n```text\n{}\n```\n", super::help::exit_status());
    for command in root.get_subcommands() {
        describe(command, &mut page);
    }
    let files = [
        ("sankofa.yaml", "project", FileKind::Sankofa),
        ("pipelines/*.yaml", "pipeline", FileKind::Pipeline),
    ];
    for (file, word, kind) in files {
        let keys = keys::table(&config::schema(kind));
        let _ = write!(page, "\n## {file}\n\nAs JSON Schema: `sankofa config schema {word}`.\n\n{keys}");
    }
    page
}

/// One section for `command`, then those below it.
fn describe(command: &clap::Command, page: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let mut below = command.get_subcommands().filter(|below| !below.is_hide_set()).peekable();
    if below.peek().is_none() {
        let help = command.clone().after_help("").render_help().to_string();
        let name = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
        let _ = write!(page, "\n### {name}\n\n```text\n{}\n```\n", help.trim());
    }
    below.for_each(|below| describe(below, page));
}
