//! Objects of one backup, put into the store one after the other.
//!
//! In:    programs that write, texts; the store.
//! Out:   objects, whole and listed with their length.
//! Holds: an object is finished only after the program that wrote it has ended well; what is not finished
//!        is withdrawn, and what is finished is deleted again when the backup fails before its manifest.
//! Not here: which objects a backup has (`run`).

use crate::backup::manifest::Object;
use crate::backup::source::Source;
use crate::backup::stream::{self, Passed, Way};
use crate::error::Failure;
use crate::pg::child::{Ended, Running};
use crate::stop::{Registration, StopSignal};
use crate::store::{Store, Terms, Upload, Version};
use anyhow::Result;
use std::fs::File;
use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A folder that is being filled; nothing in it is a backup before the manifest is there.
pub struct Folder {
    store: Arc<dyn Store>,
    stop: StopSignal,
    terms: Terms,
    /// Its name, with `/`.
    name: String,
    finished: Vec<(Version, Registration)>,
}

/// A program that is to be started, and what becomes of its output.
pub struct Job<'a, F> {
    /// Where it reads.
    pub source: &'a Source,
    /// What fails with it, such as `cannot dump records`.
    pub cannot: String,
    /// How its output is treated.
    pub way: Way,
    /// Starts it.
    pub start: F,
}

/// A program's output, kept.
pub struct Kept {
    /// As the manifest has it.
    pub object: Object,
    /// The figures, and what the archive held.
    pub passed: Passed,
    /// How the program ended.
    pub ended: Ended,
    /// How long the program ran.
    pub dumped: Duration,
    /// How long the end of the upload took.
    pub finished: Duration,
}

/// How long deleting what is finished may take.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(10);

impl Folder {
    /// The folder `name` (with `/`) of `store`.
    pub fn new(store: Arc<dyn Store>, stop: &StopSignal, terms: Terms, name: String) -> Self {
        Folder { store, stop: stop.clone(), terms, name, finished: Vec::new() }
    }

    /// Its name, with `/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Keeps what the program of `job` writes, as `object`.
    ///
    /// # Errors
    /// The store's; why the program failed; that the source was lost.
    pub async fn keep<F>(&mut self, object: &str, job: Job<'_, F>) -> Result<Kept>
    where
        F: FnOnce() -> Result<(Running, File)>,
    {
        let name = format!("{}{object}", self.name);
        let mut upload = self.store.begin(&name, &self.terms).await?;
        let _withdrawn = self.stop.on_stop(upload.canceller());
        let begun = Instant::now();
        match self.fill(upload.as_mut(), job).await {
            Ok((passed, ended)) => {
                let dumped = begun.elapsed();
                let object = passed.object(object);
                self.finish(upload, object.stored_bytes).await?;
                let finished = begun.elapsed().saturating_sub(dumped);
                Ok(Kept { object, passed, ended, dumped, finished })
            }
            Err(error) => {
                upload.cancel().await;
                Err(error)
            }
        }
    }

    /// Runs the program into `upload`, which is not finished.
    async fn fill<F>(&self, upload: &mut dyn Upload, job: Job<'_, F>) -> Result<(Passed, Ended)>
    where
        F: FnOnce() -> Result<(Running, File)>,
    {
        let Job { source, cannot, way, start } = job;
        let (mut running, output) = start()?;
        let group = running.group();
        let _ended = self.stop.on_stop({
            let group = group.clone();
            async move { group.stop().await }
        });
        let passed = tokio::select! {
            passed = stream::pump(output, way, upload) => passed,
            lost = source.lost() => Err(lost.into()),
        };
        let ended = match &passed {
            Ok(_) => running.wait().await?,
            Err(_) => tokio::join!(running.wait(), group.stop()).0?,
        };
        if let Some(reason) = self.stop.reason() {
            return Err(reason.failure().into());
        }
        let passed = passed?;
        match source.failure_of(&ended, &cannot) {
            Some(failure) => Err(failure.into()),
            None => Ok((passed, ended)),
        }
    }

    /// Keeps `text`, sealed as `way` says, as `object`.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_text(&mut self, object: &str, way: Way, text: Vec<u8>) -> Result<Object> {
        let mut upload = self.store.begin(&format!("{}{object}", self.name), &self.terms).await?;
        let _withdrawn = self.stop.on_stop(upload.canceller());
        match stream::pump(Cursor::new(text), way, upload.as_mut()).await {
            Ok(passed) => {
                let object = passed.object(object);
                self.finish(upload, object.stored_bytes).await?;
                Ok(object)
            }
            Err(error) => {
                upload.cancel().await;
                Err(error)
            }
        }
    }

    /// Finishes `upload`, which is listed with `bytes` then.
    async fn finish(&mut self, upload: Box<dyn Upload>, bytes: u64) -> Result<()> {
        let version = upload.finish().await?;
        let (store, gone) = (self.store.clone(), version.clone());
        let registration = self.stop.on_stop(async move { drop(store.delete(&gone).await) });
        let is_whole = version.bytes == bytes;
        let what =
            format!("cannot store {}: {bytes} bytes were sent, {} are there", version.name, version.bytes);
        self.finished.push((version, registration));
        if is_whole { Ok(()) } else { Err(Failure::temporary(what).into()) }
    }

    /// Deletes what is finished, as far as the key may; what stays is an orphan, which `backups prune`
    /// finds.
    pub async fn withdraw(self) {
        let delete_all = async {
            for (version, _registration) in &self.finished {
                if let Err(error) = self.store.delete(version).await {
                    tracing::debug!(object = version.name, "not deleted: {error:#}");
                }
            }
        };
        let _ = tokio::time::timeout(WITHDRAW_WITHIN, delete_all).await;
    }

    /// Puts the manifest, as the last object: from here on it is a backup.
    ///
    /// What is finished stays from now on, whatever happens: the manifest may be there although the
    /// answer was lost.
    ///
    /// # Errors
    /// The store's; the reason of a stop that was asked for before.
    pub async fn complete(self, object: &str, text: Vec<u8>) -> Result<()> {
        let Folder { store, stop, terms, name, finished } = self;
        drop(finished); // a stop deletes them no more
        if let Some(reason) = stop.reason() {
            return Err(reason.failure().into()); // it has deleted them, or has begun to
        }
        let mut upload = store.begin(&format!("{name}{object}"), &terms).await?;
        let _withdrawn = stop.on_stop(upload.canceller());
        if let Err(error) = upload.feed(text.into()).await {
            upload.cancel().await;
            return Err(error);
        }
        upload.finish().await.map(drop)
    }
}
