//! The account that servers run as.
//!
//! Out:   commands that run as `postgres` or `nobody` when root runs the tests, else unchanged.
//! Holds: the same choice as `server_account` in `tests/testbed/install.sh`.

use std::ffi::CString;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// (uid, gid) to run servers as; None for an ordinary user, who runs them as itself.
fn ids() -> Option<(u32, u32)> {
    static IDS: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *IDS.get_or_init(|| {
        // SAFETY: geteuid cannot fail and touches no memory.
        let is_root = unsafe { libc::geteuid() } == 0;
        is_root.then(|| look_up("postgres").or_else(|| look_up("nobody")).expect("an account for servers"))
    })
}

fn look_up(name: &str) -> Option<(u32, u32)> {
    let name = CString::new(name).expect("no NUL in an account's name");
    // SAFETY: `name` ends in NUL; the entry is read before any other passwd call, and the only
    // caller runs once, inside `OnceLock`.
    let entry = unsafe { libc::getpwnam(name.as_ptr()).as_ref() }?;
    Some((entry.pw_uid, entry.pw_gid))
}

/// Lets `command` run as the servers' account.
pub fn lower(command: &mut Command) -> &mut Command {
    if let Some((uid, gid)) = ids() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Gives `path` to the servers' account.
pub fn give(path: &Path) {
    if let Some((uid, gid)) = ids() {
        chown(path, Some(uid), Some(gid)).expect("giving a file to the servers' account");
    }
}

/// Gives a folder and all that is in it to the servers' account.
pub fn give_all(folder: &Path) {
    give(folder);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => give_all(&entry.path()),
            false => give(&entry.path()),
        }
    }
}
