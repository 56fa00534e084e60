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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::seal::Identities;
    use crate::error::{Kind, classify};
    use crate::store::Version;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Mutex};

    /// An upload that takes `at_most` bytes.
    #[derive(Clone)]
    struct Taken {
        bytes: Arc<Mutex<Vec<u8>>>,
        at_most: usize,
    }

    impl Upload for Taken {
        fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
            async move {
                let mut taken = self.bytes.lock().unwrap();
                taken.extend_from_slice(&bytes);
                let is_full = taken.len() > self.at_most;
                if is_full {
                    Err(Failure::temporary("cannot store it: the disk is full").into())
                } else {
                    Ok(())
                }
            }
            .boxed()
        }
        fn finish(self: Box<Self>) -> BoxFuture<'static, Result<Version>> {
            async { anyhow::bail!("nobody finishes it here") }.boxed()
        }
        fn cancel(self: Box<Self>) -> BoxFuture<'static, ()> {
            async {}.boxed()
        }
        fn canceller(&self) -> BoxFuture<'static, ()> {
            async {}.boxed()
        }
    }

    fn taking(at_most: usize) -> Taken {
        Taken { bytes: Arc::default(), at_most }
    }

    fn way(codec: Option<Codec>) -> (Way, Identities) {
        use secrecy::ExposeSecret;
        let identity = age::x25519::Identity::generate();
        let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
        let text = identity.to_string().expose_secret().to_owned();
        let identities = Identities::parse(&text.into(), "a test").unwrap();
        (Way { codec, recipients, is_archive: false, progress: None }, identities)
    }

    /// Bytes that do not pack, the same every time.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(length)
        .collect()
    }

    #[tokio::test]
    async fn what_was_pumped_opens_to_what_went_in_and_both_figures_fit() {
        for codec in [None, Some(Codec::Zstd), Some(Codec::Gzip)] {
            let (way, identities) = way(codec);
            let (plain, mut upload) = (noise(3_000_001), taking(usize::MAX));
            let passed = pump(io::Cursor::new(plain.clone()), way, &mut upload).await.unwrap();
            let stored = upload.bytes.lock().unwrap().clone();
            let object = passed.object("x");
            assert_eq!((object.plain_bytes, object.stored_bytes), (3_000_001, stored.len() as u64));
            let input = seal::open(&identities, stored.as_slice(), "x").unwrap();
            let mut opened = Vec::new();
            match codec {
                Some(codec) => codec::reader(codec, input).unwrap().read_to_end(&mut opened).unwrap(),
                None => { input }.read_to_end(&mut opened).unwrap(),
            };
            assert!(opened == plain, "{codec:?}");
            let mut sum = Sum::default();
            sum.add(&stored);
            assert_eq!(object.stored_sha256, sum.sha256());
        }
    }

    #[tokio::test]
    async fn an_upload_that_fails_is_the_reason_and_an_endless_dump_ends_with_it() {
        let (way, _) = way(Some(Codec::Zstd));
        /// The same bytes for ever, which do not pack.
        struct Endless(Vec<u8>);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = buffer.len().min(self.0.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                Ok(count)
            }
        }
        let way = Way { codec: None, ..way };
        let mut small = taking(1000);
        let failure = classify(&pump(Endless(noise(PIECE)), way, &mut small).await.err().unwrap());
        assert_eq!(
            (failure.kind, failure.what.as_str()),
            (Kind::Temporary, "cannot store it: the disk is full")
        );
    }

    #[tokio::test]
    async fn the_upload_begins_long_before_the_dump_ends_and_holds_it_back() {
        /// Gives noise until the upload has something; counts what it has given.
        struct Until(Vec<u8>, Taken, Arc<AtomicUsize>);
        impl Read for Until {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let given = self.2.load(SeqCst);
                if !self.1.bytes.lock().unwrap().is_empty() || given > 64 << 20 {
                    return Ok(0);
                }
                let count = buffer.len().min(self.0.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.2.fetch_add(count, SeqCst);
                Ok(count)
            }
        }
        let (way, _) = way(Some(Codec::Zstd));
        let (mut upload, given) = (taking(usize::MAX), Arc::new(AtomicUsize::new(0)));
        let source = Until(noise(PIECE), upload.clone(), given.clone());
        pump(source, way, &mut upload).await.unwrap();
        assert!(
            given.load(SeqCst) <= 48 << 20,
            "{} bytes were taken in before any came out",
            given.load(SeqCst)
        );
    }

    #[tokio::test]
    async fn an_archive_that_is_none_fails_with_65_and_one_that_is_cut_is_told_at_the_end() {
        let (way, _) = way(Some(Codec::Zstd));
        let way = Way { is_archive: true, ..way };
        let failed =
            pump(io::Cursor::new(b"no archive at all".repeat(10)), way.clone(), &mut taking(usize::MAX))
                .await;
        assert_eq!(classify(&failed.err().unwrap()).kind, Kind::Data);
        let empty = pump(io::empty(), way, &mut taking(usize::MAX)).await.unwrap();
        assert_eq!(empty.archive.unwrap().unwrap_err().kind, Kind::Data);
    }
}
