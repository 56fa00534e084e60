//! How far a long command is: bars on a terminal, a line every ten seconds in a log.
//!
//! In:    rows and bytes as they pass, from any thread.
//! Out:   bars or log lines.
//! Holds: [`TableProgress::add`] is two atomic additions: it is called for every 64 KiB.
//! Not here: the figures of the result (`report`).

use crate::report::size;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::info;

/// How often a log gets a line.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How often bars are drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Where progress is shown.
#[derive(Clone, Debug)]
pub enum Shown {
    /// As bars on this terminal.
    Bars(MultiProgress),
    /// As log lines.
    Lines,
}

/// The progress of one command; dropped, it is over.
pub struct Progress {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

/// The progress of one table; clones count together.
#[derive(Clone, Debug)]
pub struct TableProgress(Arc<Counter>);

struct Shared {
    what: String,
    shown: Shown,
    started: Instant,
    tables: Mutex<Vec<Arc<Counter>>>,
    expected_tables: AtomicU64,
    over: (Mutex<bool>, Condvar),
}

#[derive(Debug)]
struct Counter {
    rows: AtomicU64,
    bytes: AtomicU64,
    done: AtomicBool,
    bar: Option<ProgressBar>,
    /// The bar's length is in bytes, not in rows.
    by_bytes: bool,
}

/// The sums of all tables at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    tables: u64,
    tables_done: u64,
    rows: u64,
    bytes: u64,
}

impl Progress {
    /// Starts showing how far `what` is, such as `extracting hr`.
    pub fn start(what: impl Into<String>, shown: &Shown) -> Self {
        let every = if matches!(shown, Shown::Bars(_)) { DRAW_EVERY } else { LOG_EVERY };
        Self::start_every(every, what.into(), shown.clone())
    }

    fn start_every(every: Duration, what: String, shown: Shown) -> Self {
        let shared = Arc::new(Shared {
            what,
            shown,
            started: Instant::now(),
            tables: Mutex::default(),
            expected_tables: AtomicU64::new(0),
            over: (Mutex::new(false), Condvar::new()),
        });
        let ticking = shared.clone();
        let ticker = std::thread::Builder::new().name("progress".into()).spawn(move || ticking.tick(every));
        Progress { shared, ticker: ticker.ok() }
    }

    /// Says how many tables there will be, so that a log line reads `3 of 12`.
    pub fn expect_tables(&self, tables: usize) {
        self.shared.expected_tables.store(tables as u64, Relaxed);
    }

    /// Starts counting for one table, of about `expected` rows if that is known.
    pub fn table(&self, name: &str, expected: Option<u64>) -> TableProgress {
        self.count(|| bar(name, expected), false)
    }

    /// Starts counting the bytes of something that has no rows yet, about `expected` of them.
    pub fn stream(&self, name: &str, expected: u64) -> TableProgress {
        self.count(|| byte_bar(name, expected), true)
    }

    fn count(&self, bar: impl FnOnce() -> ProgressBar, by_bytes: bool) -> TableProgress {
        let bar = match &self.shared.shown {
            Shown::Bars(bars) => Some(bars.add(bar())),
            Shown::Lines => None,
        };
        let (rows, bytes, done) = Default::default();
        let counter = Arc::new(Counter { rows, bytes, done, bar, by_bytes });
        self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner).push(counter.clone());
        TableProgress(counter)
    }
}

impl TableProgress {
    /// Counts what has passed.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.0.rows.fetch_add(rows, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    /// The table is through; its bar goes away.
    pub fn done(&self) {
        self.0.done.store(true, Relaxed);
        if let Some(bar) = &self.0.bar {
            bar.finish_and_clear();
        }
    }
}

impl Shared {
    /// Shows the totals every `every`, until it is over.
    fn tick(&self, every: Duration) {
        let (over, rung) = &self.over;
        let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            let waited = rung.wait_timeout(over, every).unwrap_or_else(PoisonError::into_inner);
            over = waited.0;
            if !*over && waited.1.timed_out() {
                self.show();
            }
        }
    }

    fn show(&self) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shown {
            Shown::Bars(_) => tables.iter().for_each(|table| table.draw()),
            Shown::Lines => self.log(&totals(&tables)),
        }
    }

    fn log(&self, totals: &Totals) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        info!(
            tables_done = totals.tables_done,
            tables = totals.tables.max(self.expected_tables.load(Relaxed)),
            rows = totals.rows,
            bytes = totals.bytes,
            rows_per_s = (totals.rows as f64 / seconds) as u64,
            bytes_per_s = (totals.bytes as f64 / seconds) as u64,
            elapsed_s = seconds as u64,
            "{}",
            self.what
        );
    }
}

impl Counter {
    fn draw(&self) {
        if let (Some(bar), false) = (&self.bar, self.done.load(Relaxed)) {
            let (rows, bytes) = (self.rows.load(Relaxed), self.bytes.load(Relaxed));
            let rate = (bytes as f64 / bar.elapsed().as_secs_f64().max(0.001)) as u64;
            bar.set_message(format!("{} ({}/s)", size(bytes), size(rate)));
            bar.set_position(if self.by_bytes { bytes } else { rows });
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.shared.over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.over.1.notify_all();
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
        for table in self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            table.bar.iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}

fn totals(tables: &[Arc<Counter>]) -> Totals {
    let mut totals = Totals::default();
    for table in tables {
        totals.tables += 1;
        totals.tables_done += u64::from(table.done.load(Relaxed));
        totals.rows += table.rows.load(Relaxed);
        totals.bytes += table.bytes.load(Relaxed);
    }
    totals
}

/// A bar in bytes; what passes may be more than what was expected.
fn byte_bar(name: &str, expected: u64) -> ProgressBar {
    let template = "{prefix:30!} [{bar:24}] {msg} of a database of {binary_total_bytes}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(expected).with_style(style.progress_chars("=> ")).with_prefix(name.to_owned())
}

/// A bar where the number of rows is known, a spinner where it is not.
fn bar(name: &str, expected: Option<u64>) -> ProgressBar {
    let (bar, template) = match expected {
        Some(rows) => {
            (ProgressBar::new(rows), "{prefix:30!} [{bar:24}] {human_pos} of about {human_len} rows, {msg}")
        }
        None => (ProgressBar::new_spinner(), "{prefix:30!} {spinner} {human_pos} rows, {msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("=> ")).with_prefix(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;

    #[test]
    fn what_several_threads_add_is_summed() {
        let progress = Progress::start("extracting hr", &Shown::Lines);
        let (one, two) = (progress.table("a", Some(10)), progress.table("b", None));
        std::thread::scope(|scope| {
            for table in [one.clone(), one.clone(), two.clone()] {
                scope.spawn(move || (0..1000).for_each(|_| table.add(2, 64)));
            }
        });
        one.done();
        let sums = totals(&progress.shared.tables.lock().unwrap());
        assert_eq!(sums, Totals { tables: 2, tables_done: 1, rows: 6000, bytes: 192_000 });
    }

    #[test]
    fn it_ends_at_once_although_the_next_line_is_ten_seconds_away() {
        let start = Instant::now();
        drop(Progress::start("extracting hr", &Shown::Lines));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[test]
    fn bars_follow_the_counts() {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let progress = Progress::start_every(Duration::from_millis(5), "x".into(), Shown::Bars(bars));
        let table = progress.table("a", Some(10));
        table.add(4, 100);
        std::thread::sleep(Duration::from_millis(200));
        let bar = table.0.bar.clone().unwrap();
        assert_eq!(bar.position(), 4);
        assert!(bar.message().starts_with("100 B ("), "{}", bar.message());
        drop(progress);
        assert!(bar.is_finished());
    }
}
