//! The table of contents of an archive that was accepted, as a restore needs it.
//!
//! In:    the archive from its first byte.
//! Out:   [`Item`]s in the archive's order.
//! Holds: of the SQL only what is looked into is kept.
//! Not here: whether the archive is whole (`reader`); what an item means for a restore (`backup::restore`).

use super::contents::Entry;
use super::header::Header;
use super::wire::{Cursor, Parsed, Stop, text};
use crate::error::Failure;
use anyhow::Context;
use std::io::Read;

/// Bytes read at once.
const PIECE: usize = 256 << 10;

/// One entry of the table of contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its number in the archive.
    pub id: i64,
    /// What it is: `TABLE`, `TABLE DATA`, `EXTENSION`, ...
    pub kind: String,
    /// Its schema; empty where it has none.
    pub schema: String,
    /// Its name, or what it belongs to and its name.
    pub tag: String,
    /// Role that owns it; may be empty.
    pub owner: String,
    /// Tablespace; empty for the database's own.
    pub tablespace: String,
    /// Its SQL; kept for databases and their properties, grants, collations and policies.
    pub definition: String,
    /// Numbers of the entries that it depends on.
    pub needs: Vec<i64>,
}

/// Reads the table of contents. Blocks; reads no further than it must.
///
/// # Errors
/// 65 for something that is no archive; those of `archive`.
pub fn items(mut archive: impl Read) -> anyhow::Result<Vec<Item>> {
    let mut pending = Pending { source: &mut archive, bytes: Vec::new(), used: 0 };
    let header = pending.next(Header::read)?;
    let count = pending.next(|cursor| cursor.int())?;
    (0..count)
        .map(|_| pending.next(|cursor| Entry::read(cursor, &header).map(|entry| entry.item())))
        .collect()
}

struct Pending<'r, R> {
    source: &'r mut R,
    bytes: Vec<u8>,
    used: usize,
}

impl<R: Read> Pending<'_, R> {
    /// The next value, reading on until all of it is there.
    fn next<T>(&mut self, read: impl Fn(&mut Cursor<'_>) -> Parsed<T>) -> anyhow::Result<T> {
        loop {
            let mut cursor = Cursor::new(&self.bytes[self.used..]);
            match read(&mut cursor) {
                Ok(value) => {
                    self.used += cursor.used();
                    return Ok(value);
                }
                Err(Stop::Short) => self.more()?,
                Err(Stop::Refused(failure)) => return Err(failure.into()),
                Err(Stop::Bad(what)) => {
                    return Err(Failure::data(format!("cannot read the archive's contents: {what}")).into());
                }
            }
        }
    }

    fn more(&mut self) -> anyhow::Result<()> {
        self.bytes.drain(..self.used);
        self.used = 0;
        let before = self.bytes.len() as u64;
        let mut piece = (&mut *self.source).take((PIECE as u64).max(before));
        match piece.read_to_end(&mut self.bytes).context("cannot read the archive's contents")? {
            0 => Err(Failure::data("cannot read the archive's contents: they are cut").into()),
            _ => Ok(()),
        }
    }
}

impl Entry<'_> {
    fn item(&self) -> Item {
        let owned = |bytes: Option<&[u8]>| text(bytes.unwrap_or_default());
        let kind = text(self.desc);
        let is_looked_into = matches!(
            kind.as_str(),
            "DATABASE" | "DATABASE PROPERTIES" | "ACL" | "DEFAULT ACL" | "COLLATION" | "COMMENT" | "POLICY"
        );
        Item {
            id: self.id,
            schema: owned(self.namespace),
            tag: owned(self.tag),
            owner: owned(self.owner),
            tablespace: owned(self.tablespace),
            definition: owned(self.definition.filter(|_| is_looked_into)),
            needs: self.needs.iter().filter_map(|need| text(need).parse().ok()).collect(),
            kind,
        }
    }
}
