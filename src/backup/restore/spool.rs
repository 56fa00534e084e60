//! The plain archive on its way to `pg_restore`: a file without a name.
//!
//! In:    bytes in order, of a length that is known before.
//! Out:   an open file that only this process and the children it is given to can reach.
//! Holds: the file has no name from its first byte on, so that the system frees it when the last of
//!        them has ended, however that was: no plain text stays on the disk, not even after SIGKILL.
//! Not here: what is written (`verify`), who reads it (`apply`).
//!
//! `pg_restore --jobs` opens its archive again by name in each worker; it is given the file as its
//! standard input and `/proc/self/fd/0` as the name, which opens the same file anew (measured, 13 to 18).

use crate::error::Failure;
use crate::report::size;
use anyhow::Context;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What stays free on the disk of the spool, so that others go on.
const SPARE_BYTES: u64 = 16 << 20;

/// The name under which a child finds a spool that is its standard input.
pub const NAME_IN_CHILD: &str = "/proc/self/fd/0";

/// A file without a name that holds an archive.
#[derive(Debug)]
pub struct Spool {
    file: File,
    directory: PathBuf,
    expected: u64,
}

impl Spool {
    /// Makes one in `directory` for `bytes`, after looking whether they fit.
    ///
    /// # Errors
    /// 75 when the disk has less room, in figures; 78 when the directory cannot be used.
    pub fn new(directory: &Path, bytes: u64) -> anyhow::Result<Spool> {
        has_room(directory, bytes)?;
        let cannot = || format!("cannot make a spool file in {}", directory.display());
        let file = tempfile::tempfile_in(directory).map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => Failure::config(format!("{}: no such directory", cannot()))
                .hint("Name one with `--spool DIR`.")
                .into(),
            _ => anyhow::Error::from(why).context(cannot()),
        })?;
        Ok(Spool { file, directory: directory.to_owned(), expected: bytes })
    }

    /// Adds bytes at the end. Blocks.
    ///
    /// # Errors
    /// 75 when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let done = self.file.write_all(bytes);
        done.with_context(|| format!("cannot write the spool in {}", self.directory.display()))
    }

    /// Writes over what is there already. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn patch(&self, patches: &[(u64, Vec<u8>)]) -> anyhow::Result<()> {
        for (at, bytes) in patches {
            let done = self.file.write_all_at(bytes, *at);
            done.with_context(|| format!("cannot write the spool in {}", self.directory.display()))?;
        }
        Ok(())
    }

    /// The length that it was made for.
    pub fn expected_bytes(&self) -> u64 {
        self.expected
    }

    /// The file once more, from its beginning, for a child's standard input or for a look into it.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn reopened(&self) -> anyhow::Result<File> {
        let mut file = self.file.try_clone().context("cannot open the spool again")?;
        file.seek(SeekFrom::Start(0)).context("cannot go back to the start of the spool")?;
        Ok(file)
    }
}

/// Whether `bytes` fit on the disk of `directory`.
///
/// # Errors
/// 75 when they do not, 78 when there is no such directory.
pub fn has_room(directory: &Path, bytes: u64) -> Result<(), Failure> {
    let free = free_bytes(directory)?;
    let wanted = bytes.saturating_add(SPARE_BYTES);
    if free >= wanted {
        return Ok(());
    }
    let what = format!(
        "cannot spool the archive in {}: it takes {}, and {} are free",
        directory.display(),
        size(wanted),
        size(free)
    );
    Err(Failure::temporary(what).hint("Free some disk space, or name another directory with `--spool DIR`."))
}

fn free_bytes(directory: &Path) -> Result<u64, Failure> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: statvfs is plain numbers, for which zero is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL and `found` outlives the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0 {
        let why = std::io::Error::last_os_error();
        let what = format!("cannot look at the spool directory {}: {why}", directory.display());
        return Err(Failure::config(what).hint("Name another with `--spool DIR`."));
    }
    Ok((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::io::Read;

    #[test]
    fn a_spool_has_no_name_and_is_read_from_its_start_with_its_patches() {
        let place = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(place.path(), 11).unwrap();
        spool.write(b"hello ").unwrap();
        spool.write(b"world").unwrap();
        spool.patch(&[(0, b"J".to_vec()), (9, b"--".to_vec())]).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        for _ in 0..2 {
            let mut text = String::new();
            spool.reopened().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "Jello wor--");
        }
    }

    #[test]
    fn a_spool_that_would_not_fit_is_refused_before_it_is_made() {
        let place = tempfile::tempdir().unwrap();
        let failure = has_room(place.path(), 1 << 60).unwrap_err();
        assert_eq!(failure.kind, Kind::Temporary);
        assert!(failure.what.contains("it takes") && failure.what.contains("are free"), "{}", failure.what);
        assert_eq!(has_room(&place.path().join("none"), 1).unwrap_err().kind, Kind::Config);
    }
}
