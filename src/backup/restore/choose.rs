//! Which backup is restored.
//!
//! In:    what lies in the store; a time, an id, or neither.
//! Out:   one good backup.
//! Holds: pure; a backup that is not good is never chosen, and the failure says why not.

use crate::backup::earlier::with_env;
use crate::backup::inventory::{Backup, Inventory, State};
use crate::error::{Failure, nearest_hint};
use jiff::Timestamp;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The newest good one.
    Newest,
    /// The newest good one that was begun at or before this time.
    At(Timestamp),
    /// The one with this id.
    Id(String),
}

/// The backup of folder `home` that is asked for.
///
/// # Errors
/// 78 when there is none, with what there is.
pub fn choose<'a>(inventory: &'a Inventory, home: &str, choice: &Choice) -> Result<&'a Backup, Failure> {
    let mut all = inventory.backups.iter().filter(|backup| backup.home == home);
    let name = home.trim_end_matches('/');
    match choice {
        Choice::Id(id) => {
            let found = all.clone().find(|backup| backup.id == *id);
            let found = found.ok_or_else(|| no_such(inventory, name, id))?;
            usable(found).map(|()| found)
        }
        Choice::Newest => all
            .find(|backup| backup.is_good())
            .ok_or_else(|| none(inventory, name, "there is no good backup")),
        Choice::At(time) => {
            let found = all.find(|backup| backup.is_good() && backup.manifest.started_at <= *time);
            found.ok_or_else(|| none(inventory, name, &format!("no good backup is as old as {time}")))
        }
    }
}

fn usable(backup: &Backup) -> Result<(), Failure> {
    let why = match &backup.state {
        State::Good => return Ok(()),
        State::Incomplete(why) => why.clone(),
        State::OfEnvironment(other) => format!("it was made by environment {other}"),
    };
    let what = format!("cannot restore backup {}: {why}", backup.id);
    let hint = match &backup.state {
        State::OfEnvironment(other) => format!("Restore it {}.", with_env(other)),
        _ => "Choose another: `sankofa backups list` shows them.".to_owned(),
    };
    Err(Failure::config(what).hint(hint))
}

fn no_such(inventory: &Inventory, name: &str, id: &str) -> Failure {
    let home = format!("{name}/");
    if let Some(bad) = inventory.unreadable.iter().find(|bad| bad.home == home && bad.id == id) {
        return Failure::config(format!("cannot restore backup {id} of {name}: {}", bad.why));
    }
    let known: Vec<&str> = inventory.of(&home).map(|backup| backup.id.as_str()).collect();
    Failure::config(format!("cannot restore backup {id} of {name}: there is none with this id"))
        .hint(nearest_hint(id, known))
}

fn none(inventory: &Inventory, name: &str, why: &str) -> Failure {
    let home = format!("{name}/");
    let good: Vec<&str> =
        inventory.of(&home).filter(|one| one.is_good()).map(|one| one.id.as_str()).collect();
    let bad = inventory.of(&home).filter(|one| !one.is_good()).count()
        + inventory.unreadable.iter().filter(|one| one.home == home).count();
    let hint = match (good.last(), bad) {
        (Some(oldest), _) => format!("The oldest good one is {oldest}."),
        (None, 0) => "Nothing is stored under this name; check `store:` and its prefix.".to_owned(),
        (None, bad) => format!("{bad} cannot be used; `sankofa backups list` says why."),
    };
    Failure::config(format!("cannot restore {name}: {why}")).hint(hint)
}
