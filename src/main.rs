//! Parses, runs, prints the result or the error, and exits.
//!
//! In:    a command line and an environment.
//! Out:   an exit status, a result, log lines.
//! Holds: the result is delivered once on every end that the process lives to see; after a signal it is
//!        gone within four seconds, whatever does not answer.

use anyhow::Context as _;
use indicatif::{MultiProgress, ProgressDrawTarget};
use sankofa::cmd::help::Asked;
use sankofa::cmd::result::Outlet;
use sankofa::cmd::{Cli, Context, arguments::Global, help};
use sankofa::error::{Checked, Failure, classify};
use sankofa::harden::{self, Zeroing};
use sankofa::logging::{self, Format};
use sankofa::process::{self, Signals};
use sankofa::progress::Shown;
use sankofa::report::{ErrorFields, Report, plain};
use sankofa::stop::{Reason, StopSignal};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// When the last resort acts, after a stop was asked for.
const LAST_RESORT: Duration = Duration::from_millis(3600);

/// How long the last resort gives the result to be delivered.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What is freed is overwritten.
#[global_allocator]
static MEMORY: Zeroing = Zeroing(std::alloc::System);

fn main() -> ExitCode {
    harden::forbid_dumps();
    let variables = variables();
    // SAFETY: this is the only thread.
    let ignored = unsafe { harden::drop_ambient() };
    let signals = Signals::hold();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default(); // fails only if there is one
    let ending = |command: &str| {
        let base = Report { command: command.to_owned(), ..Report::default() };
        Ending::new(Outlet::new(&variables, false), base, Format::Text)
    };
    match help::parse(std::env::args_os(), &variables) {
        Asked::Run(cli) => run(*cli, variables, signals, &ignored),
        Asked::Page(page) => {
            let ending = ending("help");
            ending.deliver(ending.base.clone().verbatim(page))
        }
        Asked::Refused { command, failure, page: None } => ending(&command).end(Err(failure.into())),
        Asked::Refused { command, failure, page: Some(page) } => {
            let _ = std::io::stderr().write_all(page.as_bytes());
            let ending = ending(&command);
            ending.deliver(ending.base.clone().failed(&failure))
        }
    }
}

/// Variables of the process that are UTF-8.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The time in milliseconds, which every reader of results can parse.
fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now)
}

/// Runs one command to its end; says which variables were `ignored`.
fn run(cli: Cli, variables: BTreeMap<String, String>, signals: Signals, ignored: &[&str]) -> ExitCode {
    let outlet = Outlet::new(&variables, cli.global.json);
    outlet.forget_earlier();
    let format = match log_format(&cli.global, &variables) {
        Ok(format) => format,
        Err(failure) => {
            return Ending::new(outlet, cli.command.base(), Format::Text).end(Err(failure.into()));
        }
    };
    let shown = start_logging(&cli.global, format, variables.contains_key("NO_COLOR"));
    if !ignored.is_empty() {
        warn!(
            variables = ignored.join(","),
            "variables that could change or weaken a connection are ignored"
        );
    }
    let ending = Arc::new(Ending::new(outlet, cli.command.base(), format));
    let context = Context {
        project_dir: cli.global.project,
        environment: cli.global.env,
        variables,
        json: cli.global.json,
        stop: ending.stop.clone(),
        opened: Default::default(),
        shown,
        base: ending.base.clone(),
        class: cli.command.class(),
    };
    let done = ending.watch(signals, cli.command.deadline()).and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let done = runtime.block_on(ending.stop.race(cli.command.run(&context)));
        runtime.shutdown_background(); // nothing that still blocks a thread keeps the process
        done
    });
    ending.end(done)
}

/// How log lines look: as the flag says, else as the environment does.
fn log_format(global: &Global, variables: &BTreeMap<String, String>) -> Result<Format, Failure> {
    match (global.log_format, variables.get("SANKOFA_LOG_FORMAT").map(String::as_str)) {
        (Some(format), _) => Ok(format),
        (None, None | Some("" | "text")) => Ok(Format::Text),
        (None, Some("json")) => Ok(Format::Json),
        (None, Some(_)) => {
            let failure =
                Failure::usage("cannot log as SANKOFA_LOG_FORMAT says: it is neither text nor json");
            Err(failure.hint("Set it to `text` or `json`, or leave it out."))
        }
    }
}

/// Starts logging; returns where progress is shown.
fn start_logging(global: &Global, format: Format, no_colour: bool) -> Shown {
    let terminal = std::io::stderr().is_terminal();
    let bars = terminal && !global.quiet && format == Format::Text;
    let target = if bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let drawn = MultiProgress::with_draw_target(target);
    logging::start(format, logging::level(global.quiet, global.verbose), terminal && !no_colour, &drawn);
    if bars { Shown::Bars(drawn) } else { Shown::Lines }
}

/// The end of the process, which several threads may bring about.
struct Ending {
    outlet: Outlet,
    base: Report,
    format: Format,
    stop: StopSignal,
    started: Instant,
}

impl Ending {
    fn new(outlet: Outlet, base: Report, format: Format) -> Self {
        let base = Report { started_at: now(), ..base };
        Ending { outlet, base, format, stop: StopSignal::new(), started: Instant::now() }
    }

    /// From here on signals, panics and the deadline ask for a stop.
    fn watch(self: &Arc<Self>, signals: Signals, deadline: Option<Duration>) -> anyhow::Result<()> {
        let ending = self.clone();
        process::watch_panics(move |reason| _ = ending.ask(reason));
        let ending = self.clone();
        let seen = move |reason: Reason| {
            if !ending.ask(reason.clone()) {
                ending.leave_now(&ending.stop.reason().unwrap_or(reason));
            }
        };
        signals.watch(seen).context("cannot wait for signals")?;
        if let Some(deadline) = deadline {
            let ending = self.clone();
            thread::Builder::new().name("deadline".into()).spawn(move || {
                thread::sleep(deadline);
                ending.ask(Reason::Deadline(deadline));
            })?;
        }
        Ok(())
    }

    /// Asks for a stop and starts the last resort; false if a stop was asked for before.
    fn ask(self: &Arc<Self>, reason: Reason) -> bool {
        let first = self.stop.request(reason.clone());
        if first {
            let panicked = matches!(reason, Reason::Panicked(_));
            let ending = self.clone();
            let last_resort = move || {
                thread::sleep(LAST_RESORT);
                ending.leave_now(&reason);
            };
            let _ = thread::Builder::new().name("last resort".into()).spawn(last_resort);
            if !panicked {
                warn!("asked to stop; cancelling what runs"); // not in a panic: a lock of the log may be held
            }
        }
        first
    }

    /// Delivers the result as far as that is quick, and is gone.
    fn leave_now(self: &Arc<Self>, reason: &Reason) -> ! {
        let failure = reason.failure();
        let (done, waiting) = mpsc::channel();
        let ending = self.clone();
        let code = i32::from(failure.kind.exit_code());
        let _ = thread::Builder::new().name("last words".into()).spawn(move || {
            ending.end(Err(failure.into()));
            let _ = done.send(());
        });
        let _ = waiting.recv_timeout(LAST_WORDS);
        // SAFETY: always; it runs nothing that could wait, neither destructors nor atexit.
        unsafe { libc::_exit(code) }
    }

    /// Says the error, if there is one, and delivers the result.
    fn end(&self, done: anyhow::Result<Report>) -> ExitCode {
        let report = done.unwrap_or_else(|error| self.base.clone().failed(&classify(&error)));
        if let Some(error) = &report.error {
            self.say(error, &report.missed);
        }
        self.deliver(report)
    }

    fn deliver(&self, mut report: Report) -> ExitCode {
        report.duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let code = report.exit_code();
        match self.outlet.deliver(&report) {
            Ok(()) => ExitCode::from(code),
            Err(failure) => {
                self.say(&ErrorFields::from(&failure), &[]);
                ExitCode::from(if code == 0 { failure.kind.exit_code() } else { code })
            }
        }
    }

    /// Tells of `error` on stderr, as log lines look, and of the checks that led to it.
    fn say(&self, error: &ErrorFields, missed: &[Checked]) {
        match self.format {
            Format::Text => drop(std::io::stderr().write_all(said(error, missed).as_bytes())),
            Format::Json => {
                for one in missed {
                    let (table, check, details) = (&one.table, &one.check, one.details());
                    error!(table, check, measured = one.measured, bound = one.bound, details, "check missed");
                }
                error!(
                    code = error.code,
                    exit = error.exit,
                    hint = error.hint,
                    page = error.page,
                    "{}",
                    error.message
                )
            }
        }
    }
}

/// The lines that tell a person of `error`.
fn said(error: &ErrorFields, missed: &[Checked]) -> String {
    let mut lines = format!("error: {}\n", plain(&error.message));
    for one in missed {
        lines.push_str(&format!(
            "       {}: {}: {}\n",
            plain(&one.table),
            plain(&one.check),
            plain(&one.details())
        ));
    }
    if let Some(hint) = &error.hint {
        lines.push_str(&format!("hint:  {}\n", plain(hint)));
    }
    if !error.page.is_empty() {
        lines.push_str(&format!("page:  {}, or `sankofa man {}`\n", plain(&error.page), error.exit));
    }
    lines
}
