//! The test bed: real servers, databases, the built binary, and things that break between them.
//!
//! A test file starts with `use crate::support::*;`. What there is:
//! - [`Server::major`]: the shared server of one major (13 to 18), started once per test process;
//!   [`Server::new`] for one of its own with settings, certificates, `pg_hba.conf` lines.
//! - [`Server::fresh_database`]: an own database per test, dropped after it, kept when it panics.
//! - [`Sankofa`]: the built binary in a project directory of its own.
//! - [`b2::B2`]: Backblaze B2 in this process, as strict as the real one, with faults on demand.
//! - [`leaks::Marks`]: texts that must not be found again, and [`leaks::Evidence`] to search.
//! - `tests/testbed/install.sh` puts the programs in place; without it tests panic and name it.

// Each test binary uses its own part of this.
#![allow(dead_code, unused_imports)]

mod account;
pub mod b2;
mod bare;
pub mod bed;
mod database;
mod dumps;
mod frames;
mod guard;
pub mod leaks;
pub mod moto;
mod pooler;
mod proxy;
mod real;
mod runner;
mod s3;
mod server;
pub mod smtp;
pub mod stand_in;
mod standby;
pub mod vault;

pub use bare::Bare;
pub use bed::{CLIENT_MAJORS, backblaze, client_program, foreign_program, has_clients, rounds};
pub use database::{Database, Row, quote};
pub use dumps::independent_reader;
pub use frames::Direction;
pub use pooler::Pooler;
pub use proxy::{Deed, Proxy, Rule, Seen};
pub use real::Real;
pub use runner::{Finished, Running, Sankofa};
pub use s3::S3Server;
pub use server::{Builder, MAJORS, PASSWORD, Server, Stop, USER};
