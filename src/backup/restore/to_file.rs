//! Writes the archive to a file, for people who want to run `pg_restore` themselves.
//!
//! In:    a backup, the identities that open it, a path where nothing is.
//! Out:   the archive, readable by its owner only.
//! Holds: the file is there whole and verified, or not at all.
//! Not here: verifying (`verify`).

use super::spool::has_room;
use super::verify::{Output, verify};
use crate::backup::inventory::Backup;
use crate::backup::manifest::Counts;
use crate::backup::seal::Identities;
use crate::error::Failure;
use crate::store::Store;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::NamedTempFile;

struct ToFile {
    file: NamedTempFile,
    shown: String,
}

impl Output for ToFile {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.shown))
    }
}

/// Whether `bytes` can be written to `path`; returns its directory.
///
/// # Errors
/// 78 when something is there already or the directory is not; 75 when the disk has too little room.
pub fn check(path: &Path, bytes: u64) -> Result<PathBuf, Failure> {
    if path.symlink_metadata().is_ok() {
        let what = format!("cannot write {}: something is there already", path.display());
        return Err(Failure::config(what).hint("Name another file."));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    has_room(&folder, bytes)?;
    Ok(folder)
}

/// Writes the archive of `backup` to `path`; what it holds, in numbers.
///
/// # Errors
/// As [`check`] and [`verify`].
pub async fn write(
    store: &Arc<dyn Store>,
    backup: &Backup,
    identities: &Identities,
    path: &Path,
) -> Result<Counts> {
    let shown = path.display().to_string();
    let folder = check(path, backup.manifest.object.plain_bytes)?;
    let file = tempfile::Builder::new().prefix(".sankofa-restore-").tempfile_in(folder);
    let file = file.with_context(|| format!("cannot write {shown}"))?;
    let verified = verify(store, backup, identities, ToFile { file, shown: shown.clone() }).await?;
    let (counts, path) = (verified.archive.counts(), path.to_owned());
    let settle = move || -> Result<()> {
        let file = verified.output.file;
        file.as_file().sync_all().with_context(|| format!("cannot write {shown}"))?;
        let kept = file.persist_noclobber(&path).map_err(|refused| refused.error);
        kept.map(drop).with_context(|| format!("cannot write {shown}"))
    };
    tokio::task::spawn_blocking(settle).await.context("a thread failed")??;
    Ok(counts)
}
