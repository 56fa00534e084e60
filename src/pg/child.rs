//! A running program of PostgreSQL's: its end, its words, its output.
//!
//! In:    a program that `tool` has started.
//! Out:   its stdout as a file; how it ended, with what it said.
//! Holds: it and all that it started end when it is dropped; a flood on stderr never blocks it.
//! Not here: what its words mean (`said`).

use super::said::Said;
use super::tool::Program;
use crate::error::{Failure, Kind};
use anyhow::Result;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::time::Duration;
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;

/// A running program; dropped, it is killed with all that it has started.
pub struct Running {
    child: Child,
    group: Group,
    said: Option<JoinHandle<Said>>,
    program: Program,
}

/// Ends a program from elsewhere.
#[derive(Clone, Debug)]
pub struct Group(Arc<AtomicI32>);

impl Running {
    /// Listens to `child`, which `tool` has started in a process group of its own.
    pub(super) fn new(program: Program, mut child: Child) -> Running {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let said = child.stderr.take().map(|stderr| tokio::spawn(Said::listen(stderr)));
        Running { child, group: Group(Arc::new(AtomicI32::new(pid))), said, program }
    }

    /// What ends it from elsewhere.
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// Waits for its end, and for all it has said.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> Result<Ended> {
        let status = self.child.wait().await?;
        self.group.0.store(0, SeqCst);
        let said = match self.said.take() {
            Some(listening) => listening.await.unwrap_or_default(),
            None => Said::default(),
        };
        Ok(Ended { program: self.program, status, said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.signal(libc::SIGKILL);
    }
}

impl Group {
    /// Asks it to end, which lets it cancel its query on the server, and kills it if it does not.
    pub async fn stop(&self) {
        self.signal(libc::SIGTERM);
        for _ in 0..10 {
            if self.0.load(SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        let group = self.0.load(SeqCst);
        if group > 0 {
            // SAFETY: it touches no memory; the group is that of our child, which is not reaped yet.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Which one.
    pub program: Program,
    /// Its exit status.
    pub status: ExitStatus,
    /// What it said.
    pub said: Said,
}

impl Ended {
    /// Why it failed; `None` if it did not.
    ///
    /// In: `cannot` such as `cannot dump records`.
    pub fn failure(&self, cannot: &str) -> Option<Failure> {
        let program = self.program;
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => None,
            (Some(code), _) => Some(self.said.failure(cannot).unwrap_or_else(|| {
                Failure::new(Kind::Unclassified, format!("{cannot}: {program} exited with {code}"))
            })),
            (None, signal) => Some(
                Failure::temporary(format!(
                    "{cannot}: {program} was ended by signal {}",
                    signal.unwrap_or(0)
                ))
                .hint("Somebody or the system (out of memory?) has killed it; the kernel's log may say."),
            ),
        }
    }
}

/// The pipe between a program and us takes so much, if the system lets it.
const PIPE: i32 = 1 << 20;

/// Makes a program's output a file that blocks when it is read, with a wide pipe before it.
///
/// # Errors
/// When the system refuses.
pub fn blocking(stdout: ChildStdout) -> io::Result<std::fs::File> {
    let pipe = stdout.into_owned_fd()?;
    // SAFETY: the descriptor is open; a refusal changes nothing.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
    Ok(pipe.into())
}
