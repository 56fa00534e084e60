//! Runs the built binary as a scheduler would.
//!
//! In:    project files, connections, arguments.
//! Out:   exit status, standard output and error, the result object.
//! Holds: the environment is empty but for what the test gives; a run that hangs fails the test.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::account;
use super::database::Database;

/// Nothing in the tests takes longer than this.
const LONGEST: Duration = Duration::from_secs(300);

/// A project directory and the environment to run `sankofa` in.
#[derive(Debug)]
pub struct Sankofa {
    folder: Arc<TempDir>,
    environment: Vec<(String, String)>,
    is_lowered: bool,
}

impl Sankofa {
    /// An empty project.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("making a project folder");
        Sankofa { folder: Arc::new(folder), environment: Vec::new(), is_lowered: false }
    }

    /// Writes a project file, such as `sankofa.yaml` or `pipelines/hr.yaml`.
    #[must_use]
    pub fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.write(path, text);
        self
    }

    /// Writes or replaces a file of the project.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().expect("a file in the project")).expect("making a folder");
        fs::write(path, text).expect("writing a project file");
    }

    /// The text of a file of the project.
    pub fn read(&self, path: &str) -> String {
        let path = self.folder().join(path);
        fs::read_to_string(&path).unwrap_or_else(|why| panic!("cannot read {}: {why}", path.display()))
    }

    /// Sets `AIRFLOW_CONN_<ID>` to the database's connection.
    #[must_use]
    pub fn connection(self, id: &str, database: &Database) -> Self {
        self.connection_uri(id, &database.connection_uri())
    }

    /// Sets `AIRFLOW_CONN_<ID>`.
    #[must_use]
    pub fn connection_uri(self, id: &str, uri: &str) -> Self {
        self.env(&format!("AIRFLOW_CONN_{}", id.to_uppercase()), uri)
    }

    /// Sets a variable of the environment; a later value wins.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes a variable out of the environment again.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Lets it run without the powers of root: as the servers' account when root runs the tests.
    #[must_use]
    pub fn by_ordinary_user(mut self) -> Self {
        account::give_all(self.folder());
        self.is_lowered = true;
        self
    }

    /// The project directory, where it runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The environment it runs in, all of it.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs it to its end.
    pub async fn run<S: AsRef<str>>(&self, args: &[S]) -> Finished {
        self.spawn(args).wait().await
    }

    /// Starts it.
    pub fn spawn<S: AsRef<str>>(&self, args: &[S]) -> Running {
        self.start(env!("CARGO_BIN_EXE_sankofa"), args)
    }

    /// Starts another program in its place, as it would be.
    pub fn start<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Running {
        let args: Vec<String> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
        let mut command = std::process::Command::new(program);
        if self.is_lowered {
            account::lower(&mut command);
        }
        let mut command = Command::from(command);
        command.args(&args).current_dir(self.folder()).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A shell starts what runs in the background with SIGINT ignored; the tests may run there.
        // SAFETY: `signal` may be called between fork and exec.
        unsafe { command.pre_exec(default_interrupt) };
        let mut child = command.spawn().expect("starting the program");
        let stdout = collect(child.stdout.take().expect("its standard output"));
        let stderr = collect(child.stderr.take().expect("its standard error"));
        let peak = tokio::spawn(watch_memory(child.id().expect("a run that has just begun")));
        Running { args, child, stdout, stderr, peak, _folder: Arc::clone(&self.folder) }
    }
}

impl Default for Sankofa {
    fn default() -> Self {
        Self::new()
    }
}

/// One output of a run, growing until the task has seen its end.
#[derive(Debug)]
struct Output {
    so_far: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.so_far.lock().expect("unpoisoned")).into_owned()
    }

    async fn whole(self) -> String {
        let Output { so_far, task } = self;
        task.await.expect("reading what sankofa says");
        String::from_utf8_lossy(&so_far.lock().expect("unpoisoned")).into_owned()
    }
}

fn collect(mut from: impl AsyncRead + Unpin + Send + 'static) -> Output {
    let so_far = Arc::new(Mutex::new(Vec::new()));
    let here = Arc::clone(&so_far);
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            here.lock().expect("unpoisoned").extend_from_slice(&buffer[..count]);
        }
    });
    Output { so_far, task }
}

/// The most resident memory that process `pid` has had, in KiB, seen every 10 ms.
async fn watch_memory(pid: u32) -> u64 {
    let mut peak = 0;
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(line) = line else { break }; // it has ended, and nobody has waited for it yet
        peak = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peak
}

/// A run that has not ended yet; dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    args: Vec<String>,
    child: Child,
    stdout: Output,
    stderr: Output,
    peak: JoinHandle<u64>,
    _folder: Arc<TempDir>,
}

impl Running {
    /// Its process id.
    ///
    /// # Panics
    /// When it has ended and was waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a run that was not waited for")
    }

    /// Sends a signal, such as `libc::SIGTERM`; nothing happens when it has ended.
    pub fn signal(&self, signal: i32) {
        if let Some(pid) = self.child.id() {
            // SAFETY: kill touches no memory; the child is not reaped yet, so the id is its own.
            unsafe { libc::kill(pid as i32, signal) };
        }
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("asking for its status").is_none()
    }

    /// What it has logged so far.
    pub fn log_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// When it ends, or a minute passes, without saying so.
    pub async fn says(&mut self, text: &str) {
        let start = Instant::now();
        while !self.log_so_far().contains(text) {
            let has_ended = self.child.try_wait().expect("asking for its status").is_some();
            // What it said last may still be on its way through the pipe.
            let is_silent = has_ended && self.stderr.task.is_finished() && !self.log_so_far().contains(text);
            let is_late = start.elapsed() > Duration::from_secs(60);
            assert!(!is_silent && !is_late, "sankofa did not say {text:?}:\n{}", self.log_so_far());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits `delay`, then kills it (SIGKILL) if it is still there.
    pub async fn kill_after(self, delay: Duration) -> Finished {
        self.signal_after(delay, libc::SIGKILL).await
    }

    /// Waits `delay`, then sends `signal` and waits for the end.
    pub async fn signal_after(mut self, delay: Duration, signal: i32) -> Finished {
        if tokio::time::timeout(delay, self.child.wait()).await.is_err() {
            self.signal(signal);
        }
        self.wait().await
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than five minutes.
    pub async fn wait(mut self) -> Finished {
        let Ok(status) = tokio::time::timeout(LONGEST, self.child.wait()).await else {
            let _ = self.child.kill().await;
            let stderr = self.stderr.text();
            panic!("sankofa {} did not end in {LONGEST:?}; standard error:\n{stderr}", self.args.join(" "));
        };
        Finished {
            args: self.args,
            status: status.expect("waiting for sankofa"),
            stdout: self.stdout.whole().await,
            stderr: self.stderr.whole().await,
            peak_kib: self.peak.await.expect("watching its memory"),
        }
    }
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its arguments.
    pub args: Vec<String>,
    /// Exit status or signal.
    pub status: ExitStatus,
    /// Standard output: the result.
    pub stdout: String,
    /// Standard error: the log.
    pub stderr: String,
    /// The most resident memory it had, seen every 10 ms; 0 when it ended before it was seen.
    pub peak_kib: u64,
}

impl Finished {
    /// The exit status; None when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The result object on standard output.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|why| panic!("no result object: {why}\n{}", self.told()))
    }

    /// Itself, when it ended with `code`; else panics with what it said.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{}", self.told());
        self
    }

    /// Itself, when it ended 0; else panics with what it said.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.exits(0)
    }

    /// Command, status and output, to be read by a person.
    pub fn told(&self) -> String {
        let Finished { args, status, stdout, stderr, .. } = self;
        format!("sankofa {}: {status}\n-- stdout --\n{stdout}\n-- stderr --\n{stderr}", args.join(" "))
    }
}

fn default_interrupt() -> std::io::Result<()> {
    // SAFETY: no handler is given.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Sankofa::new().env("GIVEN", "yes").start("/bin/sh", &["-c", script])
    }

    #[tokio::test]
    async fn status_output_and_environment_are_told_apart() {
        let ended = shell("echo $GIVEN; echo ${HOME:-none} >&2; exit 65").wait().await.exits(65);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("yes\n", "none\n"));
    }

    #[tokio::test]
    async fn a_run_is_signalled_once_it_has_said_something() {
        let mut running = shell("trap 'exit 143' TERM; echo extracted >&2; while :; do sleep 0.01; done");
        running.says("extracted").await;
        running.signal(libc::SIGTERM);
        let ended = running.wait().await.exits(143);
        assert!((100..100_000).contains(&ended.peak_kib), "{}", ended.peak_kib);
    }

    #[tokio::test]
    async fn a_killed_run_has_no_exit_code_and_one_that_ended_is_not_killed() {
        let slow = shell("exec sleep 60").kill_after(Duration::from_millis(20)).await;
        assert_eq!(slow.code(), None, "{}", slow.told());
        shell("exit 0").kill_after(Duration::from_secs(60)).await.succeeds();
    }

    #[tokio::test]
    #[should_panic(expected = "did not say")]
    async fn waiting_for_words_of_a_run_that_ended_without_them_fails() {
        shell("echo other >&2").says("extracted").await;
    }
}
