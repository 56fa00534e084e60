//! The wish that a command end before it is done, and what is to be cleaned up then.
//!
//! In:    a reason, from a signal, a deadline or a panic; clean-ups, from whoever made something that
//!        would outlive the process (a query on a server, an upload).
//! Out:   the reason, to whoever waits for it.
//! Holds: the first reason stays; a clean-up runs once, and only when a stop is asked for while its
//!        [`Registration`] lives.
//! Not here: signals and the exit of the process (`process`).

use crate::error::{Failure, Kind};
use crate::report::duration;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long clean-ups may take, all together.
pub const CLEAN_UP: Duration = Duration::from_secs(3);

/// How long the work itself may go on after the last clean-up, to roll back what it holds.
const GRACE: Duration = Duration::from_millis(400);

/// Why a command is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT.
    Interrupted,
    /// SIGTERM, or the terminal is gone.
    Terminated,
    /// `--deadline` is over.
    Deadline(Duration),
    /// Something panicked at this place in the source.
    Panicked(String),
}

impl Reason {
    /// The failure that the command ends with.
    pub fn failure(&self) -> Failure {
        match self {
            Reason::Interrupted => Failure::new(Kind::Interrupted, "interrupted (SIGINT)"),
            Reason::Terminated => Failure::new(Kind::Terminated, "terminated (SIGTERM)"),
            Reason::Deadline(limit) => {
                let limit = duration(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
                Failure::temporary(format!("not done within the deadline of {limit}"))
                    .hint("Run it again; give it more time with `--deadline` if it only needs that.")
            }
            Reason::Panicked(place) => {
                Failure::new(Kind::Unclassified, format!("sankofa panicked at {place}"))
                    .hint("This is a bug in sankofa; please report the place and the version.")
            }
        }
    }
}

type CleanUp = BoxFuture<'static, ()>;

#[derive(Default)]
struct Registered {
    last_id: u64,
    clean_ups: BTreeMap<u64, CleanUp>,
}

struct Shared {
    reason: watch::Sender<Option<Reason>>,
    registered: Mutex<Registered>,
}

/// A handle on the wish to stop; clones share it.
#[derive(Clone)]
pub struct StopSignal(Arc<Shared>);

/// Keeps one clean-up alive: dropped, the clean-up is forgotten.
#[must_use = "a clean-up is forgotten when its registration is dropped"]
pub struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Default for StopSignal {
    fn default() -> Self {
        Self::new()
    }
}

impl StopSignal {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        let reason = watch::Sender::new(None);
        StopSignal(Arc::new(Shared { reason, registered: Mutex::default() }))
    }

    /// Asks for a stop, from any thread; true if nobody had asked before.
    pub fn request(&self, reason: Reason) -> bool {
        self.0.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        })
    }

    /// Why to stop, if anybody has asked. Work that would start something new looks here first.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason.borrow().clone()
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) -> Reason {
        let mut receiver = self.0.reason.subscribe();
        loop {
            if let Some(reason) = receiver.borrow_and_update().clone() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await; // cannot be: `self` holds the sender
            }
        }
    }

    /// Registers what to do when a stop is asked for, such as cancelling a query on a server.
    ///
    /// All clean-ups run side by side and have [`CLEAN_UP`] together; none of them is waited for
    /// longer. One that is registered after the request starts at once.
    pub fn on_stop(&self, clean_up: impl Future<Output = ()> + Send + 'static) -> Registration {
        let mut registered = lock(&self.0);
        registered.last_id += 1;
        let id = registered.last_id;
        registered.clean_ups.insert(id, clean_up.boxed());
        drop(registered);
        if self.reason().is_some() && tokio::runtime::Handle::try_current().is_ok() {
            let late = lock(&self.0).clean_ups.remove(&id);
            late.map(tokio::spawn);
        }
        Registration { shared: self.0.clone(), id }
    }

    /// Runs what was registered, at most for [`CLEAN_UP`]; a panic in one does not stop the others.
    async fn clean_up(&self) {
        let taken = std::mem::take(&mut lock(&self.0).clean_ups);
        let all = taken.into_values().map(|one| AssertUnwindSafe(one).catch_unwind());
        let _ = tokio::time::timeout(CLEAN_UP, join_all(all)).await;
    }

    /// Runs `work` until it is done or a stop is asked for.
    ///
    /// After a request the work goes on beside the clean-ups, so that it sees its queries cancelled
    /// and rolls back by itself; if it then says that it is done, it is, since it may have committed
    /// before anyone could stop it. What has not ended shortly after the clean-ups is dropped.
    ///
    /// # Errors
    /// The work's own; the reason's failure, when a stop was asked for or the work panicked.
    pub async fn race<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let mut work = std::pin::pin!(AssertUnwindSafe(work).catch_unwind());
        let mut ended = tokio::select! {
            biased;
            ended = &mut work => Some(ended),
            _ = self.requested() => None,
        };
        match ended {
            Some(Ok(done)) if self.reason().is_none() => return done,
            Some(Err(_)) => drop(self.request(Reason::Panicked("an unknown place".into()))),
            _ => (),
        }
        let reason = self.requested().await;
        let mut clean_up = std::pin::pin!(self.clean_up());
        if ended.is_none() {
            tokio::select! {
                early = &mut work => { ended = Some(early); clean_up.await }
                () = &mut clean_up => ended = tokio::time::timeout(GRACE, work).await.ok(),
            }
        } else {
            clean_up.await;
        }
        match ended {
            Some(Ok(Ok(done))) => Ok(done),
            _ => Err(reason.failure().into()),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let forgotten = lock(&self.shared).clean_ups.remove(&self.id);
        drop(forgotten); // after the lock: it may hold registrations itself
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Registered> {
    shared.registered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::classify;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::Instant;

    fn counting(counter: &Arc<AtomicU32>) -> impl Future<Output = ()> + Send + 'static {
        let counter = counter.clone();
        async move {
            counter.fetch_add(1, SeqCst);
        }
    }

    fn kind_of<T: std::fmt::Debug>(result: anyhow::Result<T>) -> Kind {
        classify(&result.unwrap_err()).kind
    }

    #[tokio::test]
    async fn work_that_is_done_runs_no_clean_up() {
        let (stop, ran) = (StopSignal::new(), Arc::default());
        let _kept = stop.on_stop(counting(&ran));
        assert_eq!(stop.race(async { anyhow::Ok(7) }).await.unwrap(), 7);
        assert_eq!(ran.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn a_stop_runs_what_is_still_registered_once_and_the_first_reason_stays() {
        let (stop, ran, forgotten) = (StopSignal::new(), Arc::default(), Arc::default());
        let _kept = stop.on_stop(counting(&ran));
        drop(stop.on_stop(counting(&forgotten)));
        assert!(stop.request(Reason::Terminated));
        assert!(!stop.request(Reason::Interrupted));
        let stuck = stop.race(std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(kind_of(stuck), Kind::Terminated);
        let again = stop.race(std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(kind_of(again), Kind::Terminated);
        assert_eq!((ran.load(SeqCst), forgotten.load(SeqCst)), (1, 0));
    }

    #[tokio::test]
    async fn stuck_work_with_a_stuck_clean_up_is_dropped_within_the_bounds() {
        let stop = StopSignal::new();
        let _stuck = stop.on_stop(std::future::pending());
        stop.request(Reason::Terminated);
        let start = Instant::now();
        let result = stop.race(std::future::pending::<anyhow::Result<()>>()).await;
        assert_eq!(kind_of(result), Kind::Terminated);
        assert!(start.elapsed() < CLEAN_UP + GRACE + Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn work_that_committed_before_it_could_be_stopped_is_done() {
        let stop = StopSignal::new();
        let inside = stop.clone();
        let work = async move {
            inside.request(Reason::Terminated);
            tokio::time::sleep(Duration::from_millis(20)).await;
            anyhow::Ok("committed")
        };
        assert_eq!(stop.race(work).await.unwrap(), "committed");
    }

    #[tokio::test]
    async fn work_that_fails_because_its_query_was_cancelled_reads_as_stopped() {
        let stop = StopSignal::new();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let _cancel = stop.on_stop(async move { drop(sender) });
        let _timer = tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                stop.request(Reason::Deadline(Duration::from_millis(20)))
            }
        });
        let work = async { receiver.await.map_err(|_| Failure::data("SQLSTATE 57014").into()) };
        let failure = classify(&stop.race(work).await.unwrap_err());
        assert_eq!(
            (failure.kind, failure.what.as_str()),
            (Kind::Temporary, "not done within the deadline of 20 ms")
        );
    }

    #[tokio::test]
    async fn a_clean_up_registered_too_late_runs_all_the_same() {
        let (stop, ran) = (StopSignal::new(), Arc::default());
        stop.request(Reason::Interrupted);
        let _late = stop.on_stop(counting(&ran));
        tokio::task::yield_now().await;
        assert_eq!(ran.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_in_the_work_or_in_a_clean_up_leaves_the_other_clean_ups_running() {
        let (stop, ran) = (StopSignal::new(), Arc::default());
        let _bad = stop.on_stop(async { panic!("in a clean-up") });
        let _good = stop.on_stop(counting(&ran));
        let result = stop.race(async { if true { panic!("in the work") } else { anyhow::Ok(()) } }).await;
        assert_eq!(kind_of(result), Kind::Unclassified);
        assert_eq!(ran.load(SeqCst), 1);
    }
}
