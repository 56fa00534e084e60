//! Packs the archive, and unpacks it again.
//!
//! In:    bytes. Out: a zstd frame (`zstd -d`), or gzip members one after the other (`gunzip`).
//! Holds: packing runs in threads of its own; memory is bounded, whatever passes.
//! Not here: encryption (`seal`), hashes and lengths (`tally`).

use super::gzip::Members;
pub use crate::config::model::Codec;
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read, Write};

/// zstd's level: its default; what a size is compared with.
const ZSTD_LEVEL: i32 = 3;

/// Bytes of one job of a zstd thread. Without it a job is four windows (8 MiB) and the threads hold
/// four times the memory for the same size within 0.2 %.
const ZSTD_JOB: u32 = 2 << 20;

/// Threads that pack: the dump and its server need a core as well.
const THREADS: u32 = 2;

/// What reading a packed archive takes at once.
const READ_BUFFER: usize = 256 << 10;

/// How an object packed with `codec` ends its name.
pub fn extension(codec: Codec) -> &'static str {
    match codec {
        Codec::Zstd => "zst",
        Codec::Gzip => "gz",
    }
}

/// Packs what is written to it.
pub enum Packer<W: Write> {
    /// zstd.
    Zstd(Box<zstd::stream::write::Encoder<'static, W>>),
    /// gzip.
    Gzip(Members<W>),
}

/// Packs with `codec` into `out`. Memory: about 30 MiB.
///
/// # Errors
/// When threads or memory cannot be had.
pub fn writer<W: Write>(codec: Codec, out: W) -> io::Result<Packer<W>> {
    match codec {
        Codec::Gzip => Ok(Packer::Gzip(Members::new(THREADS, out)?)),
        Codec::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.multithread(THREADS)?;
            encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
            Ok(Packer::Zstd(Box::new(encoder)))
        }
    }
}

impl<W: Write> Packer<W> {
    /// Ends the packed stream and gives back what it was written to.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Packer::Zstd(encoder) => encoder.finish(),
            Packer::Gzip(members) => members.finish(),
        }
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Packer::Zstd(encoder) => encoder.write(bytes),
            Packer::Gzip(members) => members.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Packer::Zstd(encoder) => encoder.flush(),
            Packer::Gzip(members) => members.flush(),
        }
    }
}

/// Unpacks what `input` gives. A stream that is cut, damaged or followed by something else is an
/// error when it is read, never a shorter archive.
///
/// # Errors
/// When memory cannot be had.
pub fn reader<'a, R: Read + Send + 'a>(codec: Codec, input: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let input = BufReader::with_capacity(READ_BUFFER, input);
    Ok(match codec {
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Codec::Gzip => Box::new(MultiGzDecoder::new(input)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Codec; 2] = [Codec::Zstd, Codec::Gzip];

    fn packed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let mut packer = writer(codec, Vec::new()).unwrap();
        packer.write_all(plain).unwrap();
        packer.finish().unwrap()
    }

    fn unpacked(codec: Codec, packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        reader(codec, packed)?.read_to_end(&mut plain).map(|_| plain)
    }

    /// Words that pack about 4:1, of any length.
    fn text(bytes: usize) -> Vec<u8> {
        let words = (0u64..)
            .flat_map(|n| format!("row {} of {};", n.wrapping_mul(0x9E37_79B9) % 9973, n % 7).into_bytes());
        words.take(bytes).collect()
    }

    #[test]
    fn what_was_packed_comes_back_whatever_its_length() {
        for codec in BOTH {
            for bytes in [0, 1, 65_536, (1 << 20) - 1, 1 << 20, 5_000_001] {
                let plain = text(bytes);
                assert_eq!(unpacked(codec, &packed(codec, &plain)).unwrap(), plain, "{codec:?} {bytes}");
            }
        }
    }

    #[test]
    fn a_packed_stream_that_is_cut_anywhere_is_an_error() {
        for codec in BOTH {
            let whole = packed(codec, &text(300_000));
            for cut in [1, 2, 7, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
                assert!(unpacked(codec, &whole[..cut]).is_err(), "{codec:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_packed_stream_with_something_behind_it_is_an_error() {
        for codec in BOTH {
            let mut longer = packed(codec, &text(10_000));
            longer.extend_from_slice(b"more");
            assert!(unpacked(codec, &longer).is_err(), "{codec:?}");
        }
    }

    #[test]
    fn a_writer_that_fails_fails_the_packing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for codec in BOTH {
            let mut packer = writer(codec, Full).unwrap();
            let written = packer.write_all(&text(30_000_000)).and_then(|()| packer.finish().map(drop));
            assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull, "{codec:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_bytes_written_in_any_pieces_come_back(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5_000), 0..12)) {
            for codec in BOTH {
                let mut packer = writer(codec, Vec::new()).unwrap();
                for piece in &pieces {
                    packer.write_all(piece).unwrap();
                }
                let packed = packer.finish().unwrap();
                prop_assert_eq!(unpacked(codec, &packed).unwrap(), pieces.concat());
            }
        }
    }
}
