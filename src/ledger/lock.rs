//! One run of a pipeline at a time: a session lock in the warehouse.
//!
//! In:    a pipeline's name. Out: its lock.
//! Not here: how a lock is taken and what it promises (`pg::lock`).

use crate::pg::lock::Lock;
pub use crate::pg::lock::settings;
use anyhow::Result;
use tokio_postgres::Client;

/// Where the lock is, for messages.
const PLACE: &str = "the warehouse";

/// The lock of `pipeline`.
pub fn of(pipeline: &str) -> Lock {
    Lock::new(&format!("pipeline {pipeline}"), format!("run {pipeline}"), PLACE)
}

/// Refuses a transaction pooler before the warehouse.
///
/// # Errors
/// As [`crate::pg::lock::refuse_pooler`].
pub async fn refuse_pooler(holder: &Client, other: &Client) -> Result<()> {
    crate::pg::lock::refuse_pooler(holder, other, PLACE).await
}
