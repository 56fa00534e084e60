//! The frames of COPY in binary: cut into rows, measured and masked as they pass, packed again.
//!
//! In:    pieces of a `COPY ... TO STDOUT (FORMAT binary)` stream, cut anywhere.
//! Out:   [`Batch`]es of whole rows without header and trailer, and [`Measures`] of what went by.
//! Holds: memory is one batch and one row; a stream that ends without its trailer is an error;
//!        a value is looked at only where a mask or the replication key asks for it.
//! Not here: the sessions (`etl::extract`), what the values mean to a type (`etl::types`).
//!
//! Format: PostgreSQL manual, COPY, "Binary Format".

use crate::error::Failure;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Signature, flags and the length of the (empty) extension area that open a stream.
pub const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1 ends a stream.
pub const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// A batch is handed on when it has grown to this size: larger ones were no faster when measured.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Whole rows, packed as they stand in a stream between header and trailer.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows.
    pub data: Vec<u8>,
    /// How many they are.
    pub rows: u64,
}

/// What becomes of one field of the stream on its way.
#[derive(Clone)]
pub enum Field {
    /// It passes as it is.
    Pass,
    /// It is replaced by the hex of its HMAC-SHA-256.
    Hmac(Hmac<Sha256>),
    /// It becomes NULL.
    Nullify,
    /// It becomes the word `[redacted]`.
    Redact,
    /// It is measured and left out: a replication key that is not among the columns asked for.
    Drop,
}

impl Field {
    /// An HMAC mask with `key`.
    pub fn hmac(key: &[u8]) -> Field {
        // HMAC takes keys of any length (RFC 2104), so the error cannot happen; a key that
        // could not be used must never mean "no mask".
        Hmac::new_from_slice(key).map_or(Field::Nullify, Field::Hmac)
    }
}

/// Counts of the rows that went by. `nulls` are in the order of the stream's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows as they were read.
    pub bytes: u64,
    /// NULLs per field, before any mask.
    pub nulls: Vec<u64>,
    /// The greatest value of the replication key, as a big-endian signed integer of its width.
    pub high: Option<i64>,
    /// Bytes of the largest row.
    pub largest_row: u64,
}

impl Measures {
    /// Adds what another reader of the same table has seen.
    pub fn add(&mut self, other: &Measures) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.nulls.resize(self.nulls.len().max(other.nulls.len()), 0);
        for (sum, more) in self.nulls.iter_mut().zip(&other.nulls) {
            *sum += more;
        }
        self.high = self.high.max(other.high);
        self.largest_row = self.largest_row.max(other.largest_row);
    }
}

/// Cuts one stream into rows, measures and masks them, and packs them into batches.
pub struct Decoder {
    fields: Vec<Field>,
    key: Option<usize>,
    max_row_bytes: usize,
    plain: bool,
    pending: Vec<u8>,
    opened: bool,
    ended: bool,
    batch: Batch,
    measures: Measures,
}

impl Decoder {
    /// A decoder for rows of `fields`, whose field number `key` (if any) is the replication key.
    pub fn new(fields: Vec<Field>, key: Option<usize>, max_row_bytes: usize) -> Self {
        let plain = fields.iter().all(|field| matches!(field, Field::Pass));
        let measures = Measures { nulls: vec![0; fields.len()], ..Measures::default() };
        Decoder {
            fields,
            key,
            max_row_bytes,
            plain,
            pending: Vec::new(),
            opened: false,
            ended: false,
            batch: Batch::default(),
            measures,
        }
    }

    /// Takes the next piece of the stream; true when a batch is full.
    ///
    /// # Errors
    /// 65 when a row is larger than allowed, 1 when the stream is not COPY binary of these fields.
    pub fn feed(&mut self, piece: &[u8]) -> Result<bool, Failure> {
        if self.pending.is_empty() {
            let used = self.consume(piece)?;
            self.pending.extend_from_slice(&piece[used..]);
        } else {
            self.pending.extend_from_slice(piece);
            let joined = std::mem::take(&mut self.pending);
            let used = self.consume(&joined)?;
            self.pending = joined;
            self.pending.drain(..used);
        }
        if self.pending.len() > self.max_row_bytes.saturating_add(HEADER.len()) {
            return Err(self.too_large(self.pending.len()));
        }
        Ok(self.batch.data.len() >= BATCH_BYTES)
    }

    /// The rows gathered so far; the next batch starts empty.
    pub fn take(&mut self) -> Batch {
        let capacity = self.batch.data.len().clamp(BATCH_BYTES, 2 * BATCH_BYTES);
        std::mem::replace(&mut self.batch, Batch { data: Vec::with_capacity(capacity), rows: 0 })
    }

    /// What went by.
    ///
    /// # Errors
    /// 75 when the stream ended before its trailer: it was cut.
    pub fn finish(self) -> Result<Measures, Failure> {
        if self.ended && self.pending.is_empty() {
            Ok(self.measures)
        } else {
            Err(Failure::temporary("the rows ended before their end mark: the stream was cut"))
        }
    }

    /// Takes what is whole of `bytes` and returns how much that was.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        if !self.opened {
            let Some(length) = header_length(bytes)? else { return Ok(0) };
            self.opened = true;
            used = length;
        }
        while used < bytes.len() && !self.ended {
            match self.row(&bytes[used..])? {
                Some(length) => used += length,
                None => break,
            }
        }
        if self.ended && used < bytes.len() {
            return Err(broken("bytes follow the end mark"));
        }
        Ok(used)
    }

    /// One row or the trailer at the start of `bytes`: its length, or `None` when it is not all there.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(count) = int16(bytes, 0) else { return Ok(None) };
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        if usize::try_from(count).ok() != Some(self.fields.len()) {
            return Err(broken("a row has another number of fields than its table has columns"));
        }
        let Some(length) = row_length(bytes, self.fields.len())? else { return Ok(None) };
        if length > self.max_row_bytes {
            return Err(self.too_large(length));
        }
        self.measure(&bytes[..length]);
        if self.plain {
            self.batch.data.extend_from_slice(&bytes[..length]);
        } else {
            self.pack(&bytes[..length]);
        }
        self.batch.rows += 1;
        Ok(Some(length))
    }

    fn measure(&mut self, row: &[u8]) {
        self.measures.rows += 1;
        self.measures.bytes += row.len() as u64;
        self.measures.largest_row = self.measures.largest_row.max(row.len() as u64);
        for (number, value) in Values::of(row).enumerate() {
            match value {
                None => self.measures.nulls[number] += 1,
                Some(value) if self.key == Some(number) => {
                    self.measures.high = self.measures.high.max(signed(value));
                }
                Some(_) => {}
            }
        }
    }

    fn pack(&mut self, row: &[u8]) {
        let out = &mut self.batch.data;
        let kept = self.fields.iter().filter(|field| !matches!(field, Field::Drop)).count();
        out.extend_from_slice(&i16::try_from(kept).unwrap_or(i16::MAX).to_be_bytes());
        for (field, value) in self.fields.iter().zip(Values::of(row)) {
            match (field, value) {
                (Field::Drop, _) => {}
                (_, None) | (Field::Nullify, _) => out.extend_from_slice(&(-1i32).to_be_bytes()),
                (Field::Pass, Some(value)) => put(out, value),
                (Field::Redact, Some(_)) => put(out, b"[redacted]"),
                (Field::Hmac(keyed), Some(value)) => put(out, hex_hmac(keyed, value).as_bytes()),
            }
        }
    }

    fn too_large(&self, bytes: usize) -> Failure {
        let (mib, limit) = (bytes.div_ceil(1 << 20), self.max_row_bytes >> 20);
        Failure::data(format!("a row of at least {mib} MiB is larger than the limit of {limit} MiB"))
            .hint("Exclude the large column, or raise `max_row` in the pipeline: memory is three times that.")
    }
}

/// The fields of one whole row: `None` for NULL.
pub struct Values<'a> {
    row: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    /// The fields of `row`, which must be whole.
    pub fn of(row: &'a [u8]) -> Self {
        Values { row, at: 2 }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = int32(self.row, self.at)?;
        self.at += 4;
        let Ok(length) = usize::try_from(length) else { return Some(None) };
        let value = self.row.get(self.at..self.at + length)?;
        self.at += length;
        Some(Some(value))
    }
}

/// The rows of a batch, one after the other.
pub fn rows(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let fields = usize::try_from(int16(rest, 0)?).ok()?;
        let length = row_length(rest, fields).ok()??;
        let (row, after) = rest.split_at(length);
        rest = after;
        Some(row)
    })
}

/// Length of the row of `fields` fields at the start of `bytes`, if it is all there.
fn row_length(bytes: &[u8], fields: usize) -> Result<Option<usize>, Failure> {
    let mut at = 2usize;
    for _ in 0..fields {
        let Some(length) = int32(bytes, at) else { return Ok(None) };
        at += 4;
        match length {
            -1 => {}
            0.. => at += length.unsigned_abs() as usize,
            _ => return Err(broken("a field has a negative length")),
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

fn header_length(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let seen = bytes.len().min(11);
    if bytes[..seen] != HEADER[..seen] {
        return Err(broken("it does not open with PGCOPY"));
    }
    let Some(extension) = int32(bytes, 15) else { return Ok(None) };
    let extension = usize::try_from(extension).map_err(|_| broken("its header has a negative length"))?;
    Ok((bytes.len() >= 19 + extension).then_some(19 + extension))
}

fn int16(bytes: &[u8], at: usize) -> Option<i16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(i16::from_be_bytes)
}

fn int32(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes)
}

/// The big-endian signed integer that int2, int4, int8, date and both timestamps are in binary.
fn signed(value: &[u8]) -> Option<i64> {
    match value.len() {
        2 => value.try_into().ok().map(|b| i64::from(i16::from_be_bytes(b))),
        4 => value.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b))),
        8 => value.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

fn hex_hmac(keyed: &Hmac<Sha256>, value: &[u8]) -> String {
    let mut mac = keyed.clone();
    mac.update(value);
    hex(&mac.finalize().into_bytes())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn broken(why: &str) -> Failure {
    Failure::new(crate::error::Kind::Unclassified, format!("the server's rows are not COPY binary: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = Vec<Option<Vec<u8>>>;

    fn stream(rows: &[Row]) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        for row in rows {
            out.extend_from_slice(&(row.len() as i16).to_be_bytes());
            for value in row {
                match value {
                    None => out.extend_from_slice(&(-1i32).to_be_bytes()),
                    Some(value) => put(&mut out, value),
                }
            }
        }
        out.extend_from_slice(&TRAILER);
        out
    }

    fn unpack(batch: &Batch) -> Vec<Row> {
        rows(&batch.data).map(|row| Values::of(row).map(|v| v.map(<[u8]>::to_vec)).collect()).collect()
    }

    proptest! {
        #[test]
        fn rows_survive_any_cut(
            rows in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 3), 0..9),
            cuts in prop::collection::vec(0usize..400, 0..6),
        ) {
            let bytes = stream(&rows);
            let mut decoder = Decoder::new(vec![Field::Pass; 3], None, 1 << 20);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut from = 0;
            for cut in cuts {
                decoder.feed(&bytes[from..cut]).unwrap();
                from = cut;
            }
            let batch = decoder.take();
            prop_assert_eq!(batch.rows as usize, rows.len());
            prop_assert_eq!(unpack(&batch), rows.clone());
            let measures = decoder.finish().unwrap();
            for field in 0..3 {
                prop_assert_eq!(measures.nulls[field] as usize, rows.iter().filter(|r| r[field].is_none()).count());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), open in any::<bool>()) {
            let mut decoder = Decoder::new(vec![Field::Pass, Field::Redact], Some(0), 1 << 10);
            if open {
                decoder.feed(HEADER).unwrap();
            }
            let _ = decoder.feed(&bytes);
        }
    }

    #[test]
    fn masks_replace_values_and_leave_nulls() {
        let rows = vec![vec![Some(vec![1]), Some(vec![2]), Some(vec![3]), Some(vec![0, 5])], vec![None; 4]];
        let fields = vec![Field::hmac(b"k"), Field::Redact, Field::Nullify, Field::Drop];
        let mut decoder = Decoder::new(fields, Some(3), 1 << 10);
        decoder.feed(&stream(&rows)).unwrap();
        let masked = unpack(&decoder.take());
        assert_eq!(masked[0][0].as_ref().map(Vec::len), Some(64));
        assert_eq!(masked[0][1..], [Some(b"[redacted]".to_vec()), None]);
        assert_eq!(masked[1], [None, None, None]);
        assert_eq!(decoder.finish().unwrap().high, Some(5));
    }

    #[test]
    fn a_stream_without_its_end_mark_is_an_error() {
        let bytes = stream(&[vec![None]]);
        let mut decoder = Decoder::new(vec![Field::Pass], None, 1 << 10);
        decoder.feed(&bytes[..bytes.len() - 2]).unwrap();
        assert!(decoder.finish().is_err());
    }

    #[test]
    fn a_row_above_the_limit_is_refused_before_it_is_whole() {
        let bytes = stream(&[vec![Some(vec![7; 5000])]]);
        let mut decoder = Decoder::new(vec![Field::Pass], None, 1000);
        let refused = bytes.chunks(500).find_map(|piece| decoder.feed(piece).err()).unwrap();
        assert_eq!(refused.kind.exit_code(), 65);
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let Field::Hmac(keyed) = Field::hmac(b"Jefe") else { panic!() };
        assert_eq!(
            hex_hmac(&keyed, b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
