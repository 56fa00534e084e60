//! The one integration binary: everything that needs real servers, one module per subject.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod contract;
mod deletes;
mod faults;
mod guard;
mod ledger;
mod pair;
mod public;
mod quality;
mod replay;
mod signals;
mod testbed;
mod types;
mod window;
