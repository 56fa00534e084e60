//! Puts new files into a project: all of them, or none; never over a file that is there.
//!
//! In:    a project directory, texts by path. Out: files.
//! Holds: every path is looked at before the first file is written; each file appears whole.

use crate::error::Failure;
use anyhow::{Context as _, Result};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file that is to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its path in the project.
    pub path: String,
    /// Its text.
    pub text: String,
    /// One that is there already stays as it is; else that is an error.
    pub keep_existing: bool,
}

/// Writes what is missing; returns the paths written.
///
/// # Errors
/// 78 when a file is there that should be new, naming it; 77 and 75 as the file system says.
/// Nothing is left behind then.
pub fn place(project: &Path, drafts: &[Draft]) -> Result<Vec<String>> {
    refuse_existing(project, drafts)?;
    let mut written: Vec<PathBuf> = Vec::new();
    let mut told = Vec::new();
    for draft in drafts.iter().filter(|draft| !is_there(project, draft)) {
        let path = project.join(&draft.path);
        if let Err(error) = write(&path, draft) {
            written.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(error);
        }
        written.push(path);
        told.push(draft.path.clone());
    }
    Ok(told)
}

/// Refuses drafts of which one is there already and should be new.
///
/// # Errors
/// 78, naming the file.
pub fn refuse_existing(project: &Path, drafts: &[Draft]) -> Result<(), Failure> {
    match drafts.iter().find(|draft| !draft.keep_existing && is_there(project, draft)) {
        Some(there) => Err(taken(&there.path)),
        None => Ok(()),
    }
}

fn is_there(project: &Path, draft: &Draft) -> bool {
    project.join(&draft.path).symlink_metadata().is_ok()
}

fn taken(path: &str) -> Failure {
    Failure::config(format!("cannot write {path}: it is there already, and nothing is overwritten")).hint(
        "Give the pipeline another name with `--pipeline NAME`, or look at the proposal with `--dry-run`.",
    )
}

fn write(path: &Path, draft: &Draft) -> Result<()> {
    let cannot = || format!("cannot write {}", draft.path);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(cannot)?;
    let mut file = tempfile::Builder::new()
        .prefix(".sankofa-")
        .permissions(fs::Permissions::from_mode(0o666)) // less the umask, as any new file
        .tempfile_in(folder)
        .with_context(cannot)?;
    file.write_all(draft.text.as_bytes()).with_context(cannot)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(taken(&draft.path).into()),
        Err(error) => Err(error.error).with_context(cannot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::classify;

    fn draft(path: &str, keep_existing: bool) -> Draft {
        Draft { path: path.to_owned(), text: "new".to_owned(), keep_existing }
    }

    #[test]
    fn a_file_that_is_there_stops_all_of_them_before_the_first_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/two"), "old").unwrap();
        let failure =
            classify(&place(folder.path(), &[draft("one", false), draft("b/two", false)]).unwrap_err());
        assert_eq!(failure.kind.exit_code(), 78);
        assert!(failure.what.contains("b/two"), "{}", failure.what);
        assert!(!folder.path().join("one").exists());
        assert_eq!(fs::read_to_string(folder.path().join("b/two")).unwrap(), "old");
    }

    #[test]
    fn a_file_that_may_stay_stays_and_the_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one"), "old").unwrap();
        let written = place(folder.path(), &[draft("one", true), draft("b/two", false)]).unwrap();
        assert_eq!(written, ["b/two"]);
        assert_eq!(fs::read_to_string(folder.path().join("one")).unwrap(), "old");
    }
}
