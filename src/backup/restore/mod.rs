//! Brings a database back.
//!
//! In:    a backup in a store, an identity that opens it, a server.
//! Out:   a database proven equal to what was dumped, or the archive as a file.
//! Holds: nothing is written to the server before everything that was fetched is verified; what is not
//!        proven yet has a temporary name or carries a marker.

pub mod choose;
pub mod open;
pub mod fetch;
pub mod identity;
pub mod verify;
pub mod spool;
pub mod predict;
pub mod target;
pub mod guard;
pub mod needs;
pub mod check;
pub mod select;
pub mod properties;
pub mod plan;
pub mod place;
pub mod globals;
pub mod apply;
pub mod reasons;
pub mod fill;
pub mod to_file;
