//! Rows of COPY text, hashed one by one as they stream by.
//!
//! In:    the text of one table, cut anywhere.
//! Out:   how many rows, how many bytes, the sum of their hashes.
//! Holds: no allocation per row, and none by the length of a row; the end mark must be there.
//! Not here: where the text comes from (`reader`, `backup::prove`).
//!
//! Format: PostgreSQL manual, COPY, "Text Format"; a row never holds a raw newline, and the line `\.`
//! is the end mark only, for the value is written `\\.`.

use crate::backup::proof::{SetProof, SetSum};
use sha2::{Digest, Sha256};

/// After the end mark pg_dump writes two empty lines (`dumpTableData_copy`).
const LINES_AFTER_END: u8 = 2;

/// Counts and sums the rows of one table.
#[derive(Clone, Default)]
pub(crate) struct RowSum {
    set: SetSum,
    /// The beginning of a row that has not ended.
    row: Option<Part>,
    ended: Option<u8>,
}

#[derive(Clone)]
struct Part {
    hash: Sha256,
    bytes: u64,
    head: [u8; 2],
}

impl RowSum {
    /// Takes the next piece of pg_dump's text; false if something follows the end mark.
    pub fn feed_dumped(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while let (None, Some(end)) = (self.ended, memchr::memchr(b'\n', rest)) {
            let (line, next) = (&rest[..end], &rest[end + 1..]);
            match self.row.take() {
                None if line == b"\\." => self.ended = Some(0),
                None => self.set.add(line),
                Some(part) if part.is_end_mark(line) => self.ended = Some(0),
                Some(part) => self.end_row(part, line),
            }
            rest = next;
        }
        match &mut self.ended {
            None => self.begin_row(rest),
            Some(lines) => *lines = lines.saturating_add(u8::try_from(rest.len()).unwrap_or(u8::MAX)),
        }
        self.ended.is_none_or(|lines| lines <= LINES_AFTER_END && rest.iter().all(|byte| *byte == b'\n'))
    }

    /// Takes the next piece of what a server sends for COPY TO STDOUT: no end mark.
    pub fn feed_copied(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            match self.row.take() {
                None => self.set.add(&rest[..end]),
                Some(part) => self.end_row(part, &rest[..end]),
            }
            rest = &rest[end + 1..];
        }
        self.begin_row(rest);
    }

    /// How many rows have ended.
    pub fn count(&self) -> u64 {
        self.set.count()
    }

    fn begin_row(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.row.get_or_insert_with(Part::new).add(bytes);
        }
    }

    fn end_row(&mut self, mut part: Part, last: &[u8]) {
        part.add(last);
        self.set.add_hashed(part.bytes, &part.hash.finalize().into());
    }

    /// The sums of pg_dump's text, if its end mark was there and all after it.
    pub fn end_dumped(self) -> Option<SetProof> {
        (self.ended == Some(LINES_AFTER_END)).then(|| self.set.proof())
    }

    /// The sums of what a server sent, if its last row was whole.
    pub fn end_copied(self) -> Option<SetSum> {
        self.row.is_none().then_some(self.set)
    }
}

impl Part {
    fn new() -> Self {
        Part { hash: Sha256::new(), bytes: 0, head: [0; 2] }
    }

    fn add(&mut self, bytes: &[u8]) {
        let known = usize::try_from(self.bytes).unwrap_or(2).min(2);
        for (at, byte) in (known..2).zip(bytes) {
            self.head[at] = *byte;
        }
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn is_end_mark(&self, last: &[u8]) -> bool {
        let whole = (self.bytes, self.head[0], last);
        matches!(whole, (1, b'\\', b".")) || matches!((whole, self.head[1]), ((2, b'\\', b""), b'.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(pieces: &[&[u8]]) -> Option<SetProof> {
        let mut rows = RowSum::default();
        pieces.iter().all(|piece| rows.feed_dumped(piece)).then(|| rows.end_dumped())?
    }

    #[test]
    fn every_cut_of_the_text_gives_the_same_sums() {
        let text = b"\\\\.\n\na\tb\n\\N\n\\.\n\n\n";
        let whole = sums(&[text]).unwrap();
        assert_eq!((whole.count, whole.bytes), (4, 3 + 3 + 2));
        for cut in 0..text.len() {
            assert_eq!(sums(&[&text[..cut], &text[cut..]]).as_ref(), Some(&whole), "{cut}");
            assert_eq!(sums(&[&text[..cut]]), None, "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(sums(&bytes), Some(whole));
    }

    #[test]
    fn nothing_but_two_empty_lines_may_follow_the_end_mark() {
        for wrong in
            [&b"a\n\\.\n"[..], b"a\n\\.\n\n", b"a\n\\.\n\n\n\n", b"a\n\\.\n\nb", b"a\n\\.\nb\n", b"a\n"]
        {
            assert_eq!(sums(&[wrong]), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_a_server_copies_sums_as_what_pg_dump_wrote() {
        let mut copied = RowSum::default();
        copied.feed_copied(b"a\nb");
        assert!(copied.clone().end_copied().is_none());
        copied.feed_copied(b"c\n");
        assert_eq!(copied.end_copied().unwrap().proof(), sums(&[b"bc\na\n\\.\n\n\n"]).unwrap());
    }
}
