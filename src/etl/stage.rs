//! A run's rows as files: written by `extract`, read by `validate` and `load`.
//!
//! In:    a directory, batches of rows, age recipients.
//! Out:   `<pipeline>/<run>/`: parts `<n>-rows-<k>.copy.zst[.age]`, each a whole COPY binary stream,
//!        and `manifest.json`, written last: without it there is no stage.
//! Holds: every part is hashed as written and checked as read; a torn or missing part is an error
//!        before anything is published; constant memory.
//! Not here: what the plans in the manifest mean (`etl::plan`).

use crate::error::Failure;
use crate::etl::extracted::{Extracted, What};
use crate::etl::plan::TablePlan;
use crate::etl::window::Facts;
use crate::pg::copy::{Batch, HEADER, TRAILER, hex};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Version of the manifest and of what the parts hold.
pub const SCHEMA: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// zstd 1 packs as fast as the source sends; higher levels were slower than the database.
const LEVEL: i32 = 1;
const READ_BYTES: usize = 128 * 1024;

/// What a stage holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The pipeline.
    pub pipeline: String,
    /// The run's id.
    pub run_id: String,
    /// The run's number in the ledger.
    pub run: i64,
    /// The environment that it was extracted in.
    pub environment: String,
    /// Name of the source database, for the guard's patterns.
    pub database: String,
    /// Hash of the resolved pipeline.
    pub config_hash: String,
    /// When it was written.
    pub created_at: jiff::Timestamp,
    /// The snapshot's facts.
    pub facts: Facts,
    /// Encoding of text in the parts, where it is not UTF-8.
    pub encoding: Option<String>,
    /// What the run will do, with the base it started from.
    pub plans: Vec<TablePlan>,
    /// The earlier of clock and oldest transaction in the unit of each plan's key.
    pub caps: Vec<i64>,
    /// What was read, per plan.
    pub extracted: Vec<Extracted>,
    /// The files.
    pub parts: Vec<Part>,
    /// What a person was told.
    pub warnings: Vec<String>,
}

/// One file of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number of the table in the plans.
    pub table: usize,
    /// Rows or keys.
    pub what: What,
    /// Name in the stage's directory.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its length, bytes.
    pub bytes: u64,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// The directory of a run's stage below `root`: readable, and unique for any id.
pub fn directory(root: &Path, pipeline: &str, run_id: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let readable: String = run_id.chars().map(plain).take(60).collect();
    let unique = &hex(&Sha256::digest(run_id))[..16];
    let pipeline: String = pipeline.chars().map(plain).collect();
    root.join(pipeline).join(format!("{readable}-{unique}"))
}

/// A stage that is being written.
pub struct StageWriter {
    directory: PathBuf,
    recipients: Vec<age::x25519::Recipient>,
    next: AtomicU64,
    parts: Arc<Mutex<Vec<Part>>>,
}

impl StageWriter {
    /// Begins a stage in `directory`; what an earlier try left there goes first, its manifest foremost.
    ///
    /// # Errors
    /// 78 for a recipient that is none; as the file system fails.
    pub fn begin(directory: &Path, encrypt_to: &[String]) -> Result<Self> {
        let recipients = encrypt_to.iter().map(|text| {
            text.parse::<age::x25519::Recipient>().map_err(|_| {
                Failure::config("cannot encrypt the stage: `encrypt_to` has no age recipient (age1...)")
            })
        });
        let recipients = recipients.collect::<Result<Vec<_>, _>>()?;
        remove(directory)?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the stage {}", directory.display()))?;
        let (next, parts) = (AtomicU64::new(0), Arc::default());
        Ok(StageWriter { directory: directory.to_owned(), recipients, next, parts })
    }

    /// Begins a part.
    ///
    /// # Errors
    /// As the file system fails.
    pub fn part(&self, table: usize, what: What) -> Result<PartWriter> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let kind = if what == What::Rows { "rows" } else { "keys" };
        let suffix = if self.recipients.is_empty() { "" } else { ".age" };
        let file = format!("{table}-{kind}-{number}.copy.zst{suffix}");
        let path = self.directory.join(&file);
        let out = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let part = Part { table, what, file, rows: 0, bytes: 0, sha256: String::new() };
        let (batches, taken) = mpsc::channel(4);
        let recipients = self.recipients.clone();
        let thread = tokio::task::spawn_blocking(move || {
            write_part(out, &recipients, taken, part)
                .with_context(|| format!("cannot write {}", path.display()))
        });
        Ok(PartWriter { batches, thread, parts: self.parts.clone() })
    }

    /// Writes the manifest: from here on there is a stage.
    ///
    /// # Errors
    /// As the file system fails.
    pub fn finish(self, mut manifest: Manifest) -> Result<Manifest> {
        manifest.parts = std::mem::take(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        manifest.parts.sort_by(|a, b| (a.table, &a.file).cmp(&(b.table, &b.file)));
        let cannot = || format!("cannot write the manifest of {}", self.directory.display());
        let mut file = tempfile::NamedTempFile::new_in(&self.directory).with_context(cannot)?;
        let mut value = serde_json::to_value(&manifest)?;
        value["sha256"] = hash_of(&value).into(); // last, over all before it
        serde_json::to_writer(&mut file, &value).with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        file.persist(self.directory.join(MANIFEST)).with_context(cannot)?;
        File::open(&self.directory).and_then(|dir| dir.sync_all()).with_context(cannot)?;
        Ok(manifest)
    }
}

/// One part that is being written, on a thread of its own.
pub struct PartWriter {
    batches: mpsc::Sender<Batch>,
    thread: tokio::task::JoinHandle<Result<Part>>,
    parts: Arc<Mutex<Vec<Part>>>,
}

impl PartWriter {
    /// Hands a batch to the thread; waits while it is behind.
    ///
    /// # Errors
    /// As the file system fails; a full disk is 75.
    pub async fn write(&mut self, batch: Batch) -> Result<()> {
        if batch.rows > 0 && self.batches.send(batch).await.is_err() {
            return match (&mut self.thread).await {
                Ok(Err(why)) => Err(why),
                _ => Err(anyhow!("the stage's writer has ended early")),
            };
        }
        Ok(())
    }

    /// Ends the part, on disk, and returns its rows.
    ///
    /// # Errors
    /// As the file system fails.
    pub async fn finish(self) -> Result<u64> {
        drop(self.batches);
        let part = self.thread.await??;
        let rows = part.rows;
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        Ok(rows)
    }
}

/// Counts and hashes what passes into a file.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write_part(
    file: File,
    recipients: &[age::x25519::Recipient],
    batches: mpsc::Receiver<Batch>,
    mut part: Part,
) -> Result<Part> {
    let mut hashed = Hashed { inner: BufWriter::new(file), hash: Sha256::new(), bytes: 0 };
    if recipients.is_empty() {
        part.rows = pack(&mut hashed, batches)?;
    } else {
        let to = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(to).map_err(|_| anyhow!("cannot encrypt the stage"))?;
        let mut sealed = encryptor.wrap_output(&mut hashed)?;
        part.rows = pack(&mut sealed, batches)?;
        sealed.finish()?;
    }
    hashed.flush()?;
    part.bytes = hashed.bytes;
    part.sha256 = hex(&hashed.hash.finalize());
    hashed.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(part)
}

/// Packs batches into a whole COPY stream; returns its rows.
fn pack(out: &mut impl Write, mut batches: mpsc::Receiver<Batch>) -> Result<u64> {
    let mut rows = 0;
    let mut packed = zstd::Encoder::new(out, LEVEL)?;
    packed.write_all(HEADER)?;
    while let Some(batch) = batches.blocking_recv() {
        rows += batch.rows;
        packed.write_all(&batch.data)?;
    }
    packed.write_all(&TRAILER)?;
    packed.finish()?;
    Ok(rows)
}

/// Reads the manifest of the stage in `directory`.
///
/// # Errors
/// 65 when there is no stage, it is of another version, or it is torn.
pub fn open(directory: &Path, pipeline: &str, run_id: &str) -> Result<Manifest> {
    let path = directory.join(MANIFEST);
    let again = format!("Run `sankofa extract {pipeline} --run {run_id}` again.");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = format!("cannot load {pipeline}: run {run_id} has no finished stage");
            return Err(Failure::data(what).hint(again).into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let torn =
        || Failure::data(format!("cannot load {pipeline}: the stage's manifest is torn")).hint(again.clone());
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| torn())?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(SCHEMA) => {}
        Some(version) => {
            let what = format!(
                "cannot load {pipeline}: the stage has version {version}, this binary reads {SCHEMA}"
            );
            return Err(Failure::data(what).hint(again).into());
        }
        None => return Err(torn().into()),
    }
    let kept = value.as_object_mut().and_then(|object| object.shift_remove("sha256"));
    if kept.as_ref().and_then(serde_json::Value::as_str) != Some(&hash_of(&value)) {
        return Err(torn().into());
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(|_| torn())?;
    if manifest.pipeline != pipeline || manifest.run_id != run_id {
        return Err(torn().into());
    }
    Ok(manifest)
}

/// SHA-256 of a manifest's text, hex: one flipped bit in it is found.
fn hash_of(manifest: &serde_json::Value) -> String {
    hex(&Sha256::digest(manifest.to_string()))
}

/// The stream of one part, as pieces of a COPY stream; hashed as it is read.
///
/// The channel ends after the last piece, or after an error: 65 for a part that is missing, torn
/// or sealed to another identity. Pieces that came before an error must not be published.
pub fn read_part(
    directory: &Path,
    part: &Part,
    identity: Option<age::x25519::Identity>,
) -> mpsc::Receiver<Result<Bytes>> {
    let (pieces, taken) = mpsc::channel(4);
    let (path, part) = (directory.join(&part.file), part.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(error) = unpack_part(&path, &part, identity.as_ref(), &pieces) {
            let _ = pieces.blocking_send(Err(error));
        }
    });
    taken
}

fn unpack_part(
    path: &Path,
    part: &Part,
    identity: Option<&age::x25519::Identity>,
    pieces: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let torn = |why: &str| {
        Failure::data(format!("cannot read the stage: {} {why}", part.file)).hint("Extract it again.")
    };
    let file = File::open(path).map_err(|_| torn("is missing"))?;
    let mut hashed = HashedReader { inner: file, hash: Sha256::new(), bytes: 0 };
    let read = if part.file.ends_with(".age") {
        let identity = identity.ok_or_else(|| {
            Failure::config("cannot read the stage: it is encrypted, and `stage.identity` names no variable")
                .hint("Set `stage: {identity: ...}` in sankofa.yaml to the id of the variable that holds it.")
        })?;
        let sealed = age::Decryptor::new_buffered(io::BufReader::new(&mut hashed))
            .map_err(|_| torn("is torn"))?
            .decrypt(std::iter::once(identity as &dyn age::Identity))
            .map_err(|_| {
                Failure::permission("cannot read the stage: `stage.identity` is not among its recipients")
                    .hint("Put the identity back that belongs to `encrypt_to`, or extract it again.")
            })?;
        send_pieces(sealed, pieces)
    } else {
        send_pieces(&mut hashed, pieces)
    };
    if read.is_err() && pieces.is_closed() {
        return Ok(());
    }
    io::copy(&mut hashed, &mut io::sink())?;
    if read.is_err() || hashed.bytes != part.bytes || hex(&hashed.hash.finalize()) != part.sha256 {
        return Err(torn("is torn: its hash is not the manifest's").into());
    }
    Ok(())
}

fn send_pieces(from: impl Read, pieces: &mpsc::Sender<Result<Bytes>>) -> io::Result<()> {
    let mut unpacked = zstd::Decoder::new(from)?;
    loop {
        let mut piece = vec![0; READ_BYTES];
        let length = unpacked.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        piece.truncate(length);
        if pieces.blocking_send(Ok(Bytes::from(piece))).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

struct HashedReader<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for HashedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.hash.update(&into[..length]);
        self.bytes += length as u64;
        Ok(length)
    }
}

/// Removes a stage, its manifest first.
///
/// # Errors
/// As the file system fails; a stage that is not there is none.
pub fn remove(directory: &Path) -> Result<()> {
    let cannot = || format!("cannot remove the stage {}", directory.display());
    let absent = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    absent(fs::remove_file(directory.join(MANIFEST))).with_context(cannot)?;
    absent(fs::remove_dir_all(directory)).with_context(cannot)
}
