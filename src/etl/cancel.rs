//! Cancels the queries of a run's sessions when a stop is asked for.
//!
//! In:    sessions, each as soon as it is open. Out: nothing.
//! Holds: a session that waits for a lock, or for a long query, is told at once; dropped, it is forgotten.
//! Not here: what a stop is (`stop`).

use crate::pg::Session;
use crate::stop::{Registration, StopSignal};
use std::sync::{Mutex, PoisonError};

/// The sessions that are cancelled when a stop is asked for.
pub struct Cancelling {
    stop: StopSignal,
    kept: Mutex<Vec<Registration>>,
}

impl Cancelling {
    /// None yet.
    pub fn on(stop: &StopSignal) -> Self {
        Cancelling { stop: stop.clone(), kept: Mutex::default() }
    }

    /// Cancels what `session` runs, when a stop is asked for.
    pub fn add(&self, session: &Session) {
        let canceller = session.canceller();
        let registration = self.stop.on_stop(async move {
            let _ = canceller.cancel().await; // the session is closed soon after, whatever it says
        });
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(registration);
    }

    /// As [`Cancelling::add`], for each of `sessions`.
    pub fn add_all(&self, sessions: &[Session]) {
        sessions.iter().for_each(|session| self.add(session));
    }
}
