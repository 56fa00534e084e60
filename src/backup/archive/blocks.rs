//! The block of one data entry: chunks of rows, or large objects made of chunks.
//!
//! In:    the bytes after a block's number, cut anywhere.
//! Out:   the sums of what it held.
//! Holds: a block ends with its end marks or not at all; memory does not grow with what it holds.
//! Not here: which entry it belongs to (`reader`).

use super::contents::DataKind;
use super::rows::RowSum;
use super::wire::{INT_BYTES, Parsed, bad, int};
use crate::backup::proof::{SetProof, SetSum};
use sha2::{Digest, Sha256};

/// A block of rows.
pub(super) const ROWS: u8 = 1;
/// A block of large objects.
pub(super) const LARGE_OBJECTS: u8 = 3;

// One chunk is at most one row, and a row at most 1 GiB (PostgreSQL's MaxAllocSize).
const MAX_CHUNK: i64 = 1 << 30;

/// One block that has begun.
#[derive(Clone)]
pub(super) struct Block {
    /// Place of its entry among the data entries.
    pub entry: usize,
    sink: Sink,
    /// Bytes of the current chunk still to come.
    left: usize,
    ended: bool,
}

#[derive(Clone)]
enum Sink {
    Rows(Box<RowSum>),
    LargeObjects { set: SetSum, open: Option<Box<LargeObject>> },
}

#[derive(Clone)]
struct LargeObject {
    oid: u32,
    bytes: u64,
    content: Sha256,
}

/// What a block held.
pub(super) enum Held {
    Rows(SetProof),
    LargeObjects(SetSum),
}

impl Block {
    /// A block of kind `byte` for an entry of `kind`.
    pub fn begin(entry: usize, kind: &DataKind, byte: u8) -> Parsed<Block> {
        let sink = match (kind, byte) {
            (DataKind::Rows { .. }, ROWS) => Sink::Rows(Box::default()),
            (DataKind::LargeObjects, LARGE_OBJECTS) => {
                Sink::LargeObjects { set: SetSum::default(), open: None }
            }
            _ => return bad(format!("a block of the wrong kind ({byte})")),
        };
        Ok(Block { entry, sink, left: 0, ended: false })
    }

    /// Takes what it can of `bytes`; (how much that was, whether the block has ended).
    pub fn feed(&mut self, bytes: &[u8]) -> Parsed<(usize, bool)> {
        let mut rest = bytes;
        while !self.ended {
            if self.left == 0 {
                let Some((field, after)) = rest.split_first_chunk::<INT_BYTES>() else { break };
                self.number(int(*field)?)?;
                rest = after;
            } else if rest.is_empty() {
                break;
            } else {
                let (piece, after) = rest.split_at(self.left.min(rest.len()));
                self.sink.take(piece)?;
                self.left -= piece.len();
                rest = after;
            }
        }
        Ok((bytes.len() - rest.len(), self.ended))
    }

    /// A number where no chunk is open: the length of one, an end mark, or an OID.
    fn number(&mut self, number: i64) -> Parsed<()> {
        match &mut self.sink {
            Sink::LargeObjects { open: open @ None, .. } if number != 0 => {
                // Written as a signed number: 4000000001 comes as -294967295.
                let oid = number as u32;
                *open = Some(Box::new(LargeObject { oid, bytes: 0, content: Sha256::new() }));
                return Ok(());
            }
            Sink::LargeObjects { set, open } if number == 0 => match open.take() {
                Some(object) => object.end(set),
                None => self.ended = true,
            },
            Sink::Rows(_) if number == 0 => self.ended = true,
            _ if (1..=MAX_CHUNK).contains(&number) => self.left = number as usize,
            _ => return bad(format!("a piece of {number} bytes")),
        }
        Ok(())
    }

    /// The sums, after the end.
    pub fn end(self) -> Parsed<Held> {
        match self.sink {
            Sink::LargeObjects { set, .. } => Ok(Held::LargeObjects(set)),
            Sink::Rows(rows) => match rows.end_dumped() {
                Some(set) => Ok(Held::Rows(set)),
                None => bad("rows without their end mark"),
            },
        }
    }
}

impl Sink {
    fn take(&mut self, piece: &[u8]) -> Parsed<()> {
        match self {
            Sink::Rows(rows) => {
                if !rows.feed_dumped(piece) {
                    return bad("text after the end mark of rows");
                }
            }
            Sink::LargeObjects { open, .. } => {
                if let Some(object) = open {
                    object.content.update(piece);
                    object.bytes += piece.len() as u64;
                }
            }
        }
        Ok(())
    }
}

impl LargeObject {
    fn end(self, set: &mut SetSum) {
        set.add_large_object(self.oid, self.bytes, &self.content.finalize().into());
    }
}
