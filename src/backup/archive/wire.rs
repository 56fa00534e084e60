//! The primitives of the archive: bytes, integers, strings, offsets.
//!
//! In:    bytes that may end too soon.
//! Out:   values, or that more is needed, or what is wrong.
//! Holds: nothing is copied, and nothing is allocated by a length that was read.
//! Not here: what the fields mean (`header`, `contents`, `blocks`).

use crate::error::Failure;

/// The offset is not known: the archive came through a pipe.
pub(super) const OFFSET_NOT_SET: u8 = 1;
/// The offset is known.
pub(super) const OFFSET_SET: u8 = 2;
/// The entry has no block.
pub(super) const NO_DATA: u8 = 3;
/// A sign, and four bytes.
pub(super) const INT_BYTES: usize = 5;

// No name, statement or function body of use is longer; a length beyond it is a broken one.
const MAX_STRING: i64 = 64 << 20;

/// Why a value could not be read.
#[derive(Debug)]
pub(super) enum Stop {
    /// More bytes are needed.
    Short,
    /// They are no archive; says what was found instead.
    Bad(String),
    /// They are an archive that this program does not read.
    Refused(Failure),
}

pub(super) type Parsed<T> = Result<T, Stop>;

pub(super) fn bad<T>(what: impl Into<String>) -> Parsed<T> {
    Err(Stop::Bad(what.into()))
}

/// Reads forward through bytes.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// How much has been read.
    pub fn used(&self) -> usize {
        self.at
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Parsed<u8> {
        self.bytes.get(self.at).copied().ok_or(Stop::Short)
    }

    pub fn take(&mut self, count: usize) -> Parsed<&'a [u8]> {
        let end = self.at.saturating_add(count);
        let taken = self.bytes.get(self.at..end).ok_or(Stop::Short)?;
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn byte(&mut self) -> Parsed<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn int(&mut self) -> Parsed<i64> {
        int(self.array()?)
    }

    /// A string; `None` is SQL's NULL.
    pub fn string(&mut self) -> Parsed<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Ok(None),
            length @ 0..=MAX_STRING => self.take(length as usize).map(Some),
            length => bad(format!("a text of {length} bytes")),
        }
    }

    /// A string that must be there, as text; bytes that are no UTF-8 show as U+FFFD.
    pub fn text(&mut self) -> Parsed<String> {
        match self.string()? {
            Some(bytes) => Ok(text(bytes)),
            None => bad("no text where one belongs"),
        }
    }

    /// The flag and the offset of a data entry.
    pub fn offset(&mut self) -> Parsed<(u8, u64)> {
        let flag = self.byte()?;
        if !(OFFSET_NOT_SET..=NO_DATA).contains(&flag) {
            return bad(format!("an offset of kind {flag}"));
        }
        let offset = u64::from_le_bytes(self.array()?);
        if flag != OFFSET_SET && offset != 0 {
            return bad(format!("an offset that is not set and is {offset}"));
        }
        Ok((flag, offset))
    }
}

/// A sign byte and the magnitude, little-endian. Never -0, which pg_dump does not write.
pub(super) fn int(field: [u8; INT_BYTES]) -> Parsed<i64> {
    let [sign, rest @ ..] = field;
    let magnitude = i64::from(u32::from_le_bytes(rest));
    match sign {
        0 if magnitude <= i64::from(i32::MAX) => Ok(magnitude),
        1 if (1..=1 << 31).contains(&magnitude) => Ok(-magnitude),
        _ => bad(format!("no number: sign {sign}, {magnitude}")),
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
