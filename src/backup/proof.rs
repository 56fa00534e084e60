//! What a dump held, table by table: the yardstick of every restore.
//!
//! In:    what `backup::archive` counted and hashed while the dump streamed by.
//! Out:   `proof.age` (encrypted like the dump); differences between it and a restored database.
//! Holds: sums are order-independent: equal sets of rows have equal sums, whatever their order;
//!        a doubled, lost or changed row changes the sum or the count.
//! Not here: reading the archive (`backup::archive`), reading a database (`backup::prove`).

use serde::{Deserialize, Serialize};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Version of `proof.age`.
pub const SCHEMA: u32 = 1;

/// Settings that shape the text of rows, as dumps are made under; `pg_dump` itself sets the last three.
pub const SETTINGS: &[(&str, &str)] = &[
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
];

/// The proof of one dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the database that was dumped.
    pub database: String,
    /// Settings of the dumping session that shape the text of rows.
    pub settings: BTreeMap<String, String>,
    /// One per data entry of the archive, in its order.
    pub tables: Vec<TableProof>,
    /// All large objects together; without a sum they are not covered.
    pub large_objects: SetProof,
    /// SQL of each `SEQUENCE SET`, by qualified name.
    pub sequences: BTreeMap<String, String>,
    /// SHA-256 over the sorted SHA-256 of each definition: everything that is neither data nor a
    /// sequence's value nor the database itself, with its owner; hex.
    pub definition_sha256: String,
    /// How many definitions that were.
    pub definitions: u64,
    /// What the dump does not hold, by class and name.
    pub left_out: Vec<LeftOut>,
    /// What a restore computes anew and the proof does not cover: generated columns, materialised views.
    pub recomputed: Vec<String>,
}

impl Proof {
    /// The proof of some tables alone: no large objects, no sequences.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&TableProof) -> bool) -> Proof {
        let tables = self.tables.iter().filter(|table| keep(table)).cloned().collect();
        Proof { tables, large_objects: SetProof::default(), sequences: BTreeMap::new(), ..self.clone() }
    }
}

/// One table's data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProof {
    /// Schema.
    pub schema: String,
    /// Table.
    pub table: String,
    /// Columns in the order of the archive's COPY, unquoted.
    pub columns: Vec<String>,
    /// Where the rows go in by way of a partitioned table: its (schema, table).
    pub root: Option<(String, String)>,
    /// Its rows.
    pub set: SetProof,
}

/// A set of byte strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetProof {
    /// How many.
    pub count: u64,
    /// Their bytes, line ends left out.
    pub bytes: u64,
    /// Sum of their SHA-256 as little-endian numbers, modulo 2^256; hex, most significant digit first.
    pub sum: String,
}

/// Adds up the SHA-256 of byte strings, modulo 2^256, each hash read as a little-endian number.
///
/// A sum and not XOR: under XOR a set that holds each row twice is as good as an empty one. It
/// guards against accidents, not against someone who may choose the rows (a generalised birthday
/// attack), so the proof itself is encrypted and hashed in the manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetSum {
    count: u64,
    bytes: u64,
    /// Least significant first.
    limbs: [u64; 4],
}

impl SetSum {
    /// How many strings it is the sum of.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds one string.
    pub fn add(&mut self, string: &[u8]) {
        self.add_hashed(string.len() as u64, &sha256(string));
    }

    /// Adds one string of `bytes` bytes by its SHA-256.
    pub fn add_hashed(&mut self, bytes: u64, hash: &[u8; 32]) {
        let mut limbs = [0; 4];
        for (limb, part) in limbs.iter_mut().zip(hash.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*part);
        }
        self.add_sum(&SetSum { count: 1, bytes, limbs });
    }

    /// Adds one large object by the SHA-256 of its content.
    pub fn add_large_object(&mut self, oid: u32, bytes: u64, content: &[u8; 32]) {
        let mut hash = Sha256::new_with_prefix(format!("{oid} {bytes} "));
        hash.update(content);
        self.add_hashed(bytes, &hash.finalize().into());
    }

    /// Adds all of another set.
    pub fn add_sum(&mut self, other: &SetSum) {
        self.count += other.count;
        self.bytes += other.bytes;
        let mut carry = false;
        for (limb, more) in self.limbs.iter_mut().zip(other.limbs) {
            let (sum, over) = limb.overflowing_add(more);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_again);
        }
    }

    /// As it is written down.
    pub fn proof(&self) -> SetProof {
        let [a, b, c, d] = self.limbs;
        SetProof { count: self.count, bytes: self.bytes, sum: format!("{d:016x}{c:016x}{b:016x}{a:016x}") }
    }
}

/// SHA-256 in one go, over what the crate offers for it: of 45 bytes in two thirds of the time of
/// `Sha256::digest`, which copies and counts for strings to come. FIPS 180-4, sections 5 and 6.2.
fn sha256(string: &[u8]) -> [u8; 32] {
    let mut state =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
    let (whole, rest) = string.as_chunks::<64>();
    compress256(&mut state, whole);
    let mut last = [[0; 64]; 2];
    last[0][..rest.len()].copy_from_slice(rest);
    last[0][rest.len()] = 0x80;
    // The length in bits stands in the last eight bytes of the last block.
    let blocks = if rest.len() < 56 { 1 } else { 2 };
    last[blocks - 1][56..].copy_from_slice(&(string.len() as u64 * 8).to_be_bytes());
    compress256(&mut state, &last[..blocks]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

impl SetProof {
    /// As numbers again; `None` if the sum is not 64 hex digits.
    pub fn sum(&self) -> Option<SetSum> {
        let mut limbs = [0; 4];
        let digits = Some(&self.sum).filter(|sum| sum.len() == 64 && sum.is_ascii())?;
        for (nth, limb) in limbs.iter_mut().rev().enumerate() {
            *limb = u64::from_str_radix(&digits[16 * nth..16 * nth + 16], 16).ok()?;
        }
        Some(SetSum { count: self.count, bytes: self.bytes, limbs })
    }
}

/// Something of the database that the dump does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Such as `foreign_table`, `unlogged_table`, `subscription`.
    pub class: String,
    /// Its name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(strings: &[&str]) -> SetSum {
        let mut sum = SetSum::default();
        strings.iter().for_each(|string| sum.add(string.as_bytes()));
        sum
    }

    #[test]
    fn a_hash_in_one_go_is_that_of_the_crate_at_every_length() {
        let string: Vec<u8> = (0..300).map(|n: u32| (n * 7) as u8).collect();
        for length in 0..string.len() {
            let expected: [u8; 32] = Sha256::digest(&string[..length]).into();
            assert_eq!(sha256(&string[..length]), expected, "{length}");
        }
    }

    #[test]
    fn the_order_does_not_matter_and_a_doubled_pair_is_not_nothing() {
        assert_eq!(sum_of(&["a", "b", "c"]), sum_of(&["c", "a", "b"]));
        let mut doubled = sum_of(&["a", "b"]);
        doubled.add_sum(&sum_of(&["a", "b"]));
        assert_eq!(doubled, sum_of(&["a", "a", "b", "b"]));
        assert_ne!(doubled.proof().sum, "0".repeat(64));
    }

    #[test]
    fn the_sum_is_the_little_endian_sha256_modulo_2_to_the_256() {
        // python: n = lambda s: int.from_bytes(hashlib.sha256(s).digest(), "little")
        // f"{(n(b'a') + n(b'b')) % 2**256:064x}"
        let expected = "58498b853465f484bc7b509cf96a4432828e04ff18814c2e151654ca2969bb08";
        assert_eq!(sum_of(&["a", "b"]).proof(), SetProof { count: 2, bytes: 2, sum: expected.into() });
        let mut all_ones = SetSum { limbs: [u64::MAX; 4], ..SetSum::default() };
        all_ones.add_sum(&SetSum { limbs: [1, 0, 0, 0], ..SetSum::default() });
        assert_eq!(all_ones.proof().sum, "0".repeat(64));
    }

    #[test]
    fn a_sum_reads_back_as_it_was_written_and_a_broken_one_does_not() {
        let sum = sum_of(&["a", "b", "c"]);
        assert_eq!(sum.proof().sum(), Some(sum));
        for broken in ["", "zz", &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(SetProof { sum: broken.into(), ..sum.proof() }.sum(), None);
        }
    }
}
