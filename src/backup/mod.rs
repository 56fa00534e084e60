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
pub mod dump;
pub mod earlier;
pub mod drills;
mod gzip;
pub mod inventory;
pub mod holders;
pub mod keep;
pub mod manifest;
pub mod names;
pub mod outcome;
pub mod ping;
pub mod proof;
pub mod prove;
pub mod prune;
pub mod restore;
pub mod retention;
pub mod run;
pub mod seal;
pub mod source;
pub mod stores;
pub mod stream;
pub mod tally;
pub mod verify;
