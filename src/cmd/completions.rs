//! `sankofa completions`.

use super::Context;
use crate::report::Report;
use clap_complete::Shell;

/// Print the completion script of a shell
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Shell to print it for
    pub shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// None.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::help::command(), "sankofa", &mut script);
    Ok(context.report().verbatim(String::from_utf8_lossy(&script)))
}
