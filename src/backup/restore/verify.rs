//! Fetches a backup and verifies all of it, before anything is done with it.
//!
//! In:    a backup as it is listed, the identities that open it, where the archive is to go.
//! Out:   the archive where it belongs; what it holds, which is what its proof says; how long it took.
//! Holds: stored bytes, decryption, packing, plain bytes, the archive's own structure and the proof all
//!        agree with the manifest, or nothing comes of it.
//! Not here: transfers (`fetch`), what a restore does with the archive (`apply`).

use super::fetch::Incoming;
use super::spool::Spool;
use crate::backup::archive::{Read, Reader};
use crate::backup::codec;
use crate::backup::inventory::Backup;
use crate::backup::manifest::{Codec, Object};
use crate::backup::proof::{self, Proof};
use crate::backup::seal::{self, Identities};
use crate::backup::tally::{Sum, Tally};
use crate::error::{Failure, Kind, classify};
use crate::store::{Store, Version};
use anyhow::{Context, Result};
use bytes::Bytes;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Bytes that go from one thread to the next.
const PIECE: usize = 512 << 10;
/// Pieces that wait between two threads.
const WAITING: usize = 8;
/// The longest proof that is read: some 200 bytes for each table.
const LONGEST_PROOF: u64 = 1 << 30;

/// What was fetched and found good.
#[derive(Debug)]
pub struct Verified<O> {
    /// What the archive holds.
    pub archive: Read,
    /// The proof that was stored with it.
    pub proof: Proof,
    /// Where the archive went.
    pub output: O,
    /// Time in which the store was waited for.
    pub fetch: Duration,
    /// The rest of the time.
    pub decrypt: Duration,
}

/// Takes the archive's bytes as they come. Blocks.
pub trait Output: Send + 'static {
    /// The next bytes.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Output for Spool {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }
}

/// Nowhere: it is only verified.
impl Output for () {
    fn take(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Fetches and verifies `backup`; the archive goes to `output`.
///
/// Cost: two cores; memory about 64 MiB, whatever the size.
///
/// # Errors
/// 65 for a damaged, cut or exchanged object; 77 when no identity opens it; as the store; as `output`.
pub async fn verify<O: Output>(
    store: &Arc<dyn Store>,
    backup: &Backup,
    identities: &Identities,
    output: O,
) -> Result<Verified<O>> {
    let start = Instant::now();
    let (proof, waited) = read_proof(store, backup, identities).await?;
    let name = format!("{}{}", backup.folder(), backup.manifest.object.name);
    let version = listed(backup.archive.as_ref(), &name)?;
    let incoming = Incoming::start(store.clone(), version);
    let (object, codec, identities) =
        (backup.manifest.object.clone(), backup.manifest.codec, identities.clone());
    let work = move || read_archive(incoming, Sealed { object, codec, identities, name }, output);
    let (archive, output, more) = tokio::task::spawn_blocking(work).await.context("a thread failed")??;
    let archive = agree(archive, &proof, &backup.folder())?;
    let fetch = waited + more;
    Ok(Verified { archive, proof, output, fetch, decrypt: start.elapsed().saturating_sub(fetch) })
}

/// Fetches and opens `globals.sql.age` of `backup`, or another small object: its plain bytes.
///
/// # Errors
/// As [`verify`].
pub async fn read_small(
    store: &Arc<dyn Store>,
    version: Option<&Version>,
    (object, name): (&Object, &str),
    identities: &Identities,
) -> Result<(Vec<u8>, Duration)> {
    if object.plain_bytes > LONGEST_PROOF {
        return Err(damaged(name, "it is longer than any of its kind").into());
    }
    let mut incoming = Incoming::start(store.clone(), listed(version, name)?);
    let (object, name, identities) = (object.clone(), name.to_owned(), identities.clone());
    let work = move || {
        let mut plain = Vec::new();
        let read = open_small(&mut incoming, &object, &identities, &name, &mut plain);
        match incoming.take_failure() {
            Some(broke) => Err(broke),
            None => read.map(|()| (plain, incoming.waited())),
        }
    };
    tokio::task::spawn_blocking(work).await.context("a thread failed")?
}

fn open_small(
    incoming: &mut Incoming,
    object: &Object,
    identities: &Identities,
    name: &str,
    plain: &mut Vec<u8>,
) -> Result<()> {
    let mut stored = Tally::new(incoming);
    let opened = seal::open(identities, &mut stored, name)?;
    let limit = object.plain_bytes.saturating_add(1);
    opened.take(limit).read_to_end(plain).map_err(|why| unreadable(name, &why))?;
    let mut sum = Sum::default();
    sum.add(plain);
    compare(object, stored.finish().1, sum, name)
}

async fn read_proof(
    store: &Arc<dyn Store>,
    backup: &Backup,
    identities: &Identities,
) -> Result<(Proof, Duration)> {
    let Some(object) = &backup.manifest.proof else {
        return Err(damaged(&backup.folder(), "its manifest names no proof").into());
    };
    let name = format!("{}{}", backup.folder(), object.name);
    let (text, waited) = read_small(store, backup.proof.as_ref(), (object, &name), identities).await?;
    let proof: Proof = serde_json::from_slice(&text).map_err(|_| damaged(&name, "it is no proof"))?;
    if proof.schema > proof::SCHEMA {
        let what = format!("cannot read {name}: its schema is {}, newer than this program", proof.schema);
        return Err(Failure::config(what).hint("Use a newer sankofa.").into());
    }
    Ok((proof, waited))
}

/// What is needed to open the archive, and what it must be then.
struct Sealed {
    object: Object,
    codec: Codec,
    identities: Identities,
    name: String,
}

/// Two threads: this one decrypts and unpacks, the other reads the archive and writes it. Blocks.
fn read_archive<O: Output>(mut incoming: Incoming, sealed: Sealed, output: O) -> Result<(Read, O, Duration)> {
    let (sender, receiver) = sync_channel(WAITING);
    let (name, most) = (sealed.name.clone(), sealed.object.plain_bytes);
    let reading =
        std::thread::Builder::new().name("archive".into()).spawn(move || drain(receiver, most, output));
    let reading = reading.context("cannot start a thread")?;
    let opened = unpack(&mut incoming, &sealed, &sender);
    drop(sender);
    let read = reading.join().map_err(|_| Failure::data(format!("cannot read {name}: a thread failed")))?;
    if let Some(broke) = incoming.take_failure() {
        return Err(broke);
    }
    let sums = match opened {
        Ok(sums) => Some(sums),
        // The other thread then stumbles over the end: that is the consequence, this the cause.
        Err(Opening::Refused(error)) => return Err(error),
        Err(Opening::NobodyReads) => None,
    };
    let (archive, output) = read?;
    let (stored, plain) = sums.ok_or_else(|| damaged(&name, "its reader stopped"))?;
    compare(&sealed.object, stored, plain, &name)?;
    Ok((archive, output, incoming.waited()))
}

enum Opening {
    Refused(anyhow::Error),
    NobodyReads,
}

/// Decrypts and unpacks: the sums of what was stored and of what was in it.
fn unpack(incoming: &mut Incoming, sealed: &Sealed, to: &SyncSender<Bytes>) -> Result<(Sum, Sum), Opening> {
    let refused = |why: io::Error| Opening::Refused(unreadable(&sealed.name, &why));
    let (mut stored, mut plain_sum) = (Tally::new(incoming), Sum::default());
    {
        let mut opened =
            seal::open(&sealed.identities, &mut stored, &sealed.name).map_err(Opening::Refused)?;
        let mut plain = codec::reader(sealed.codec, &mut opened).map_err(refused)?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut plain).take(PIECE as u64).read_to_end(&mut piece).map_err(refused)?;
            if piece.is_empty() {
                break;
            }
            plain_sum.add(&piece);
            to.send(piece.into()).map_err(|_| Opening::NobodyReads)?;
        }
        drop(plain);
        // The last block of age must have been seen, also where the codec needed no byte of it.
        if io::copy(&mut opened, &mut io::sink()).map_err(refused)? > 0 {
            return Err(Opening::Refused(damaged(&sealed.name, "something follows its end").into()));
        }
    }
    io::copy(&mut stored, &mut io::sink()).map_err(refused)?;
    Ok((stored.finish().1, plain_sum))
}

/// Reads and writes the archive, at most `most` bytes of it: a manifest that understates it is refused
/// before the disk is full.
fn drain<O: Output>(pieces: Receiver<Bytes>, most: u64, mut output: O) -> Result<(Read, O)> {
    let (mut reader, mut bytes) = (Reader::new(), 0);
    for piece in pieces {
        bytes += piece.len() as u64;
        if bytes > most {
            return Err(damaged("the archive", "it is longer than its manifest says").into());
        }
        reader.feed(&piece)?;
        output.take(&piece)?;
    }
    Ok((reader.finish()?, output))
}

fn compare(object: &Object, stored: Sum, plain: Sum, name: &str) -> Result<()> {
    let figures = |bytes: u64, sum: Sum| (bytes, sum.sha256());
    let found = (figures(stored.bytes(), stored), figures(plain.bytes(), plain));
    let expected = (
        (object.stored_bytes, object.stored_sha256.clone()),
        (object.plain_bytes, object.plain_sha256.clone()),
    );
    match found == expected {
        true => Ok(()),
        false => Err(damaged(name, "its bytes are not those that its manifest tells of").into()),
    }
}

/// The archive, if it holds what the proof says.
fn agree(mut archive: Read, proof: &Proof, folder: &str) -> Result<Read> {
    let found = std::mem::take(&mut archive.proof);
    let is_equal = found.tables == proof.tables
        && found.large_objects == proof.large_objects
        && found.sequences == proof.sequences
        && (&found.definition_sha256, found.definitions) == (&proof.definition_sha256, proof.definitions);
    archive.proof = found;
    match is_equal {
        true => Ok(archive),
        false => Err(damaged(folder, "its proof is that of another archive").into()),
    }
}

/// The error of a restore whose identities are those that the manifest names: when they open nothing,
/// the object is not what it was.
pub fn told_for_fitting_identities(error: anyhow::Error, folder: &str) -> anyhow::Error {
    let failure = classify(&error);
    match failure.kind == Kind::Permission && failure.what.starts_with("cannot decrypt") {
        true => damaged(folder, "the recipients that its manifest names do not open it").into(),
        false => error,
    }
}

fn listed(version: Option<&Version>, name: &str) -> Result<Version, Failure> {
    version.cloned().ok_or_else(|| damaged(name, "it is not there, or not in its length"))
}

fn damaged(name: &str, why: &str) -> Failure {
    Failure::data(format!("cannot use {name}: {why}"))
        .hint("Restore an older backup: `sankofa backups list` shows them; `--backup ID` chooses one.")
}

fn unreadable(name: &str, why: &io::Error) -> anyhow::Error {
    damaged(name, &format!("it is damaged ({why})")).into()
}
