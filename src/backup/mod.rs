//! Bytes: database -> store, and back.
//!
//! In:    a resolved database, sessions and stores that are open.
//! Out:   backups that carry the proof of what they hold; databases restored from them and proven equal.
//! Holds: no manifest, no backup; what is restored is compared to what was dumped before it is called done.
//! Not here: rows on their way to the warehouse (`etl`).

pub mod archive;
pub mod codec;
pub mod coverage;
pub mod drill;
mod gzip;
pub mod inventory;
pub mod manifest;
pub mod names;
pub mod proof;
pub mod prune;
pub mod restore;
pub mod retention;
pub mod seal;
pub mod stores;
pub mod tally;
