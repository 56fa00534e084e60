//! What a backup says of itself, readable without any key.
//!
//! In:    the figures of a backup that has ended well.
//! Out:   `manifest.json`, written last; names of objects in the store.
//! Holds: no name of a table or column, no host, no secret: a bucket may be read by others.
//! Not here: names and hashes of tables (`backup::proof`), what is listed (`backup::inventory`).

pub use crate::config::model::Codec;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of `manifest.json`.
pub const SCHEMA: u32 = 1;
/// Name of the manifest in a backup's folder.
pub const MANIFEST: &str = "manifest.json";
/// Name of the encrypted proof in a backup's folder.
pub const PROOF: &str = "proof.age";

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `database`, or `globals` of a server.
    pub kind: Kind,
    /// Name of the environment that made it.
    pub environment: String,
    /// The database's name in `backups: databases:`, or the server's connection id.
    pub database: String,
    /// Last part of the folder's name.
    pub id: String,
    /// The run that made it, as the scheduler calls it.
    pub run_id: String,
    /// When the dump began, by the clock of the machine that made it.
    pub started_at: Timestamp,
    /// When the last object was there.
    pub finished_at: Timestamp,
    /// Version of this program.
    pub sankofa: String,
    /// Where it came from.
    pub source: Source,
    /// The archive: `dump.pgc.<codec>.age` or `globals.sql.age`.
    pub object: Object,
    /// `proof.age`; `None` for globals.
    pub proof: Option<Object>,
    /// Folder of the globals of the same server that were kept at the same time.
    pub globals: Option<String>,
    /// How the archive is packed.
    pub codec: Codec,
    /// age recipients that can open it.
    pub recipients: Vec<String>,
    /// Settings of the dumping session that shape the text of rows, by name.
    pub settings: BTreeMap<String, String>,
    /// What is in it, in numbers.
    pub counts: Counts,
    /// What pg_dump warned of, sorted by class: (class, how often).
    pub warnings: BTreeMap<String, u64>,
    /// What the dump leaves out, in numbers by class, such as `foreign_tables`.
    pub left_out: BTreeMap<String, u64>,
    /// Milliseconds per phase: `dump`, `finish`, `proof`.
    pub timings_ms: BTreeMap<String, u64>,
}

/// What a backup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One database.
    Database,
    /// Roles, memberships, tablespaces and settings of one server.
    Globals,
}

/// Where a backup came from: enough to refuse a restore over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `system_identifier` of the cluster.
    pub system_identifier: String,
    /// OID of the database; `None` for globals.
    pub database_oid: Option<u32>,
    /// Version of the server, as it says it: `17.10`.
    pub server_version: String,
    /// Version of the program that dumped: `17.10`.
    pub pg_dump_version: String,
    /// Encoding of the database.
    pub encoding: String,
    /// `pg_database_size` when the dump began.
    pub database_bytes: u64,
    /// Whether the server was a standby.
    pub standby: bool,
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name in the backup's folder.
    pub name: String,
    /// Length before packing and encryption.
    pub plain_bytes: u64,
    /// SHA-256 of that, hex.
    pub plain_sha256: String,
    /// Length as stored.
    pub stored_bytes: u64,
    /// SHA-256 of that, hex.
    pub stored_sha256: String,
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tables with a data block.
    pub tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Entries of the archive's table of contents.
    pub entries: u64,
}
