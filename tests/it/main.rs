//! The one integration binary: everything that needs real servers, one module per subject.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod ops;
mod public;
mod testbed;
