//! Which backups of one database stay, and why.
//!
//! In:    its backups with their times, the policy, the time now.
//! Out:   one [`Verdict`] a backup.
//! Holds: pure; whatever the clocks say, the newest `at_least` good backups stay, by their own times and
//!        by the store's; what is younger than `days` by either stays; what is from the future stays.
//! Not here: deleting (`backup::prune`).

use crate::config::backups::Keep;
use crate::report::lines::span;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::collections::BTreeSet;

/// What counts of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// When its dump began, by the clock of the machine that made it.
    pub started_at: Timestamp,
    /// When the store took its manifest, by the store's clock.
    pub stored_at: Timestamp,
    /// Whether it can be restored, as far as a listing tells.
    pub is_good: bool,
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it stays.
    pub keep: bool,
    /// Why, in words.
    pub why: String,
}

impl Verdict {
    fn keep(why: impl Into<String>) -> Option<Verdict> {
        Some(Verdict { keep: true, why: why.into() })
    }
}

/// The verdict on each of `all`, in their order.
///
/// Days, weeks and months are those of UTC in which there is a good backup, counted back from the
/// newest: a pause does not use them up.
pub fn decide(all: &[Candidate], keep: &Keep, now: Timestamp) -> Vec<Verdict> {
    let policy = Policy::new(all, keep, now);
    let verdict = |one: &Candidate| {
        let kept = policy.dated_ahead(one).or_else(|| policy.newest(one));
        let kept = kept.or_else(|| policy.young(one)).or_else(|| policy.last_of_a_period(one));
        kept.unwrap_or_else(|| policy.past_its_time(one))
    };
    all.iter().map(verdict).collect()
}

/// The policy, applied to one list.
struct Policy<'a> {
    keep: &'a Keep,
    now: Timestamp,
    /// Times of the good ones, both of each.
    good: Vec<(Timestamp, Timestamp)>,
    /// Ids of the newest good ones in either order.
    newest: BTreeSet<&'a str>,
    /// Id and period of those that stand for one.
    periods: Vec<(&'a str, String)>,
}

impl<'a> Policy<'a> {
    fn new(all: &'a [Candidate], keep: &'a Keep, now: Timestamp) -> Self {
        let mut good: Vec<&Candidate> = all.iter().filter(|one| one.is_good).collect();
        let at_least = keep.at_least as usize;
        good.sort_by(|a, b| (b.stored_at, &b.id).cmp(&(a.stored_at, &a.id)));
        let mut newest: BTreeSet<&str> = good.iter().take(at_least).map(|one| one.id.as_str()).collect();
        good.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        newest.extend(good.iter().take(at_least).map(|one| one.id.as_str()));
        let mut periods = Vec::new();
        for (count, word, name) in [
            (keep.daily, "day", day as fn(&Zoned) -> String),
            (keep.weekly, "week", week),
            (keep.monthly, "month", month),
        ] {
            periods.extend(last_of_each(&good, count, word, name));
        }
        let good = good.iter().map(|one| (one.started_at, one.stored_at)).collect();
        Policy { keep, now, good, newest, periods }
    }

    fn dated_ahead(&self, one: &Candidate) -> Option<Verdict> {
        let at = one.started_at.max(one.stored_at);
        if at <= self.now {
            return None;
        }
        let ahead = span(at.duration_since(self.now).as_secs().unsigned_abs());
        Verdict::keep(format!("its time is {ahead} ahead of now: a clock is wrong"))
    }

    fn newest(&self, one: &Candidate) -> Option<Verdict> {
        if !self.newest.contains(one.id.as_str()) {
            return None;
        }
        Verdict::keep(match self.keep.at_least {
            1 => "the newest good one".to_owned(),
            count => format!("one of the newest {count} good ones"),
        })
    }

    fn young(&self, one: &Candidate) -> Option<Verdict> {
        let age_s = self.now.duration_since(one.started_at.max(one.stored_at)).as_secs();
        if age_s >= i64::from(self.keep.days) * 86_400 {
            return None;
        }
        Verdict::keep(format!("younger than {}", days(self.keep.days)))
    }

    fn last_of_a_period(&self, one: &Candidate) -> Option<Verdict> {
        let (_, period) = self.periods.iter().find(|(id, _)| *id == one.id)?;
        Verdict::keep(format!("the last one of {period}"))
    }

    /// What no rule keeps goes, but a damaged one only when enough good ones came after it.
    fn past_its_time(&self, one: &Candidate) -> Verdict {
        let newer = |times: &&(Timestamp, Timestamp)| times.0 > one.started_at && times.1 > one.stored_at;
        let after = self.good.iter().filter(newer).count();
        let age = days(self.keep.days);
        match one.is_good {
            true => Verdict { keep: false, why: format!("older than {age}") },
            false if after >= self.keep.at_least as usize => {
                Verdict { keep: false, why: format!("incomplete, and older than {age}") }
            }
            false => {
                let why = format!(
                    "incomplete, but only {after} good ones came after it; {} are wanted",
                    self.keep.at_least
                );
                Verdict { keep: true, why }
            }
        }
    }
}

/// Of the newest `count` periods that have one, the last backup: its id and what the period is called.
fn last_of_each<'a>(
    newest_first: &[&'a Candidate],
    count: u32,
    word: &str,
    name: fn(&Zoned) -> String,
) -> Vec<(&'a str, String)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for one in newest_first {
        let period = name(&one.started_at.to_zoned(TimeZone::UTC));
        if seen.len() < count as usize && seen.insert(period.clone()) {
            found.push((one.id.as_str(), format!("{word} {period}")));
        }
    }
    found
}

fn day(at: &Zoned) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn week(at: &Zoned) -> String {
    at.strftime("%G-W%V").to_string()
}

fn month(at: &Zoned) -> String {
    at.strftime("%Y-%m").to_string()
}

fn days(count: u32) -> String {
    if count == 1 { "1 day".into() } else { format!("{count} days") }
}

#[cfg(test)]
mod tests;
