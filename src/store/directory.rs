//! A directory as a store.
//!
//! In:    the directory, names of objects. Out: files below it, one version of each.
//! Holds: a file is there whole, on the disk and under its name, or not at all; what is there is never
//!        replaced; no name leaves the directory, no symbolic link below it is followed.
//! Not here: how a file gets there (`directory::upload`).

mod upload;

use super::{Deleted, LockMode, Rules, Store, Stream, Terms, Upload, Version};
use crate::error::{Failure, Kind};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// What the name of an unfinished file begins with; no object may be called so.
const PART: &str = ".part-";
/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// Pieces that wait for whoever reads.
const WAITING: usize = 4;

/// One directory; cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The store in `root`, which is made by the first object; its parent has to be there to be read.
    pub fn new(root: impl AsRef<Path>) -> Self {
        Directory { root: root.as_ref().components().collect() }
    }

    /// Where the object called `name` lies.
    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let mut path = self.root.clone();
        for part in name.split('/') {
            let is_name = !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
            if !is_name || part.starts_with(PART) {
                let what = format!("cannot use {name:?} in {}: it is no name of an object", self.place());
                return Err(Failure::config(what));
            }
            path.push(part);
        }
        Ok(path)
    }

    /// Refuses a path that leads through a symbolic link below the root.
    fn without_links(&self, path: &Path) -> Result<()> {
        for part in path.ancestors().take_while(|part| *part != self.root) {
            match fs::symlink_metadata(part) {
                Ok(found) if found.is_symlink() => {
                    let what = format!("cannot use {}: it is a symbolic link", part.display());
                    return Err(Failure::config(what).hint("Put a file or directory in its place.").into());
                }
                Ok(_) => (),
                Err(error) if is_gone(&error) => (),
                Err(error) => return Err(failed(error, "look at", part)),
            }
        }
        Ok(())
    }

    /// Every file below the root whose name starts with `prefix`, unfinished ones as `parts` says.
    fn walk(&self, prefix: &str, parts: bool) -> Result<Vec<(String, PathBuf, Metadata)>> {
        let (folder, _) = prefix.rsplit_once('/').unwrap_or_default();
        let start = if folder.is_empty() { self.root.clone() } else { self.path(folder)? };
        self.without_links(&start)?;
        if !self.is_made()? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let mut folders = vec![(folder.to_owned(), start)];
        while let Some((above, folder)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(failed(error, "list", &folder)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed(error, "list", &folder))?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let is_part = name.starts_with(PART);
                let name = if above.is_empty() { name } else { format!("{above}/{name}") };
                let kind = match entry.metadata() {
                    Ok(kind) => kind,
                    Err(error) if is_gone(&error) => continue,
                    Err(error) => return Err(failed(error, "look at", &entry.path())),
                };
                if kind.is_dir() && (name.starts_with(prefix) || prefix.starts_with(&format!("{name}/"))) {
                    folders.push((name, entry.path()));
                } else if kind.is_file() && is_part == parts && name.starts_with(prefix) {
                    found.push((name, entry.path(), kind));
                }
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// Whether the root is there. One that nobody has made yet is empty; one whose parent is missing too
    /// is a mistake, or a disk that is not mounted.
    fn is_made(&self) -> Result<bool> {
        let error = match fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => return Ok(true),
            Ok(_) => io::Error::from(ErrorKind::NotADirectory),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
                if parent.is_none_or(Path::is_dir) && fs::symlink_metadata(&self.root).is_err() {
                    return Ok(false);
                }
                error
            }
            Err(error) => error,
        };
        let what = format!("cannot list {}: {error}", self.place());
        Err(match error.kind() {
            ErrorKind::PermissionDenied => Failure::permission(what),
            _ => Failure::config(what).hint("Make the directory, or mount what it lies on."),
        }
        .into())
    }

    fn list_now(&self, prefix: &str) -> Result<Vec<Version>> {
        self.walk(prefix, false)?
            .into_iter()
            .map(|(name, path, found)| version(name, &path, &found))
            .collect()
    }

    fn delete_now(&self, name: &str) -> Result<Deleted> {
        let path = self.path(name)?;
        self.without_links(&path)?;
        match fs::remove_file(&path) {
            Ok(()) => (),
            Err(error) if is_gone(&error) => return Ok(Deleted::WasGone),
            Err(error) => return Err(failed(error, "delete", &path)),
        }
        // On the disk before anything else goes: no manifest may come back without its objects.
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
            let done = sync(folder);
            if folder == self.root || fs::remove_dir(folder).is_err() {
                done.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
                    .map_err(|error| failed(error, "delete", &path))?;
                break;
            }
        }
        Ok(Deleted::Gone)
    }

    fn sweep_now(&self, prefix: &str, before: Timestamp) -> Result<usize> {
        let mut swept = 0;
        for (_, path, found) in self.walk_parts(prefix)? {
            if modified(&found, &path)? >= before {
                continue;
            }
            // Whoever writes it holds its lock.
            let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) else {
                continue;
            };
            if file.try_lock().is_err() {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => swept += 1,
                Err(error) if is_gone(&error) => (),
                Err(error) => return Err(failed(error, "delete", &path)),
            }
        }
        Ok(swept)
    }

    /// Unfinished files of objects whose names start with `prefix`, as far as their folders tell.
    fn walk_parts(&self, prefix: &str) -> Result<Vec<(String, PathBuf, Metadata)>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut parts = self.walk(&folder, true)?;
        let below =
            |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        parts.retain(|(name, ..)| below(name).starts_with(prefix) || below(name) == folder);
        Ok(parts)
    }

    fn open_now(&self, version: &Version, range: &Range<u64>) -> Result<File> {
        let path = self.path(&version.name)?;
        self.without_links(&path)?;
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let mut file = opened.map_err(|error| failed(error, "read", &path))?;
        let bytes = file.metadata().map_err(|error| failed(error, "read", &path))?.len();
        if bytes != version.bytes {
            let what = format!(
                "cannot read {}: it has {bytes} bytes, and was listed with {}",
                path.display(),
                version.bytes
            );
            return Err(Failure::data(what).into());
        }
        file.seek(SeekFrom::Start(range.start)).map_err(|error| failed(error, "read", &path))?;
        Ok(file)
    }
}

impl Store for Directory {
    fn place(&self) -> String {
        format!("directory {}", self.root.display())
    }

    fn begin<'a>(&'a self, name: &'a str, terms: &'a Terms) -> BoxFuture<'a, Result<Box<dyn Upload>>> {
        async move {
            if terms.lock_until.is_some() {
                let what = format!("cannot store {name} in {}: it has no Object Lock", self.place());
                return Err(Failure::config(what).hint("Leave `lock:` out for this store.").into());
            }
            let path = self.path(name)?;
            let (root, name) = (self.clone(), name.to_owned());
            let begun = blocking(move || {
                root.without_links(&path)?;
                upload::Begun::new(&root.root, path, name)
            });
            Ok(Box::new(begun.await?.start()) as Box<dyn Upload>)
        }
        .boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<Version>>> {
        let (root, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || root.list_now(&prefix)).boxed()
    }

    fn read<'a>(&'a self, version: &'a Version, range: Range<u64>) -> BoxFuture<'a, Result<Stream>> {
        let (root, version) = (self.clone(), version.clone());
        let range = range.start.min(version.bytes)..range.end.min(version.bytes);
        async move {
            let left = range.end.saturating_sub(range.start);
            let place = format!("{} in {}", version.name, root.place());
            let file = blocking(move || root.open_now(&version, &range)).await?;
            let (pieces, taken) = mpsc::channel(WAITING);
            tokio::task::spawn_blocking(move || feed_reader(file, left, &place, &pieces));
            let stream = futures_util::stream::unfold(taken, |mut taken| async move {
                let piece = taken.recv().await?;
                Some((piece, taken))
            });
            Ok(Box::pin(stream) as Stream)
        }
        .boxed()
    }

    fn delete<'a>(&'a self, version: &'a Version) -> BoxFuture<'a, Result<Deleted>> {
        let (root, name) = (self.clone(), version.name.clone());
        blocking(move || root.delete_now(&name)).boxed()
    }

    fn sweep<'a>(&'a self, prefix: &'a str, before: Timestamp) -> BoxFuture<'a, Result<usize>> {
        let (root, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || root.sweep_now(&prefix, before)).boxed()
    }

    fn rules<'a>(&'a self, _prefix: &'a str) -> BoxFuture<'a, Result<Rules>> {
        async { Ok(Rules::default()) }.boxed()
    }

    fn set_rules<'a>(&'a self, _prefix: &'a str, _keep_days: u32) -> BoxFuture<'a, Result<bool>> {
        async { Ok(false) }.boxed()
    }

    fn set_default_lock(&self, _: u32, _: LockMode) -> BoxFuture<'_, Result<bool>> {
        std::future::ready(Ok(false)).boxed()
    }
}

/// Runs `work` on a thread that may wait for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a thread that reads or writes a directory has died")?
}

/// Sends the next `left` bytes of `file` until nobody takes them.
fn feed_reader(mut file: File, mut left: u64, place: &str, pieces: &mpsc::Sender<Result<Bytes>>) {
    while left > 0 {
        let mut piece = vec![0; READ_BYTES.min(usize::try_from(left).unwrap_or(READ_BYTES))];
        let read = match file.read(&mut piece) {
            Ok(0) => Err(Failure::data(format!("cannot read {place}: it became shorter")).into()),
            Ok(read) => Ok(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(failed(error, "read", Path::new(place))),
        };
        let ended = read.is_err();
        let piece = read.map(|read| {
            left -= read as u64;
            piece.truncate(read);
            Bytes::from(piece)
        });
        if pieces.blocking_send(piece).is_err() || ended {
            return;
        }
    }
}

fn version(name: String, path: &Path, found: &Metadata) -> Result<Version> {
    let stored_at = modified(found, path)?;
    let (id, bytes) = (String::new(), found.len());
    Ok(Version { name, id, bytes, stored_at, is_marker: false, locked_until: None })
}

fn modified(found: &Metadata, path: &Path) -> Result<Timestamp> {
    let at = found.modified().map_err(|error| failed(error, "look at", path))?;
    // A time that no calendar has is as good as the first one.
    Ok(Timestamp::try_from(at).unwrap_or(Timestamp::MIN))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Puts the entries of a folder on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// `error` as what it means to a scheduler.
fn failed(error: io::Error, verb: &str, path: &Path) -> anyhow::Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Permission,
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Kind::Data,
        ErrorKind::InvalidFilename => Kind::Config,
        _ => Kind::Temporary,
    };
    let failure = Failure::new(kind, format!("cannot {verb} {}: {error}", path.display()));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            failure.hint("Free some disk space and run it again.").into()
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            if !matches!(verb, "read" | "list" | "look at") =>
        {
            failure.hint(crate::error::MAY_WRITE).into()
        }
        _ => failure.into(),
    }
}

#[cfg(test)]
mod tests;
