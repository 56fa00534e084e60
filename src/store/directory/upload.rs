//! How a file gets into a directory: under a name of its own first, and whole.
//!
//! In:    bytes in order. Out: a file under its final name.
//! Holds: the file is on the disk before its name is, and its name before `finish` answers; what is not
//!        finished is removed, also when it is dropped; nothing that is there is replaced.

use super::super::{Upload, Version};
use super::{PART, failed, is_gone, sync, version};
use crate::error::Failure;
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pieces that wait for the disk.
const WAITING: usize = 4;
/// How often a folder that a delete removes at the same moment is made again.
const TRIES: usize = 10;

/// A file that nobody sees yet.
pub struct Begun {
    file: File,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    /// Where the store begins: folders above are not ours.
    root: PathBuf,
    /// Its final path.
    path: PathBuf,
    /// Its path until then.
    part: PathBuf,
    /// Its name in the store.
    name: String,
    /// Whether it may still be finished or withdrawn; held over either.
    open: Arc<Mutex<bool>>,
}

impl Begun {
    /// Makes the folders and the file, and locks it so that no sweep takes it for an abandoned one.
    pub fn new(root: &Path, path: PathBuf, name: String) -> Result<Begun> {
        let part = path.with_file_name(format!("{PART}{}", uuid::Uuid::now_v7().simple()));
        let file = create(&part).map_err(|error| failed(error, "write", &part))?;
        file.lock().map_err(|error| failed(error, "lock", &part))?;
        let shared = Shared { root: root.to_owned(), path, part, name, open: Arc::new(Mutex::new(true)) };
        if fs::symlink_metadata(&shared.path).is_ok() {
            shared.withdraw();
            return Err(there_already(&shared.path));
        }
        Ok(Begun { file, shared })
    }

    /// The same, written to `file`.
    #[cfg(test)]
    pub fn writing_to(self, file: File) -> Begun {
        Begun { file, ..self }
    }

    /// Starts the thread that writes.
    pub fn start(self) -> Writing {
        let (pieces, taken) = mpsc::channel(WAITING);
        let Begun { file, shared } = self;
        let writer = shared.clone();
        let thread = tokio::task::spawn_blocking(move || {
            let done = write(file, taken, &writer);
            writer.withdraw(); // does nothing to what is finished
            done
        });
        Writing { pieces, thread: Some(thread), shared, fed: 0 }
    }
}

fn create(part: &Path) -> io::Result<File> {
    let folder = part.parent().unwrap_or(Path::new("."));
    let mut tries = 0;
    loop {
        tries += 1;
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(part);
        // A delete beside us may take the folder away: between our two calls, or within the first, which then
        // says that there is something that is no folder.
        let is_raced = |error: &io::Error| is_gone(error) || error.kind() == ErrorKind::AlreadyExists;
        match fs::create_dir_all(folder).and_then(|()| open()) {
            Err(error) if is_raced(&error) && tries < TRIES => (),
            made => return made,
        }
    }
}

enum Piece {
    Data(Bytes),
    End,
}

/// Writes until the end is fed; `None` where it never is.
fn write(mut file: File, mut pieces: mpsc::Receiver<Piece>, shared: &Shared) -> Result<Option<Version>> {
    let mut bytes = 0;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data(data) => {
                file.write_all(&data).map_err(|error| failed(error, "write", &shared.path))?;
                bytes += data.len() as u64;
            }
            Piece::End => return shared.finish(&file, bytes).map(Some),
        }
    }
    Ok(None)
}

impl Shared {
    fn finish(&self, file: &File, bytes: u64) -> Result<Version> {
        file.sync_all().map_err(|error| failed(error, "write", &self.path))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(Failure::temporary(format!("cannot store {}: it was withdrawn", self.name)).into());
        }
        give_name(&self.part, &self.path)?;
        *open = false;
        drop(open);
        for folder in self.path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root)) {
            sync(folder).map_err(|error| failed(error, "write", &self.path))?;
        }
        // A root that has just been made has its own name in the folder above; it may not be ours to read.
        self.root.parent().map(sync);
        let found = fs::symlink_metadata(&self.path).map_err(|error| failed(error, "list", &self.path))?;
        if found.len() != bytes {
            let what = format!(
                "cannot store {}: it is listed with {} bytes, and {bytes} were written",
                self.path.display(),
                found.len()
            );
            return Err(Failure::data(what).into());
        }
        version(self.name.clone(), &self.path, &found)
    }

    /// Removes what is not finished, and the folders it was the first in.
    fn withdraw(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *open, false) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.part) {
            tracing::warn!(part = %self.part.display(), %error, "unfinished file not removed");
        }
        for folder in self.path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// Gives the file its name where there is none like it.
fn give_name(part: &Path, path: &Path) -> Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => fs::remove_file(part).map_err(|error| failed(error, "write", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(there_already(path)),
        // A file system without hard links.
        Err(_) if fs::symlink_metadata(path).is_ok() => Err(there_already(path)),
        Err(_) => fs::rename(part, path).map_err(|error| failed(error, "write", path)),
    }
}

fn there_already(path: &Path) -> anyhow::Error {
    let what = format!("cannot store {}: there is one already", path.display());
    Failure::data(what).hint("What is stored is never replaced; delete it first, or use another name.").into()
}

/// An upload into a directory.
pub struct Writing {
    pieces: mpsc::Sender<Piece>,
    thread: Option<JoinHandle<Result<Option<Version>>>>,
    shared: Shared,
    fed: u64,
}

impl Writing {
    /// How the thread ended.
    async fn ended(&mut self) -> Result<Option<Version>> {
        match self.thread.take() {
            Some(thread) => thread.await.context("a thread that writes a directory has died")?,
            None => {
                Err(Failure::temporary(format!("cannot store {}: it has failed", self.shared.name)).into())
            }
        }
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        self.ended().await?;
        Err(Failure::temporary(format!("cannot store {}: it was withdrawn", self.shared.name)).into())
    }
}

impl Upload for Writing {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        self.fed += bytes.len() as u64;
        self.send(Piece::Data(bytes)).boxed()
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<Version>> {
        async move {
            self.send(Piece::End).await?;
            let stored = self.ended().await?;
            stored
                .filter(|version| version.bytes == self.fed)
                .with_context(|| format!("cannot store {}: not all of it was written", self.shared.name))
        }
        .boxed()
    }

    fn cancel(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let Writing { pieces, thread, shared, .. } = *self;
            drop(pieces);
            if let Some(thread) = thread {
                drop(thread.await);
            }
            shared.withdraw();
        }
        .boxed()
    }

    fn canceller(&self) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        async move { drop(tokio::task::spawn_blocking(move || shared.withdraw()).await) }.boxed()
    }
}
