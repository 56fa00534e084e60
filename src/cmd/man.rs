//! `sankofa man`.

use super::{Context, pages};
use crate::error::Failure;
use crate::report::Report;
use anyhow::Context as _;
use clap_mangen::Man;
use std::path::{Path, PathBuf};

/// Print the manual page of a command or of an exit status, or write all pages into a directory
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Command whose page is printed, such as `state reset`, or exit status, such as 65 [default: the
    /// program's own page]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Vec<String>,
    /// Write one page a command into this directory instead
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When there is no such command, or the directory cannot be written.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    if let [word] = &args.command[..]
        && let Ok(status) = word.parse()
    {
        let missing = || Failure::usage("cannot print the manual page: there is no such exit status");
        let page = pages::page(status).ok_or_else(|| missing().hint("`sankofa --help` lists them."))?;
        return Ok(context.report().verbatim(page));
    }
    let mut root = super::help::command();
    root.build(); // so that each command knows the options of every command
    let Some(directory) = args.out else {
        return Ok(context.report().verbatim(page(find(&root, &args.command)?)?));
    };
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut report = context.report();
    let written = write_all(&root, &directory)?;
    report.extra.insert("pages".into(), written.into());
    Ok(report.for_person(format!("{written} pages in {}\n", directory.display())))
}

/// The command that `words` name below `root`.
fn find<'a>(root: &'a clap::Command, words: &[String]) -> Result<&'a clap::Command, Failure> {
    words.iter().try_fold(root, |command, word| {
        let missing = || Failure::usage("cannot print the manual page: there is no such command");
        command.find_subcommand(word).ok_or_else(|| missing().hint("See `sankofa --help`."))
    })
}

/// Writes the page of `command` and of all below it; returns how many.
fn write_all(command: &clap::Command, directory: &Path) -> anyhow::Result<u64> {
    let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    let mut written = 1;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        written += write_all(below, directory)?;
    }
    Ok(written)
}

fn page(command: &clap::Command) -> anyhow::Result<String> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).context("cannot render the manual page")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
