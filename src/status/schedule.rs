//! When a pipeline was due: the newest moment that its cron names.
//!
//! In:    five fields or a word such as `@daily`, a time zone, a time.
//! Out:   a time, or nothing for what is not understood.
//! Holds: pure; a moment that a clock change leaves out comes when the clock goes on, one that it
//!        repeats counts once, the first time.
//! Not here: who starts pipelines (Airflow, Nomad, cron).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Days that are looked back: a schedule of every 29 February has its last.
const DAYS: usize = 8 * 366;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The numbers that each field allows, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Either of day and weekday is enough: neither begins with `*`.
    either: bool,
}

/// The newest moment at or before `now` that `cron` names in time zone `zone`.
pub fn newest_due(cron: &str, zone: &str, now: Timestamp) -> Option<Timestamp> {
    let cron = parse(cron)?;
    let zone = TimeZone::get(if zone.is_empty() { "UTC" } else { zone }).ok()?;
    let mut day = now.to_zoned(zone.clone()).date();
    for _ in 0..DAYS {
        if cron.fits(day)
            && let Some(at) = cron.newest_on(day, &zone, now)
        {
            return Some(at);
        }
        day = day.checked_sub(1.day()).ok()?;
    }
    None
}

impl Cron {
    fn fits(&self, day: Date) -> bool {
        let has = |bits: u64, number: i8| bits & (1 << number.unsigned_abs()) != 0;
        let (by_day, by_weekday) =
            (has(self.days, day.day()), has(self.weekdays, day.weekday().to_sunday_zero_offset()));
        let fits = if self.either { by_day || by_weekday } else { by_day && by_weekday };
        has(self.months, day.month()) && fits
    }

    fn newest_on(&self, day: Date, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let numbers =
            |bits: u64, most: i8| (0..most).rev().filter(move |n| bits & (1 << n.unsigned_abs()) != 0);
        numbers(self.hours, 24)
            .flat_map(|hour| numbers(self.minutes, 60).map(move |minute| (hour, minute)))
            .filter_map(|(hour, minute)| {
                Some(day.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?.timestamp())
            })
            .find(|at| *at <= now)
    }
}

fn parse(text: &str) -> Option<Cron> {
    let text = match text.trim() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
    let sundays = field(weekdays, 0, 7, &WEEKDAYS)?;
    Some(Cron {
        minutes: field(minutes, 0, 59, &[])?,
        hours: field(hours, 0, 23, &[])?,
        days: field(days, 1, 31, &[])?,
        months: field(months, 1, 12, &MONTHS)?,
        weekdays: sundays | (sundays >> 7) & 1, // 7 is Sunday, too
        either: !days.starts_with('*') && !weekdays.starts_with('*'),
    })
}

/// `*`, `5`, `1-5`, `*/15`, `mon-fri`, and lists of them.
fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Option<u64> {
    let number = |word: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(word));
        named.map_or_else(|| word.parse().ok(), |at| Some(least + u32::try_from(at).unwrap_or(0)))
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*", _) => (least, most),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (one, None) if part.contains('/') => (number(one)?, most),
            (one, None) => (number(one)?, number(one)?),
        };
        if from < least || to > most || from > to {
            return None;
        }
        bits |= (from..=to).step_by(step).fold(0, |bits, number| bits | (1u64 << number));
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cron: &str, zone: &str, now: &str) -> String {
        newest_due(cron, zone, now.parse().unwrap()).map_or("none".into(), |at| at.to_string())
    }

    #[test]
    fn the_newest_moment_is_found_in_the_pipelines_own_time_zone() {
        let saturday = "2026-11-21T12:00:00Z";
        assert_eq!(due("0 3 * * *", "Africa/Accra", saturday), "2026-11-21T03:00:00Z");
        assert_eq!(due("0 3 * * *", "Europe/Berlin", "2026-11-21T01:59:00Z"), "2026-11-20T02:00:00Z");
        assert_eq!(due("*/15 * * * *", "UTC", "2026-11-21T12:14:59Z"), "2026-11-21T12:00:00Z");
        assert_eq!(due("30 6 * * mon-fri", "UTC", saturday), "2026-11-20T06:30:00Z");
        assert_eq!(due("@monthly", "", saturday), "2026-11-01T00:00:00Z");
        assert_eq!(due("0 0 13 * 5", "UTC", saturday), "2026-11-20T00:00:00Z");
        assert_eq!(due("0 0 * * 7", "UTC", saturday), "2026-11-15T00:00:00Z");
        assert_eq!(due("0 12 29 2 *", "UTC", saturday), "2024-02-29T12:00:00Z");
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_or_repeats_is_due_once() {
        assert_eq!(due("30 2 * * *", "Europe/Berlin", "2026-03-29T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(due("30 2 * * *", "Europe/Berlin", "2026-10-25T12:00:00Z"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn what_is_not_understood_is_due_never() {
        for cron in
            ["", "0 3 * *", "60 * * * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "@reboot", "0 0 31 2 *"]
        {
            assert_eq!(due(cron, "UTC", "2026-11-21T12:00:00Z"), "none", "{cron}");
        }
        assert_eq!(due("0 3 * * *", "Mars/Olympus", "2026-11-21T12:00:00Z"), "none");
    }
}
