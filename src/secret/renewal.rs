//! A connection that is asked for once more when a server refuses what it said.
//!
//! In:    what asks the places. Out: the newer connection, the same for all copies of one answer.
//! Holds: it is asked for at most once with success.
//! Not here: when it is asked (`pg::connect`), who is asked ([`super::Resolver`]).

use super::connection::Connection;
use anyhow::Result;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::OnceCell;

type Ask = Arc<dyn Fn() -> BoxFuture<'static, Result<Connection>> + Send + Sync>;

/// The way back to the places; copies share what came of it.
#[derive(Clone)]
pub(super) struct Renewal {
    ask: Ask,
    fresh: Arc<OnceCell<Connection>>,
}

impl Renewal {
    /// Asks by `ask`, and keeps what it says in `fresh`.
    pub fn new(ask: Ask, fresh: Arc<OnceCell<Connection>>) -> Renewal {
        Renewal { ask, fresh }
    }

    /// What was asked for anew, if it was.
    pub fn fresh(&self) -> Option<&Connection> {
        self.fresh.get()
    }

    /// Asks, unless that was done.
    ///
    /// # Errors
    /// The places' own.
    pub async fn ask(&self) -> Result<&Connection> {
        self.fresh.get_or_try_init(|| (self.ask)()).await
    }
}
