//! The process itself: its signals, its panics.
//!
//! In:    nothing. Out: calls of ours when a signal or a panic comes.
//! Holds: a signal is seen whatever the runtime is doing, since a thread of its own waits.
//! Not here: what a signal means for the work (`stop`), the exit (`main`), what it leaves (`harden`).

use crate::stop::Reason;
use std::mem::MaybeUninit;
use std::panic::PanicHookInfo;

/// Signals that end a command; one that the parent told us to ignore (`nohup`, `&`) stays ignored.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Holds the signals back until [`Signals::watch`]. Call it before any thread is started.
    pub fn hold() -> Self {
        // SAFETY: the set is initialised by sigemptyset before anything else touches it, and the
        // calls keep no pointer.
        unsafe {
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                let mut current = MaybeUninit::<libc::sigaction>::zeroed();
                libc::sigaction(signal, std::ptr::null(), current.as_mut_ptr());
                if current.assume_init().sa_sigaction != libc::SIG_IGN {
                    libc::sigaddset(&mut set, signal);
                }
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            Signals(set)
        }
    }

    /// Calls `seen` for each signal, from a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(self, seen: impl Fn(Reason) + Send + 'static) -> std::io::Result<()> {
        let wait = move || {
            loop {
                let mut signal = 0;
                // SAFETY: the set is initialised, and `signal` outlives the call.
                if unsafe { libc::sigwait(&self.0, &mut signal) } == 0 {
                    let interrupted = signal == libc::SIGINT;
                    seen(if interrupted { Reason::Interrupted } else { Reason::Terminated });
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
    }
}

/// Calls `seen` for each panic, with its place; its message, which may quote data, is not shown.
pub fn watch_panics(seen: impl Fn(Reason) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        seen(Reason::Panicked(place));
    }));
}
