//! Sankofa: fetches rows of production PostgreSQL databases into a warehouse, exactly once, and lost databases back.
//!
//! The map, in reading order; arrows point down this list only (`tests/architecture.rs` holds them).

pub mod error;
pub mod table;
pub mod report;
pub mod progress;
pub mod logging;
pub mod stop;
pub mod process;
pub mod harden;

pub mod secret;
pub mod pg;
pub mod store;
pub mod notify;

pub mod config;
pub mod ledger;
pub mod etl;
pub mod backup;
pub mod init;
pub mod doctor;
pub mod status;

pub mod cmd;
