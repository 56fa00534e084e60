//! From a pipe into the store: read, prove, pack, seal, upload, all at once.
//!
//! In:    the output of a dump, an upload that has begun.
//! Out:   what passed, in figures, and what the archive held.
//! Holds: memory is bounded by the channels here, whatever the length; the first bytes are uploaded while
//!        the dump goes on; on an error every part ends and nothing is finished.
//! Not here: whether the dump itself went well (`dump`), the end of the upload (`run`).

use crate::backup::archive::{Read as Archive, Reader};
use crate::backup::codec::{self, Codec};
use crate::backup::manifest::Object;
use crate::backup::seal::{self, Recipients};
use crate::backup::tally::{Sum, Tally};
use crate::error::Failure;
use crate::progress::TableProgress;
use crate::store::Upload;
use anyhow::{Context, Result};
use bytes::Bytes;
use std::io::{self, BufWriter, Read, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are read at once, and that are handed on at once.
const PIECE: usize = 1 << 20;
/// As many bytes are waited for before a piece is handed on: a dump writes 4 KiB at a time.
const ENOUGH: usize = 256 << 10;
/// Pieces that wait for the packer.
const UNPACKED: usize = 8;
/// Pieces that wait for the upload.
const SEALED: usize = 4;

/// How bytes are treated on their way.
#[derive(Clone)]
pub struct Way {
    /// How they are packed; `None`: not at all.
    pub codec: Option<Codec>,
    /// Who can open them.
    pub recipients: Recipients,
    /// Whether they are an archive of pg_dump, to be proven.
    pub is_archive: bool,
    /// Counts plain bytes.
    pub progress: Option<TableProgress>,
}

/// What has passed.
pub struct Passed {
    plain: Sum,
    stored: Sum,
    /// What the archive held; an error if it was not whole. `None` if it was no archive.
    pub archive: Option<Result<Archive, Failure>>,
}

impl Passed {
    /// As the manifest has it; `name` is its name in the backup's folder.
    pub fn object(&self, name: &str) -> Object {
        Object {
            name: name.to_owned(),
            plain_bytes: self.plain.bytes(),
            plain_sha256: self.plain.clone().sha256(),
            stored_bytes: self.stored.bytes(),
            stored_sha256: self.stored.clone().sha256(),
        }
    }

    /// Length as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.bytes()
    }
}

/// Moves everything that `from` gives into `upload`.
///
/// Cost: two blocking threads and those of the codec; about 60 MiB.
///
/// # Errors
/// Those of the upload first, then 65 for an archive that is damaged, then those of the pipe.
pub async fn pump(from: impl Read + Send + 'static, way: Way, upload: &mut dyn Upload) -> Result<Passed> {
    let (to_pack, unpacked) = sync_channel(UNPACKED);
    let (give_back, spare) = channel();
    let (to_store, mut sealed) = mpsc::channel(SEALED);
    let packing = way.clone();
    let reading: JoinHandle<Result<_>> = spawn_blocking(move || read(from, &way, &to_pack, &spare));
    let packing: JoinHandle<Result<_>> =
        spawn_blocking(move || pack(&packing, &unpacked, &give_back, to_store));
    let mut uploaded = Ok(());
    while let Some(bytes) = sealed.recv().await {
        uploaded = upload.feed(bytes).await;
        if uploaded.is_err() {
            break;
        }
    }
    drop(sealed); // whoever still writes learns that nobody reads
    uploaded?;
    let (read, packed) = (reading.await?, packing.await?);
    let (plain, archive) = read?;
    Ok(Passed { plain, stored: packed?, archive })
}

/// A buffer, and how much of it is used.
type Piece = (Vec<u8>, usize);

type WasRead = (Sum, Option<Result<Archive, Failure>>);

/// Reads `from` to its end, proves it, and hands it on.
fn read(
    mut from: impl Read,
    way: &Way,
    to_pack: &SyncSender<Piece>,
    spare: &Receiver<Vec<u8>>,
) -> Result<WasRead> {
    let mut reader = way.is_archive.then(Reader::new);
    let mut sum = Sum::default();
    loop {
        let mut buffer = spare.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
        let filled = fill(&mut from, &mut buffer).context("cannot read the dump")?;
        if filled == 0 {
            return Ok((sum, reader.map(Reader::finish)));
        }
        if let Some(reader) = &mut reader {
            reader.feed(&buffer[..filled])?;
        }
        sum.add(&buffer[..filled]);
        if let Some(progress) = &way.progress {
            progress.add(0, filled as u64);
        }
        if to_pack.send((buffer, filled)).is_err() {
            return Err(gone().into()); // the packer says why
        }
    }
}

/// Reads until there is enough, or no more; 0 at the end.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < ENOUGH {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Packs and seals what comes, and hands it on.
fn pack(
    way: &Way,
    unpacked: &Receiver<Piece>,
    give_back: &Sender<Vec<u8>>,
    to_store: mpsc::Sender<Bytes>,
) -> Result<Sum> {
    let out = BufWriter::with_capacity(PIECE, Tally::new(Outlet(to_store)));
    let sealed = seal::seal(&way.recipients, out)?;
    let sealed = match way.codec {
        Some(codec) => move_on(codec::writer(codec, sealed)?, unpacked, give_back)?.finish()?,
        None => move_on(sealed, unpacked, give_back)?,
    };
    let (_, sum) = sealed.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.finish();
    Ok(sum)
}

fn move_on<W: Write>(mut into: W, unpacked: &Receiver<Piece>, give_back: &Sender<Vec<u8>>) -> Result<W> {
    while let Ok((buffer, filled)) = unpacked.recv() {
        into.write_all(&buffer[..filled])?;
        let _ = give_back.send(buffer); // nobody reads any more: then nobody needs a buffer
    }
    Ok(into)
}

/// Hands bytes to the upload, which may make it wait.
struct Outlet(mpsc::Sender<Bytes>);

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(bytes)).map_err(|_| gone())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the next step has ended")
}
