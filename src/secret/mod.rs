//! Asks for what must not stand in a file: connections and variables, by name.
//!
//! In:    the id of a connection or the key of a variable; the places to ask, in order.
//! Out:   a [`Connection`] or a secret text, held in memory only.
//! Holds: nothing here prints a secret; an id is asked for once per process.
//! Not here: what PostgreSQL makes of a connection (`pg::params`).

pub mod aws;
mod connection;
mod environment;
mod files;
pub mod grammar;
mod place;
mod renewal;
mod resolver;
mod url;
pub mod vault;
mod wipe;

pub use connection::{Connection, UnusableExtra};
pub use environment::Environment;
pub use files::Files;
pub use place::{Answer, Asked, Credentials, Place};
pub use resolver::Resolver;
