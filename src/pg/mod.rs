//! PostgreSQL servers: how to reach one, and what may be told of its answers.
//!
//! In:    a resolved connection, never the configuration.
//! Out:   sessions; failures with public text.
//! Holds: no password and no cell value leaves here in a text.
//! Not here: what is asked of the server (`etl`, `ledger`).

pub mod connect;
pub mod copy;
pub mod introspect;
pub mod params;
pub mod public;
mod tls;

pub use connect::{Canceller, Session, SessionOptions, connect};
pub use params::{ConnectParams, Endpoint};
