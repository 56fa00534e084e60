//! Locks: what DAGs read instead of the project files.
//!
//! In:    project files; the folder of the locks.
//! Out:   the text of a lock, where it belongs, whether the file there is it.
//! Holds: a lock is written as a whole or not at all.
//! Not here: what is in one (`config::compile`).

use super::{Files, compile, compile_backups};
use crate::error::Failure;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The name of the lock of backups.
pub const BACKUPS: &str = "backups";

/// One lock as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its pipeline, or [`BACKUPS`].
    pub name: String,
    text: String,
}

impl Lock {
    /// That of a pipeline; none may have the name of the lock of backups.
    ///
    /// # Errors
    /// 78 as `config::load_pipeline`.
    pub fn of_pipeline(files: &Files, name: &str) -> Result<Lock> {
        if name == BACKUPS {
            let failure =
                Failure::config("cannot compile pipeline backups: the lock of backups is called so");
            return Err(failure.hint("Give the pipeline another name.").into());
        }
        Ok(Lock { name: name.to_owned(), text: format!("{:#}\n", compile(files, name)?) })
    }

    /// That of the databases which Airflow backs up.
    ///
    /// # Errors
    /// 78 as `config::load_project`.
    pub fn of_backups(files: &Files) -> Result<Lock> {
        Ok(Lock { name: BACKUPS.to_owned(), text: format!("{:#}\n", compile_backups(files)?) })
    }

    /// Its file in `folder`.
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.lock.json", self.name))
    }

    /// Whether the file in `folder` is this.
    pub fn is_current(&self, folder: &Path) -> bool {
        std::fs::read(self.path(folder)).is_ok_and(|found| found == self.text.as_bytes())
    }

    /// Writes it into `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the file cannot be written; what was there stays.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = self.path(folder);
        let cannot = || format!("cannot write {}", path.display());
        std::fs::create_dir_all(folder).with_context(cannot)?;
        let mut file =
            tempfile::Builder::new().permissions(readable()).tempfile_in(folder).with_context(cannot)?;
        file.write_all(self.text.as_bytes()).with_context(cannot)?;
        file.persist(&path).with_context(cannot)?;
        Ok(())
    }

    /// That the file is something else, and what to do.
    pub fn stale(&self) -> Failure {
        let words = if self.name == BACKUPS { "--backups" } else { &self.name };
        Failure::config(format!("cannot accept the lock of {}: it is not what its files say now", self.name))
            .hint(format!("Run `sankofa config compile {words}` and commit the lock."))
    }
}

/// The folder of a project's locks.
pub fn folder(files: &Files) -> PathBuf {
    files.project_dir.join("locks")
}

/// Locks are read by the scheduler's user; the umask still applies.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
