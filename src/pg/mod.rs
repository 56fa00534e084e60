//! PostgreSQL servers: how to reach one, and what may be told of its answers.
//!
//! In:    a resolved connection, never the configuration.
//! Out:   sessions; failures with public text.
//! Holds: no password and no cell value leaves here in a text.
//! Not here: what is asked of the server (`etl`, `ledger`).

pub mod child;
pub mod connect;
pub mod copy;
mod endpoint;
pub mod lock;
mod options;
pub mod introspect;
pub mod params;
mod passfile;
pub mod public;
pub mod said;
pub mod session;
mod tls;
pub mod tool;

pub use connect::{SessionOptions, connect};
pub use endpoint::Endpoint;
pub use params::ConnectParams;
pub use session::{Canceller, Session};
