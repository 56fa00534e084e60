//! Which rows an incremental run reads, and how far the watermark may move: nothing is missed.
//!
//! In:    what was known when the last run was published, and [`Facts`] of this snapshot.
//! Out:   a [`Bound`] to read from; the next [`Watermark`].
//! Holds: pure. A watermark never passes a row that a transaction still open may commit.
//! Not here: how the facts are gathered, and in which order (`etl::source`).
//!
//! Units: a replication key is an `i64` as COPY binary has it: microseconds since 2000-01-01 for
//! timestamps, days since then for dates, the number itself for integers, a 64-bit id for `xmin`.
//!
//! Where the clock of a zone is set back, stamps without a zone come twice: a watermark in such an hour
//! says nothing of its second pass, so reading starts before the hour.

use crate::config::model::{Lookback, Span};
use jiff::civil::{self, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

/// What a replication key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// `timestamp with time zone`.
    Timestamptz,
    /// `timestamp` written in this zone.
    Timestamp { zone: String },
    /// `date` written in this zone.
    Date { zone: String },
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// The system column.
    Xmin,
}

/// The replication key of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationKey {
    /// Column, or `xmin`.
    pub name: String,
    /// What it is.
    pub kind: KeyKind,
    /// It may be NULL.
    pub nullable: bool,
    /// An index begins with it.
    pub indexed: bool,
    /// No two rows share a value.
    pub unique: bool,
}

/// What was known of the source between the clock and the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `clock_timestamp()`, read first.
    pub clock: i64,
    /// The oldest start of another transaction of this database, read second.
    pub oldest_start: Option<i64>,
    /// A prepared transaction is open.
    pub prepared: bool,
    /// The server is a standby: it cannot see the primary's sessions.
    pub standby: bool,
    /// The snapshot's xmin, 64-bit, read third.
    pub xmin: u64,
    /// The snapshot's xmax, 64-bit.
    pub xmax: u64,
    /// `pg_control_system().system_identifier`.
    pub system: i64,
    /// `pg_control_checkpoint().timeline_id`.
    pub timeline: i32,
}

/// One run's snapshot, kept until every transaction that it could not see has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The snapshot's xmax.
    pub xmax: u64,
    /// How far that run had read.
    pub read_to: Option<i64>,
}

/// How far a table has been read: what the ledger keeps for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The replication key's column, or `xmin`.
    pub key: String,
    /// What the key is.
    pub kind: KeyKind,
    /// Reading goes on from here; `None`: from the start.
    pub value: Option<i64>,
    /// The greatest value seen.
    pub high: Option<i64>,
    /// The clock of the run that set it.
    pub clock: i64,
    /// The source's identity.
    pub system: i64,
    /// The source's timeline.
    pub timeline: i32,
    /// The snapshot's xmax.
    pub xmax: u64,
    /// Earlier runs, newest last, back to the one that `value` is from.
    pub past: Vec<Past>,
}

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Every row, for the reason given.
    All(String),
    /// Rows whose key is not before this value; `after` excludes the value itself.
    From { value: i64, after: bool },
}

/// How many transactions a 32-bit `xmin` can be told apart over.
const XMIN_REACH: u64 = 1 << 31;

/// Where to start reading, given the watermark of the last published run; `lookback` is in the
/// key's unit.
pub fn bound(last: Option<&Watermark>, key: &ReplicationKey, facts: &Facts, lookback: u64) -> Bound {
    let Some(last) = last else { return Bound::All("first load".into()) };
    if !last.is_of(key) {
        return Bound::All(match last.key == key.name {
            true => format!("type or zone of the replication key {} has changed", key.name),
            false => format!("the replication key was {}", last.key),
        });
    }
    if let Some(why) = broken_line(last, &key.kind, facts) {
        return Bound::All(why);
    }
    match last.value {
        None if last.past.is_empty() => Bound::All("its watermark was reset".into()),
        None => Bound::All("no earlier run has read to where nothing can be missed".into()),
        Some(value) => Bound::From {
            value: value
                .saturating_sub(i64::try_from(lookback).unwrap_or(i64::MAX))
                .saturating_sub(repeated(value, &key.kind)),
            after: key.unique && lookback == 0 && key.kind == KeyKind::Integer,
        },
    }
}

/// By how much the clock of the key's zone is set back in an hour that it tells twice, where `value` is
/// in one, microseconds; 0 anywhere else. A zone that is not known here may do so at any time.
pub fn repeated(value: i64, kind: &KeyKind) -> i64 {
    const HOUR: i64 = 3_600_000_000;
    let KeyKind::Timestamp { zone } = kind else { return 0 };
    let Some(local) = moment(value) else { return 0 };
    let Ok(zone) = TimeZone::get(zone) else { return HOUR };
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Fold { before, after } => i64::from(before.seconds() - after.seconds()) * 1_000_000,
        _ => 0,
    }
}

/// Microseconds since 2000-01-01 as a day and a time of it; `None` beyond the calendar.
pub fn moment(micros: i64) -> Option<DateTime> {
    let span = jiff::Span::new().try_microseconds(micros).ok()?;
    civil::date(2000, 1, 1).at(0, 0, 0, 0).checked_add(span).ok()
}

/// A lookback in the unit of a key; `None`: it is in the other unit, and the table's own.
pub fn reach(lookback: Option<Lookback>, kind: &KeyKind) -> Option<u64> {
    let Some(lookback) = lookback else { return Some(0) };
    match (lookback.span, kind) {
        (Span::Time(span), KeyKind::Timestamptz | KeyKind::Timestamp { .. }) => {
            Some(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
        }
        (Span::Time(span), KeyKind::Date { .. }) => Some(span.as_secs().div_ceil(86_400)),
        (Span::Count(count), KeyKind::Integer | KeyKind::Xmin) => Some(count),
        _ => lookback.inherited.then_some(0),
    }
}

/// Why the last watermark says nothing about this server, if it does not.
fn broken_line(last: &Watermark, kind: &KeyKind, facts: &Facts) -> Option<String> {
    let by_clock = !matches!(kind, KeyKind::Integer | KeyKind::Xmin);
    if last.system != facts.system {
        return Some("the source is another server (system identifier)".into());
    }
    if by_clock {
        return (facts.clock < last.clock).then(|| "the source's clock went back".into());
    }
    if last.timeline != facts.timeline {
        return Some("the source was promoted since (timeline): transaction ids were used twice".into());
    }
    if facts.xmax < last.xmax {
        return Some("the source's transaction counter went back".into());
    }
    (*kind == KeyKind::Xmin && facts.xmax - last.xmax >= XMIN_REACH)
        .then(|| "more than 2^31 transactions since the last run".into())
}

/// The watermark to publish with the rows just read.
///
/// `high` is the greatest key among them; `cap` is what [`Facts::oldest_or_clock`] is in the key's
/// unit (not used for integers and `xmin`); `full` says that every row was read.
pub fn advance(last: Option<&Watermark>, key: &ReplicationKey, facts: &Facts, seen: Seen) -> Watermark {
    let last = last.filter(|last| last.is_of(key) && broken_line(last, &key.kind, facts).is_none());
    let mut past = last.map(|last| last.past.clone()).unwrap_or_default();
    let high = if seen.full { seen.high } else { seen.high.max(last.and_then(|last| last.high)) };
    if let Some(until) = seen.until {
        return reached(last, key, facts, (until, seen), past);
    }
    if seen.full {
        past.iter_mut().for_each(|run| run.read_to = run.read_to.min(high));
    }
    let read_to = match key.kind {
        KeyKind::Xmin => Some(signed(facts.xmin)),
        KeyKind::Integer => high,
        _ => high.min(Some(seen.cap)).or(high),
    };
    left(key, facts, (read_to, high), past)
}

/// The watermark of a run that has read every row before `until`: as if the greatest were just there.
fn reached(
    last: Option<&Watermark>,
    key: &ReplicationKey,
    facts: &Facts,
    (until, seen): (i64, Seen),
    mut past: Vec<Past>,
) -> Watermark {
    let end = match key.kind {
        KeyKind::Integer => until.saturating_sub(1), // the next run may begin after it
        _ => until.min(seen.cap),
    };
    // Before the watermark nothing was read: it stays.
    let read_to = Some(end).max(last.and_then(|last| last.value));
    if seen.full {
        past.iter_mut().for_each(|run| run.read_to = run.read_to.min(read_to));
    }
    let high = read_to.max(last.filter(|_| !seen.full).and_then(|last| last.high));
    left(key, facts, (read_to, high), past)
}

/// The watermark of a run that has read to `read_to` and seen nothing above `high`.
fn left(
    key: &ReplicationKey,
    facts: &Facts,
    (read_to, high): (Option<i64>, Option<i64>),
    mut past: Vec<Past>,
) -> Watermark {
    let by_history = matches!(key.kind, KeyKind::Integer) || facts.prepared || facts.standby;
    let value = match key.kind {
        KeyKind::Xmin => read_to,
        _ if by_history => settled(&mut past, facts),
        _ => read_to,
    };
    if !by_history {
        past.clear();
    }
    past.push(Past { xmax: facts.xmax, read_to });
    Watermark {
        key: key.name.clone(),
        kind: key.kind.clone(),
        value,
        high,
        clock: facts.clock,
        system: facts.system,
        timeline: facts.timeline,
        xmax: facts.xmax,
        past,
    }
}

impl Watermark {
    /// The same, put by hand to `value`; `None`: to the start, so that every row is read.
    #[must_use]
    pub fn put_to(&self, value: Option<i64>) -> Self {
        // xmax 0: whoever names the point answers for what was open then.
        let past = value.map(|_| Past { xmax: 0, read_to: value });
        Watermark { value, high: value, past: past.into_iter().collect(), ..self.clone() }
    }

    fn is_of(&self, key: &ReplicationKey) -> bool {
        self.key == key.name && self.kind == key.kind
    }
}

/// What a run has seen of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// The greatest replication key among the rows read.
    pub high: Option<i64>,
    /// The earlier of clock and oldest open transaction, in the key's unit.
    pub cap: i64,
    /// Every row was read.
    pub full: bool,
    /// Only rows before this point were, in the key's unit.
    pub until: Option<i64>,
}

/// How far the newest earlier run has read all of whose unseen transactions have ended by now; older
/// runs are forgotten. A run's snapshot saw everything below its xmax that had ended; what had not is
/// at or above this snapshot's xmin as long as it is open. This run itself is never the one: a
/// transaction that has stamped a row, or taken a number, gets its id only when it writes.
fn settled(past: &mut Vec<Past>, facts: &Facts) -> Option<i64> {
    let newest = past.iter().rposition(|run| run.xmax <= facts.xmin);
    if let Some(newest) = newest {
        past.drain(..newest);
        return past[0].read_to;
    }
    None
}

fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

impl Facts {
    /// The earlier of the clock and the oldest open transaction, microseconds since 2000-01-01.
    pub fn oldest_or_clock(&self) -> i64 {
        self.oldest_start.map_or(self.clock, |start| start.min(self.clock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, kind: KeyKind) -> ReplicationKey {
        ReplicationKey { name: name.into(), kind, nullable: false, indexed: true, unique: false }
    }

    fn stamp() -> ReplicationKey {
        key("u", KeyKind::Timestamptz)
    }

    fn facts(clock: i64, xmin: u64, xmax: u64) -> Facts {
        Facts { clock, xmin, xmax, system: 1, timeline: 1, ..Facts::default() }
    }

    fn seen(high: i64, facts: &Facts) -> Seen {
        Seen { high: Some(high), cap: facts.oldest_or_clock(), full: false, until: None }
    }

    #[test]
    fn a_watermark_stays_behind_the_oldest_open_transaction() {
        let mut now = facts(100, 5, 5);
        now.oldest_start = Some(40);
        let mark = advance(None, &stamp(), &now, seen(90, &now));
        assert_eq!(mark.value, Some(40));
        assert_eq!(
            bound(Some(&mark), &stamp(), &facts(200, 9, 9), 0),
            Bound::From { value: 40, after: false }
        );
    }

    #[test]
    fn a_value_from_the_future_does_not_move_the_watermark_past_the_clock() {
        let now = facts(100, 5, 5);
        assert_eq!(advance(None, &stamp(), &now, seen(i64::MAX, &now)).value, Some(100));
    }

    #[test]
    fn an_integer_key_waits_until_every_transaction_of_its_run_has_ended() {
        let key = key("id", KeyKind::Integer);
        let first = facts(1, 10, 10);
        let mark = advance(None, &key, &first, seen(50, &first));
        assert_eq!(mark.value, None); // no earlier run
        let second = facts(2, 11, 15); // transaction 11 is open
        let mark = advance(Some(&mark), &key, &second, seen(90, &second));
        assert_eq!(mark.value, Some(50));
        let third = facts(3, 11, 20); // still
        let mark = advance(Some(&mark), &key, &third, seen(95, &third));
        assert_eq!(mark.value, Some(50));
        let fourth = facts(4, 20, 20); // it has ended
        let mark = advance(Some(&mark), &key, &fourth, seen(97, &fourth));
        assert_eq!((mark.value, mark.past.len()), (Some(95), 2));
    }

    #[test]
    fn full_reads_beside_ever_open_transactions_settle_in_the_end() {
        let key = key("id", KeyKind::Integer);
        let full = |high| Seen { high: Some(high), cap: 0, full: true, until: None };
        let mark = advance(None, &key, &facts(1, 9, 10), full(50));
        assert_eq!(mark.value, None);
        assert_eq!(advance(Some(&mark), &key, &facts(2, 19, 20), full(60)).value, Some(50));
    }

    #[test]
    fn a_prepared_transaction_holds_a_timestamp_watermark_at_the_last_settled_run() {
        let first = facts(100, 10, 10);
        let mark = advance(None, &stamp(), &first, seen(90, &first));
        let mut second = facts(200, 12, 14);
        second.prepared = true;
        let mark = advance(Some(&mark), &stamp(), &second, seen(190, &second));
        assert_eq!(mark.value, Some(90));
        let third = facts(300, 30, 30);
        assert_eq!(advance(Some(&mark), &stamp(), &third, seen(290, &third)).value, Some(290));
    }

    #[test]
    fn a_clock_that_went_back_and_another_server_mean_a_full_read() {
        let now = facts(100, 5, 5);
        let mark = advance(None, &stamp(), &now, seen(90, &now));
        assert!(matches!(bound(Some(&mark), &stamp(), &facts(50, 6, 6), 0), Bound::All(_)));
        let other = Facts { system: 2, ..facts(200, 6, 6) };
        assert!(matches!(bound(Some(&mark), &stamp(), &other, 0), Bound::All(_)));
        assert!(matches!(
            bound(Some(&mark), &key("v", KeyKind::Timestamptz), &facts(200, 6, 6), 0),
            Bound::All(_)
        ));
    }

    #[test]
    fn xmin_reads_everything_after_two_to_the_31_transactions_or_a_counter_that_went_back() {
        let key = key("xmin", KeyKind::Xmin);
        let mark = advance(None, &key, &facts(1, 900, 1000), Seen::default());
        assert_eq!(mark.value, Some(900));
        let near = facts(2, 2000, 2000);
        assert_eq!(bound(Some(&mark), &key, &near, 0), Bound::From { value: 900, after: false });
        let far = facts(2, 1000 + XMIN_REACH, 1000 + XMIN_REACH);
        assert!(matches!(bound(Some(&mark), &key, &far, 0), Bound::All(_)));
        assert!(matches!(bound(Some(&mark), &key, &facts(2, 500, 500), 0), Bound::All(_)));
    }

    #[test]
    fn a_run_that_reads_nothing_leaves_the_watermark_where_it_was() {
        let now = facts(100, 5, 5);
        let mark = advance(None, &stamp(), &now, seen(90, &now));
        let later = facts(500, 9, 9);
        let nothing = Seen { cap: 500, ..Seen::default() };
        assert_eq!(advance(Some(&mark), &stamp(), &later, nothing).value, Some(90));
    }

    #[test]
    fn a_watermark_put_by_hand_is_read_from_and_stays_when_nothing_comes() {
        for kind in [KeyKind::Timestamptz, KeyKind::Integer, KeyKind::Xmin] {
            let key = key("k", kind);
            let first = facts(1_000, 500, 500);
            let mark = advance(None, &key, &first, seen(900, &first)).put_to(Some(400));
            let now = facts(2_000, 600, 600);
            let expected = Bound::From { value: 400, after: false };
            assert_eq!(bound(Some(&mark), &key, &now, 0), expected);
            let nothing = Seen { cap: 2_000, ..Seen::default() };
            if key.kind != KeyKind::Xmin {
                assert_eq!(advance(Some(&mark), &key, &now, nothing).value, Some(400));
            }
            let all = bound(Some(&mark.put_to(None)), &key, &now, 0);
            assert_eq!(all, Bound::All("its watermark was reset".into()));
        }
    }

    #[test]
    fn lookback_reads_from_before_the_watermark() {
        let now = facts(100, 5, 5);
        let mark = advance(None, &stamp(), &now, seen(90, &now));
        assert_eq!(
            bound(Some(&mark), &stamp(), &facts(200, 6, 6), 30),
            Bound::From { value: 60, after: false }
        );
    }

    fn local(text: &str) -> i64 {
        let at: DateTime = text.parse().unwrap();
        let span = at.since((jiff::Unit::Hour, civil::date(2000, 1, 1).at(0, 0, 0, 0))).unwrap();
        span.total(jiff::Unit::Microsecond).unwrap() as i64
    }

    #[test]
    fn a_watermark_in_an_hour_that_comes_twice_is_read_from_before_it() {
        let berlin = KeyKind::Timestamp { zone: "Europe/Berlin".into() };
        let hour = 3_600_000_000;
        for (at, back) in [
            ("2026-10-25T01:59:59.999999", 0),
            ("2026-10-25T02:00:00", hour),
            ("2026-10-25T02:59:59.999999", hour),
            ("2026-10-25T03:00:00", 0),
            ("2026-03-29T02:30:00", 0), // left out, never told twice
            ("2026-07-01T02:30:00", 0),
        ] {
            assert_eq!(repeated(local(at), &berlin), back, "{at}");
        }
        let zone = |zone: &str| KeyKind::Timestamp { zone: zone.into() };
        assert_eq!(repeated(local("2026-04-05T01:45:00"), &zone("Australia/Lord_Howe")), hour / 2);
        assert_eq!(repeated(local("2026-10-25T02:30:00"), &zone("Africa/Accra")), 0);
        assert_eq!(
            repeated(local("2026-10-25T02:30:00"), &zone("Mars/Olympus")),
            hour,
            "a zone nobody knows"
        );
        assert_eq!(repeated(local("2026-10-25T02:30:00"), &KeyKind::Timestamptz), 0);
        let key = key("u", berlin);
        let first = local("2026-10-25T02:59:00"); // summer time, still
        let mark =
            advance(None, &key, &facts(100, 5, 5), Seen { high: Some(first), cap: first, ..Seen::default() });
        let expected = Bound::From { value: local("2026-10-25T01:49:00"), after: false };
        assert_eq!(bound(Some(&mark), &key, &facts(200, 6, 6), 600_000_000), expected);
    }

    #[test]
    fn parts_of_a_first_load_move_the_watermark_to_their_end_and_a_part_again_moves_it_nowhere() {
        let part = |until| Seen { high: None, cap: 1_000, full: false, until: Some(until) };
        let mut mark = advance(None, &stamp(), &facts(1_000, 5, 5), Seen { full: true, ..part(100) });
        for (until, value) in [(100, 100), (200, 200), (100, 200), (5_000, 1_000)] {
            mark = advance(Some(&mark), &stamp(), &facts(1_000, 6, 6), part(until));
            assert_eq!(mark.value, Some(value), "until {until}");
        }
        // An integer waits a run longer, and then begins behind what was read.
        let id = ReplicationKey { unique: true, ..key("id", KeyKind::Integer) };
        let first = advance(None, &id, &facts(1, 10, 10), Seen { full: true, ..part(100) });
        assert_eq!(first.value, None);
        let second = advance(Some(&first), &id, &facts(2, 20, 20), part(200));
        assert_eq!(bound(Some(&second), &id, &facts(3, 30, 30), 0), Bound::From { value: 99, after: true });
    }
}
