//! The first bytes of an archive: what kind it is, and of what.
//!
//! In:    the bytes up to the table of contents.
//! Out:   [`Header`].
//! Holds: an archive that this program has not been proven on is refused, never guessed at.
//! Not here: the table of contents (`contents`).

use super::wire::{Cursor, Parsed, Stop, bad};
use crate::error::Failure;
use serde::{Deserialize, Serialize};

/// What the archive says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Minor version of the format: 14 (pg_dump 12 to 15), 15 (16), 16 (17 and 18).
    pub minor: u8,
    /// When it was made, by the local clock of the machine that ran pg_dump.
    pub local_time: String,
    /// Name of the database.
    pub database: String,
    /// What the server said of itself, such as `17.10`.
    pub server_version: String,
    /// Version of pg_dump.
    pub pg_dump_version: String,
}

const MAGIC: &[u8] = b"PGDMP";
/// Width of a number, width of an offset, the custom format.
const SHAPE: [u8; 3] = [4, 8, 1];

impl Header {
    /// Whether the table of contents tells what kind of relation an entry is.
    pub(super) fn has_relkind(&self) -> bool {
        self.minor >= 16
    }

    pub(super) fn read(cursor: &mut Cursor) -> Parsed<Header> {
        let minor = opening(cursor)?;
        let compression = compression(cursor, minor)?;
        if compression != 0 {
            let refused = format!("cannot read the archive: it is compressed ({compression})");
            let hint = "Dump with `pg_dump -Fc -Z0`; it is packed afterwards.";
            return Err(Stop::Refused(Failure::config(refused).hint(hint)));
        }
        rest(cursor, minor)
    }
}

fn opening(cursor: &mut Cursor) -> Parsed<u8> {
    if cursor.take(MAGIC.len())? != MAGIC {
        return bad("something else than an archive of pg_dump's custom format");
    }
    let [major, minor, revision] = cursor.array()?;
    if (major, revision) != (1, 0) || !(14..=16).contains(&minor) {
        let refused = format!("cannot read the archive: its version is {major}.{minor}.{revision}");
        let hint = "Versions 1.14 to 1.16 are known: pg_dump 13 to 18.";
        return Err(Stop::Refused(Failure::data(refused).hint(hint)));
    }
    let shape = cursor.array()?;
    if shape != SHAPE {
        return bad(format!("an archive of shape {shape:?}, where {SHAPE:?} is known"));
    }
    Ok(minor)
}

/// Until 1.14 a zlib level, since 1.15 an algorithm; 0 is none in both.
fn compression(cursor: &mut Cursor, minor: u8) -> Parsed<i64> {
    if minor >= 15 { cursor.byte().map(i64::from) } else { cursor.int() }
}

fn rest(cursor: &mut Cursor, minor: u8) -> Parsed<Header> {
    let mut time = [0; 7];
    for field in &mut time {
        *field = cursor.int()?;
    }
    let [second, minute, hour, day, month, year, _] = time;
    let (year, month) = (year + 1900, month + 1);
    Ok(Header {
        minor,
        local_time: format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"),
        database: cursor.text()?,
        server_version: cursor.text()?,
        pg_dump_version: cursor.text()?,
    })
}
