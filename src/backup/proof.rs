//! What a dump held, table by table: the yardstick of every restore.
//!
//! In:    what `backup::archive` counted and hashed while the dump streamed by.
//! Out:   `proof.age` (encrypted like the dump); differences between it and a restored database.
//! Holds: sums are order-independent: equal sets of rows have equal sums, whatever their order;
//!        a doubled, lost or changed row changes the sum or the count.
//! Not here: reading the archive (`backup::archive`), reading a database (`backup::prove`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of `proof.age`.
pub const SCHEMA: u32 = 1;

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
    /// All large objects together.
    pub large_objects: SetProof,
    /// SQL of each `SEQUENCE SET`, by qualified name.
    pub sequences: BTreeMap<String, String>,
    /// SHA-256 over the sorted definitions of everything that is not data, hex.
    pub definition_sha256: String,
    /// How many definitions that were.
    pub definitions: u64,
    /// What the dump does not hold, by class and name.
    pub left_out: Vec<LeftOut>,
    /// What a restore computes anew and the proof does not cover: generated columns, materialised views.
    pub recomputed: Vec<String>,
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
    /// Sum of their SHA-256, modulo 2^256, big-endian hex.
    pub sum: String,
}

/// Something of the database that the dump does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Such as `foreign_table`, `unlogged_table`, `subscription`.
    pub class: String,
    /// Its name.
    pub name: String,
}
