//! The three real databases, day by day, with the process killed along the way.
//!
//! In:    `shared/data`; `SANKOFA_SEED` (printed). At least 200 kills, each phase of each step at
//!        least 10 times: a phase is known by its messages, the network stands still at one of them,
//!        and the process is killed there. `SANKOFA_SOAK=1`: three times the days.
//! Holds: after each day every warehouse table equals the source, row by row, as text.
//! Not here: cuts of the network (`faults`), signals that can be caught (`signals`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::pair::*;
use crate::support::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const SOFT: &str = "deletes: {mode: soft, every: 0s}";
/// Kills of each phase of a step.
const KILLS: usize = 3;

/// A table of a pipeline: source name, target, what the pipeline says, its masked column.
type Table = (&'static str, &'static str, &'static str, Option<&'static str>);

/// dept_emp and salary begin before their employee is hired: the row comes with an old stamp, so
/// these are read by xmin or with a lookback.
const HR: &[Table] = &[
    ("department", "department", "mode: full_refresh, checks: {unique: [dept_name]}", None),
    (
        "employee",
        "employee",
        "mode: incremental, replication_key: updated_at, mask: {first_name: hmac}, columns: {exclude: [full_name]}",
        Some("first_name"),
    ),
    ("dept_emp", "dept_emp", "mode: incremental, replication_key: xmin", None),
    ("dept_manager", "dept_manager", "mode: full_refresh", None),
    ("title", "title", "mode: incremental, replication_key: xmin", None),
    ("salary", "salary", "mode: incremental, replication_key: updated_at, lookback: 5000d", None),
];

/// An enrolment is withdrawn by deleting it.
const RECORDS: &[Table] = &[
    ("\"Course\"", "\"Course\"", "mode: full_refresh", None),
    ("student", "student", "mode: incremental, replication_key: xmin", None),
    ("enrolment", "enrolment", "mode: incremental, replication_key: updated_at, SOFT", None),
    ("exam", "exam", "mode: full_refresh", None),
    ("submission", "submission", "mode: append, replication_key: submission_id", None),
    ("vle_site", "vle_site", "mode: full_refresh", None),
];

/// An incident's resolved_at is filled in without a new stamp, so it is read by xmin.
const SERVICE_DESK: &[Table] = &[
    (
        "incident",
        "incident",
        "mode: incremental, replication_key: xmin, mask: {caller: hmac}, checks: {sql: {open: \"SELECT 1 FROM {table} WHERE state IS NULL\"}}",
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
    /// How often each phase of each step was hit.
    kills: BTreeMap<(&'static str, Phase), usize>,
    dice: Dice,
    /// Keys of each soft-deleting table that the source was seen to hold on some day.
    ever: BTreeMap<&'static str, BTreeSet<String>>,
    /// Before the source and before the warehouse: every run goes through these.
    network: [Proxy; 2],
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
        let network = [Proxy::to(server.port()), Proxy::to(server.port())];
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", PROJECT)
            .file("pipelines/p.yaml", format!("source: src\nschema: w\ntables:\n{lines}"))
            .connection_uri("src", &source.connection_uri_through(network[0].port()))
            .connection_uri("wh", &warehouse.connection_uri_through(network[1].port()))
            .env("AIRFLOW_VAR_HMAC_KEY", KEY);
        let (kills, ever, dice) = (BTreeMap::new(), BTreeMap::new(), Dice(seed));
        Some(Replay { source, warehouse, sankofa, which, tables, kills, dice, ever, network })
    }

    /// Runs a step to its end; the sessions of killed ones may hold it up a moment.
    async fn finish(&self, args: &[&str; 4]) {
        let begun = Instant::now();
        loop {
            let done = self.sankofa.run(args).await;
            if done.code() != Some(75) || begun.elapsed() > Duration::from_secs(20) {
                done.succeeds();
                return;
            }
        }
    }

    /// Runs until a random message of `phase`, lets nothing pass from there on, and kills; `false`
    /// when the run ended before it came to that message. Only the last may be one that has committed.
    async fn killed(&mut self, args: &[&str; 4], phase: Phase, is_last: bool) -> bool {
        let (side, rule) = phase.rule(args[0], is_last, &mut self.dice);
        let network = &self.network[side];
        network.forget();
        network.add(if self.dice.below(2) == 0 {
            rule.before(Deed::Freeze)
        } else {
            rule.after(Deed::Freeze)
        });
        let mut running = self.sankofa.spawn(args);
        while network.fired().is_empty() && running.is_alive() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let is_there = !network.fired().is_empty();
        running.signal(libc::SIGKILL);
        let is_killed = running.wait().await.code().is_none();
        network.cut();
        network.up();
        network.forget();
        is_there && is_killed
    }

    async fn day(&mut self, day: usize) {
        let unit = if self.which == Real::ServiceDesk { "12 hours" } else { "1 day" };
        let moment =
            format!("SELECT ('{}'::timestamptz + {day} * interval '{unit}')::text", self.which.first_day());
        let moment = self.source.value(&moment).await;
        self.source.advance_to(moment.split('+').next().unwrap()).await;
        let id = format!("day/{day}");
        for (step, phases) in steps(day) {
            let kills = if day == 0 { 0 } else { KILLS };
            for (phase, left) in
                phases.iter().flat_map(|phase| (0..kills).rev().map(move |left| (*phase, left)))
            {
                if self.killed(&[step, "p", "--run", &id], phase, left == 0).await {
                    *self.kills.entry((*step, phase)).or_default() += 1;
                }
            }
            self.finish(&[step, "p", "--run", &id]).await;
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

/// Where a run is, told by the messages between it and the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Asking both sides what there is, taking locks.
    Preparing,
    /// Rows leave the source.
    Reading,
    /// Rows go into staging.
    Staging,
    /// From the first merge to the answer of the commit.
    Publishing,
}

impl Phase {
    /// The proxy (0: source, 1: warehouse) and the message in this phase, one of several at random.
    fn rule(self, step: &str, is_last: bool, dice: &mut Dice) -> (usize, Rule) {
        use Direction::{FromClient, FromServer};
        let nth = |dice: &mut Dice, most: u64| 1 + dice.below(most) as usize;
        match self {
            Phase::Preparing => (
                usize::from(!matches!(step, "sync" | "extract")),
                Rule::on(FromServer, 'Z').nth(1 + nth(dice, 6)),
            ),
            Phase::Reading if dice.below(2) == 0 => (0, Rule::on(FromServer, 'H').nth(nth(dice, 2))),
            Phase::Reading => (0, Rule::on(FromServer, 'd').nth(nth(dice, 4))),
            Phase::Staging if dice.below(2) == 0 => (1, Rule::on(FromServer, 'G').nth(1)),
            Phase::Staging => (1, Rule::on(FromClient, 'd').nth(1)),
            Phase::Publishing => {
                let merging =
                    ["WITH written AS", "INSERT INTO sankofa.table_run", "SET status = 'published'"];
                match dice.below(if is_last { 4 } else { 3 }) {
                    3 => (1, Rule::on(FromClient, 'Q').containing("COMMIT")),
                    part => (1, Rule::on(FromClient, 'P').containing(merging[part as usize])),
                }
            }
        }
    }
}

type Step = (&'static str, &'static [Phase]);

/// The steps of a day, and in which phases each is killed.
fn steps(day: usize) -> &'static [Step] {
    use Phase::{Preparing, Publishing, Reading, Staging};
    const EXTRACT: Step = ("extract", &[Preparing, Reading]);
    match day % 4 {
        0 | 2 => &[("sync", &[Preparing, Reading, Staging, Publishing])],
        // What `validate` staged, `load` finds there; without it, `load` stages.
        1 => &[EXTRACT, ("validate", &[Preparing, Staging]), ("load", &[Preparing, Publishing])],
        _ => &[EXTRACT, ("load", &[Preparing, Staging, Publishing])],
    }
}

async fn replay(which: Real, tables: &'static [Table], seed: u64) -> BTreeMap<(&'static str, Phase), usize> {
    let Some(mut replay) = Replay::new(which, tables, seed).await else { return BTreeMap::new() };
    let begun = Instant::now();
    for day in 0..=rounds(7, 24) {
        replay.day(day).await;
    }
    eprintln!("{}: {:?}: {:?}", which.name(), begun.elapsed(), replay.kills);
    replay.kills
}

#[tokio::test]
async fn real_days_arrive_row_by_row_however_often_the_process_is_killed() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let seed = std::env::var("SANKOFA_SEED").map_or(now, |text| text.parse().expect("a number"));
    eprintln!("SANKOFA_SEED={seed}");
    // Three of everything at once: two cores are never idle.
    let (hr, records, desk) = tokio::join!(
        replay(Real::Hr, HR, seed | 1),
        replay(Real::Records, RECORDS, seed << 1 | 1),
        replay(Real::ServiceDesk, SERVICE_DESK, seed << 2 | 1),
    );
    let mut all = BTreeMap::new();
    for (what, count) in hr.into_iter().chain(records).chain(desk) {
        *all.entry(what).or_default() += count;
    }
    let total: usize = all.values().sum();
    eprintln!("{total} kills: {all:?}");
    let hit = |step, phase| all.get(&(step, phase)).copied().unwrap_or(0);
    let every =
        (1..4).flat_map(steps).flat_map(|(step, phases)| phases.iter().map(move |phase| (*step, *phase)));
    let seldom: Vec<_> = every.filter(|(step, phase)| hit(step, *phase) < 10).collect();
    assert!(total == 0 || total >= 200 && seldom.is_empty(), "{total} kills, too few of {seldom:?}: {all:?}");
}
