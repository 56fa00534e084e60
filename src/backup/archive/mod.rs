//! Reads pg_dump's custom format as it streams by, and proves what it holds.
//!
//! In:    the bytes of `pg_dump -Fc -Z0`, cut anywhere; archives 1.14 to 1.16 (pg_dump 13 to 18).
//! Out:   [`Read`]: the proof, the header, and where each block lies.
//! Holds: memory is the table of contents and one field, whatever a row's size; an archive is accepted
//!        only when it is whole: every data entry has its one block, each with its end mark.
//! Not here: the processes (`backup::dump`), comparing a database with the proof (`backup::prove`).
//!
//! Format: PostgreSQL sources, pg_backup_custom.c and pg_backup_archiver.c (ReadHead, ReadToc).

mod blocks;
mod contents;
mod copy;
mod header;
mod items;
mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod wire;

pub use header::Header;
pub use items::{Item, items};
pub use reader::Reader;
pub(crate) use rows::RowSum;

use super::manifest::Counts;
use super::proof::Proof;

/// What a whole archive held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What a restored database is compared with. `settings` has `client_encoding` only: the
    /// caller knows the others.
    pub proof: Proof,
    /// What the archive says of itself.
    pub header: Header,
    /// Entries of the table of contents.
    pub entries: u64,
    /// Length of the archive.
    pub bytes: u64,
    /// SHA-256 of the table of contents without the offsets, hex.
    pub contents_sha256: String,
    /// What to write into a spooled copy so that `pg_restore -j` can seek; one per data entry.
    pub patches: Vec<Patch>,
}

impl Read {
    /// The figures of the manifest.
    pub fn counts(&self) -> Counts {
        Counts {
            tables: self.proof.tables.len() as u64,
            rows: self.proof.tables.iter().map(|table| table.set.count).sum(),
            large_objects: self.proof.large_objects.count,
            entries: self.entries,
        }
    }
}

/// Where the block of one data entry lies, as the table of contents has it.
///
/// A dump that came through a pipe has no offsets, and `pg_restore -j` then reads through the whole
/// file for each table: 13 % slower when measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where in the archive [`Patch::bytes`] belong.
    pub at: u64,
    /// What the block's place is.
    pub offset: u64,
}

impl Patch {
    /// The offset field: "set", and the offset.
    pub fn bytes(&self) -> [u8; 9] {
        let mut field = [wire::OFFSET_SET; 9];
        field[1..].copy_from_slice(&self.offset.to_le_bytes());
        field
    }
}
