//! What a launcher fixes for the commands it starts: which may run, and where the words come from.
//!
//! In:    `SANKOFA_COMMANDS` and `SANKOFA_ARGUMENTS`, set by the operator's job, never by a DAG.
//! Out:   the words of the command line, or a refusal.
//! Holds: a command that is not named is refused before anything else happens, however it is written:
//!        what counts is what the parser read, not what the line looks like.
//! Not here: what the commands do.

use crate::error::Failure;
use clap::ArgMatches;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Commands that may run here, such as `extract, load, backups coverage`.
pub const COMMANDS: &str = "SANKOFA_COMMANDS";

/// A JSON array of words: the command line, where a launcher can pass text but no words.
pub const ARGUMENTS: &str = "SANKOFA_ARGUMENTS";

/// The words of the command line: its own, or those of `SANKOFA_ARGUMENTS` where it has none.
///
/// # Errors
/// A usage failure, when there are words in both places or the variable holds no JSON array of texts.
pub fn words(own: Vec<OsString>, variables: &BTreeMap<String, String>) -> Result<Vec<OsString>, Failure> {
    let Some(text) = variables.get(ARGUMENTS).filter(|text| !text.is_empty()) else {
        return Ok(own);
    };
    if own.len() > 1 {
        return Err(Failure::usage(format!("cannot read {ARGUMENTS} beside words on the command line"))
            .hint("A job passes its words in one way only."));
    }
    let given: Vec<String> = serde_json::from_str(text).map_err(|_| {
        Failure::usage(format!("cannot read {ARGUMENTS}: it is not a JSON array of texts"))
            .hint("Write it as [\"sync\", \"hr\", \"--run\", \"...\"].")
    })?;
    Ok(own.into_iter().take(1).chain(given.into_iter().map(OsString::from)).collect())
}

/// Whether the command that was read may run here.
///
/// # Errors
/// A permission failure that names the command and those that may run.
pub fn permit(read: &ArgMatches, variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    let Some(list) = variables.get(COMMANDS) else {
        return Ok(());
    };
    let mut permitted = list.split(',').map(|name| name.split_whitespace().collect::<Vec<_>>());
    let asked = path(read);
    if permitted.any(|name| !name.is_empty() && asked.starts_with(&name)) {
        return Ok(());
    }
    Err(Failure::permission(format!("cannot run `{}` here: {COMMANDS} does not name it", asked.join(" ")))
        .hint(format!("This job may run: {}. Another command needs the job of its own class.", list.trim())))
}

/// The command and those below it, as the parser read them: `["backups", "coverage"]`.
fn path(read: &ArgMatches) -> Vec<&str> {
    let mut names = Vec::new();
    let mut read = read;
    while let Some((name, below)) = read.subcommand() {
        names.push(name);
        read = below;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::help;
    use crate::error::Kind;

    fn set(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn may(list: &str, line: &[&str]) -> Result<(), Failure> {
        let read = help::command().try_get_matches_from([&["sankofa"], line].concat()).unwrap();
        permit(&read, &set(COMMANDS, list))
    }

    #[test]
    fn a_command_that_is_not_named_is_refused_as_a_missing_right() {
        let failure = may("extract, load", &["restore", "hr", "--into", "elsewhere"]).unwrap_err();
        assert_eq!(failure.kind, Kind::Permission);
        assert!(failure.to_string().contains("restore"), "{failure}");
    }

    #[test]
    fn a_named_command_may_run_with_all_below_it_and_a_longer_name_permits_only_that() {
        assert!(may("sync", &["sync", "hr"]).is_ok());
        assert!(may("backups", &["backups", "prune", "hr"]).is_ok());
        assert!(may("backups coverage", &["backups", "coverage"]).is_ok());
        assert!(may("backups coverage", &["backups", "prune", "hr"]).is_err());
    }

    #[test]
    fn the_value_of_an_option_is_not_taken_for_the_command() {
        assert!(may("sync", &["--project", "sync", "restore", "hr", "--into", "elsewhere"]).is_err());
    }

    #[test]
    fn an_empty_list_permits_nothing_and_no_list_everything() {
        assert!(may("", &["sync", "hr"]).is_err());
        assert!(may(" , ", &["sync", "hr"]).is_err());
        let read = help::command().try_get_matches_from(["sankofa", "sync", "hr"]).unwrap();
        assert!(permit(&read, &BTreeMap::new()).is_ok());
    }

    #[test]
    fn words_of_the_variable_stand_for_those_of_the_line_and_never_beside_them() {
        let own = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        let given = set(ARGUMENTS, r#"["sync", "hr", "--run", "a b"]"#);
        assert_eq!(
            words(own(&["sankofa"]), &given).unwrap(),
            own(&["sankofa", "sync", "hr", "--run", "a b"])
        );
        assert_eq!(words(own(&["sankofa", "restore"]), &given).unwrap_err().kind, Kind::Usage);
        assert_eq!(words(own(&["sankofa"]), &set(ARGUMENTS, "sync hr")).unwrap_err().kind, Kind::Usage);
        assert_eq!(words(own(&["sankofa", "sync"]), &set(ARGUMENTS, "")).unwrap(), own(&["sankofa", "sync"]));
    }
}
