//! `docs/reference.md`: every command, as the code has it.
//!
//! In:    the command line's description. Out: Markdown.
//! Holds: `tests/cli.rs` compares the file in the repository with [`page`].

mod keys;

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
