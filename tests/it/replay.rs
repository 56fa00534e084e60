//! The three real databases, day by day, with the process killed along the way.
//!
//! In:    `shared/data`; `SANKOFA_SEED` (printed); `SANKOFA_SOAK=1` for at least 200 kills.
//! Holds: after each day every warehouse table equals the source, row by row, as text.
//! Not here: cuts of the network (`faults`), signals that can be caught (`signals`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio_postgres::Client;

use crate::pair::*;
use crate::support::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const SOFT: &str = "deletes: {mode: soft, every: 0s}";
const STEPS: [&str; 4] = ["sync", "extract", "validate", "load"];

/// A table of a pipeline: source name, target, what the pipeline says, its masked column.
type Table = (&'static str, &'static str, &'static str, Option<&'static str>);

/// dept_emp and salary begin before their employee is hired: the row comes with an old stamp, so
/// these are read by xmin or with a lookback.
const HR: &[Table] = &[
    ("department", "department", "mode: full_refresh", None),
    (
        "employee",
        "employee",
        "mode: incremental, replication_key: updated_at, mask: {first_name: hmac}, columns: {exclude: [full_name]}",
        Some("first_name"),
    ),
    ("dept_emp", "dept_emp", "mode: incremental, replication_key: xmin", None),
    ("title", "title", "mode: incremental, replication_key: xmin", None),
];

/// An enrolment is withdrawn by deleting it.
const RECORDS: &[Table] = &[
    ("\"Course\"", "\"Course\"", "mode: full_refresh", None),
    ("student", "student", "mode: incremental, replication_key: xmin", None),
    ("enrolment", "enrolment", "mode: incremental, replication_key: updated_at, SOFT", None),
    ("submission", "submission", "mode: append, replication_key: submission_id", None),
    ("vle_site", "vle_site", "mode: full_refresh", None),
];

/// An incident's resolved_at is filled in without a new stamp, so it is read by xmin.
const SERVICE_DESK: &[Table] = &[
    (
        "incident",
        "incident",
        "mode: incremental, replication_key: xmin, mask: {caller: hmac}",
        Some("caller"),
    ),
    ("incident_event", "incident_event", "mode: append, replication_key: event_id", None),
];

struct Replay {
    source: Database,
    warehouse: Database,
    sankofa: Sankofa,
    which: Real,
    tables: &'static [Table],
    kills: BTreeMap<String, usize>,
    dice: Dice,
    longest: BTreeMap<&'static str, u64>,
    /// Keys of each soft-deleting table that the source was seen to hold on some day.
    ever: BTreeMap<&'static str, BTreeSet<String>>,
    watched: [Client; 2],
}

/// A small generator: the same seed, the same kills.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

impl Replay {
    async fn new(which: Real, tables: &'static [Table], seed: u64) -> Option<Replay> {
        let server = Server::major(17);
        let source = server.real_database(which).await?;
        let warehouse = server.fresh_database("replay_wh").await;
        let lines: String = tables
            .iter()
            .map(|(name, _, how, _)| format!("  'public.{}': {{{}}}\n", name, how.replace("SOFT", SOFT)))
            .collect();
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", PROJECT)
            .file("pipelines/p.yaml", format!("source: src\nschema: w\ntables:\n{lines}"))
            .connection("src", &source)
            .connection("wh", &warehouse)
            .env("AIRFLOW_VAR_HMAC_KEY", KEY);
        let watched = [source.connect().await, warehouse.connect().await];
        let (kills, longest, ever) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let dice = Dice(seed);
        Some(Replay { source, warehouse, sankofa, which, tables, kills, dice, longest, ever, watched })
    }

    /// One step under an id, killed `kills` times at random points, then run to its end.
    async fn step(&mut self, step: &'static str, id: &str, kills: usize) {
        let args = [step, "p", "--run", id];
        for _ in 0..kills {
            let running = self.sankofa.spawn(&args);
            let phase = self.moment(step).await;
            running.signal(libc::SIGKILL);
            if running.wait().await.code().is_none() {
                *self.kills.entry(format!("{step}, {phase}")).or_default() += 1;
            }
        }
        let begun = Instant::now();
        loop {
            let clean = Instant::now();
            let done = self.sankofa.run(&args).await;
            if done.code() != Some(75) || begun.elapsed() > Duration::from_secs(20) {
                let done = done.succeeds();
                if done.json()["status"] != "already_done" {
                    self.longest.insert(step, clean.elapsed().as_millis() as u64);
                }
                return;
            }
        }
    }

    /// Waits for a random moment, every other time one within a random phase; says what it was in.
    async fn moment(&mut self, step: &str) -> &'static str {
        let longest = self.longest.get(step).copied().unwrap_or(1500);
        let phases = phases(step);
        let wanted = self.dice.below(2 * phases.len() as u64) as usize;
        let Some(wanted) = phases.get(wanted) else {
            tokio::time::sleep(Duration::from_micros(self.dice.below(longest * 1000))).await;
            return phase(&self.watched).await;
        };
        let begun = Instant::now();
        while phase(&self.watched).await != *wanted && begun.elapsed() < Duration::from_millis(2 * longest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(self.dice.below(20_000))).await;
        phase(&self.watched).await
    }

    async fn day(&mut self, day: usize, kills: usize) {
        let unit = if self.which == Real::ServiceDesk { "12 hours" } else { "1 day" };
        let moment =
            format!("SELECT ('{}'::timestamptz + {day} * interval '{unit}')::text", self.which.first_day());
        let moment = self.source.value(&moment).await;
        self.source.advance_to(moment.split('+').next().unwrap()).await;
        let id = format!("day/{day}");
        let steps: &[&'static str] = if day.is_multiple_of(2) { &STEPS[..1] } else { &STEPS[1..] };
        for step in steps {
            self.step(step, &id, if day == 0 { 0 } else { kills }).await;
        }
        for table in self.tables {
            self.compare(table, day).await;
            self.account(table, day).await;
        }
        let runs = format!("SELECT count(*), min(status) FROM sankofa.run WHERE run_id = '{id}'");
        assert_eq!(lines(&self.warehouse, &runs).await, "1|published");
    }

    async fn compare(&self, (name, target, _, mask): &Table, day: usize) {
        let masked = mask.unwrap_or("");
        let columns = format!(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('full_name', '{masked}')"
        );
        let columns = self.source.value(&columns).await;
        let mask = mask.map_or("NULL::text".to_owned(), |column| format!("{column}::text"));
        let rows = |from: &str, live: &str| {
            format!(
                "SELECT r::text, m FROM (SELECT ({columns})::text AS r, {mask} AS m FROM {from} {live}) q ORDER BY 1, 2"
            )
        };
        let columns_live = format!(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'w.{target}'::regclass AND attname = '_sankofa_deleted_at'"
        );
        let has_mark = self.warehouse.value(&columns_live).await == "1";
        let live = if has_mark { "WHERE _sankofa_deleted_at IS NULL" } else { "" };
        let mut ours = self.warehouse.query_text(&rows(&format!("w.{target}"), live)).await;
        let mut theirs = self.source.query_text(&rows(name, "")).await;
        for row in theirs.iter_mut().filter(|_| !masked.is_empty()) {
            row[1] = row[1].take().map(|plain| hashed(&plain));
        }
        ours.sort();
        theirs.sort();
        let differing = ours.iter().zip(&theirs).find(|(our, their)| our != their);
        assert_eq!(ours.len(), theirs.len(), "{} {name} on day {day}: {differing:?}", self.which.name());
        assert!(differing.is_none(), "{} {name} on day {day}: {differing:?}", self.which.name());
    }

    /// Every key that the source once held and holds no more is there, marked; no other is.
    async fn account(&mut self, (name, target, how, _): &Table, day: usize) {
        if !how.contains("SOFT") {
            return;
        }
        let key = format!(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute a JOIN pg_index i
             ON i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey) WHERE indisprimary AND indrelid = '{name}'::regclass"
        );
        let key = self.source.value(&key).await;
        let now = keys(&self.source, &format!("SELECT ({key})::text FROM {name}")).await;
        let marked = format!("SELECT ({key})::text FROM w.{target} WHERE _sankofa_deleted_at IS NOT NULL");
        let marked = keys(&self.warehouse, &marked).await;
        let ever = self.ever.entry(name).or_default();
        ever.extend(now.iter().cloned());
        let gone: BTreeSet<String> = ever.difference(&now).cloned().collect();
        assert_eq!(marked.len(), gone.len(), "{name} on day {day}: soft-deleted");
        assert!(marked == gone, "{name} on day {day}: soft-deleted");
        if day.is_multiple_of(7) {
            eprintln!("{name}, day {day}: {} of {} keys are soft-deleted", gone.len(), ever.len());
        }
    }
}

async fn keys(database: &Database, sql: &str) -> BTreeSet<String> {
    database.query_text(sql).await.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

fn hashed(plain: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("a key of any length");
    mac.update(plain.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The phases that a step goes through with sessions open.
fn phases(step: &str) -> &'static [&'static str] {
    match step {
        "sync" => &["preparing", "reading", "staging", "publishing"],
        "extract" => &["preparing", "reading"],
        "validate" => &["preparing"],
        _ => &["preparing", "staging", "publishing"],
    }
}

/// What the sessions of a run are doing: told by the locks that they hold.
async fn phase(watched: &[Client; 2]) -> &'static str {
    let asked = "SELECT count(*) > 0,
            coalesce(bool_or(a.query LIKE 'COPY%TO STDOUT%'), false),
            coalesce(bool_or(n.nspname = 'sankofa_stage'), false),
            coalesce(bool_or(n.nspname = 'w' AND l.mode IN ('ShareRowExclusiveLock', 'RowExclusiveLock')
                OR c.relname = 'table_state' AND l.mode = 'RowShareLock'), false)
        FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation'
        LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.application_name LIKE 'sankofa/%' AND a.datname = current_database()";
    let [source, warehouse] = watched;
    let from = source.query_one(asked, &[]).await.expect("asking the source");
    let to = warehouse.query_one(asked, &[]).await.expect("asking the warehouse");
    match () {
        () if to.get(3) => "publishing",
        () if to.get(2) => "staging",
        () if from.get(1) => "reading",
        () if from.get(0) || to.get(0) => "preparing",
        () => "without a session",
    }
}

async fn replay(
    which: Real,
    tables: &'static [Table],
    seed: u64,
    sizes: (usize, usize),
) -> BTreeMap<String, usize> {
    let Some(mut replay) = Replay::new(which, tables, seed).await else { return BTreeMap::new() };
    let (days, kills) = sizes;
    let begun = Instant::now();
    for day in 0..=days {
        replay.day(day, kills).await;
    }
    eprintln!("{}: {days} days in {:?}: {:?}", which.name(), begun.elapsed(), replay.kills);
    replay.kills
}

#[tokio::test]
async fn real_days_arrive_row_by_row_however_often_the_process_is_killed() {
    let is_soak = std::env::var("SANKOFA_SOAK").is_ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let seed = std::env::var("SANKOFA_SEED").map_or(now, |text| text.parse().expect("a number"));
    eprintln!("SANKOFA_SEED={seed}");
    let (sizes, mut all) = (if is_soak { (24, 3) } else { (7, 1) }, BTreeMap::<String, usize>::new());
    for round in 0..10 {
        let seed = (seed + round) | 1;
        // Three of everything at once: two cores are never idle.
        let (hr, records, desk) = tokio::join!(
            replay(Real::Hr, HR, seed, sizes),
            replay(Real::Records, RECORDS, seed << 1 | 1, sizes),
            replay(Real::ServiceDesk, SERVICE_DESK, seed << 2 | 1, sizes),
        );
        for (what, count) in hr.into_iter().chain(records).chain(desk) {
            *all.entry(what).or_default() += count;
        }
        let total: usize = all.values().sum();
        eprintln!("{total} kills: {all:#?}");
        if !is_soak || total == 0 || total >= 200 && hit(&all).iter().all(|(_, count)| *count >= 10) {
            return;
        }
    }
    panic!("too few kills: {:?}", hit(&all));
}

/// How often each phase of each step was hit.
fn hit(all: &BTreeMap<String, usize>) -> Vec<(String, usize)> {
    let every =
        STEPS.iter().flat_map(|step| phases(step).iter().map(move |phase| format!("{step}, {phase}")));
    every.map(|what| (what.clone(), all.get(&what).copied().unwrap_or(0))).collect()
}
