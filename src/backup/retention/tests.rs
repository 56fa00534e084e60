use super::*;
use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn days_ago(days: i64) -> Timestamp {
    now() - (24 * days).hours()
}

fn good(started_at: Timestamp) -> Candidate {
    Candidate { id: started_at.to_string(), started_at, stored_at: started_at, is_good: true }
}

fn bad(started_at: Timestamp) -> Candidate {
    Candidate { is_good: false, ..good(started_at) }
}

fn keep(days: u32, at_least: u32) -> Keep {
    Keep { days, at_least, daily: 0, weekly: 0, monthly: 0 }
}

/// Which of `all` stay, by number.
fn kept(all: &[Candidate], keep: &Keep, now: Timestamp) -> Vec<usize> {
    let verdicts = decide(all, keep, now);
    (0..all.len()).filter(|at| verdicts[*at].keep).collect()
}

#[test]
fn the_newest_seven_stay_even_when_all_are_past_thirty_days() {
    let all: Vec<_> = (40..60).map(|days| good(days_ago(days))).collect();
    assert_eq!(kept(&all, &keep(30, 7), now()), [0, 1, 2, 3, 4, 5, 6]);
    let verdicts = decide(&all, &keep(30, 7), now());
    assert_eq!(
        (verdicts[0].why.as_str(), verdicts[7].why.as_str()),
        ("one of the newest 7 good ones", "older than 30 days")
    );
}

#[test]
fn a_backup_goes_the_moment_it_is_as_old_as_the_days() {
    let all = [good(days_ago(1)), good(days_ago(30) + 1.second()), good(days_ago(30))];
    assert_eq!(kept(&all, &keep(30, 1), now()), [0, 1]);
}

#[test]
fn failed_backups_neither_count_as_good_nor_push_good_ones_out() {
    let mut all: Vec<_> = (1..10).map(|days| bad(days_ago(days))).collect();
    all.extend([good(days_ago(100)), good(days_ago(101)), good(days_ago(102)), bad(days_ago(99))]);
    let verdicts = decide(&all, &keep(30, 2), now());
    let gone: Vec<usize> = (0..all.len()).filter(|at| !verdicts[*at].keep).collect();
    assert_eq!(gone, [11]);
    assert_eq!(verdicts[12].why, "incomplete, but only 0 good ones came after it; 2 are wanted");
}

#[test]
fn exactly_the_floor_stays_whole() {
    let all = [good(days_ago(90)), good(days_ago(91)), bad(days_ago(92))];
    assert_eq!(kept(&all, &keep(0, 2), now()), [0, 1]);
    assert_eq!(kept(&all, &keep(0, 3), now()), [0, 1, 2]);
}

#[test]
fn a_clock_that_jumps_forty_days_deletes_no_more_than_the_floor_allows_and_nothing_of_the_future() {
    let all: Vec<_> = (0..35).map(|days| good(days_ago(days))).collect();
    assert_eq!(kept(&all, &keep(30, 7), now() + (40 * 24).hours()), (0..7).collect::<Vec<_>>());
    assert_eq!(kept(&all, &keep(30, 7), now() - (40 * 24).hours()).len(), 35);
    let verdict = &decide(&all, &keep(30, 7), days_ago(2))[0];
    assert_eq!(verdict.why, "its time is 2 days ahead of now: a clock is wrong");
}

#[test]
fn a_backup_made_by_a_machine_whose_clock_was_wrong_is_as_young_as_the_store_says() {
    let mut all: Vec<_> = (0..10).map(|days| good(days_ago(days))).collect();
    all.push(Candidate { started_at: days_ago(400), ..good(days_ago(1)) });
    assert_eq!(kept(&all, &keep(5, 1), now()), [0, 1, 2, 3, 4, 10]);
    // Old by the store's clock too, and yet among the newest that it took.
    let mut all: Vec<_> = (50..60).map(|days| good(days_ago(days))).collect();
    all.push(Candidate { id: "x".into(), started_at: days_ago(400), ..good(days_ago(49)) });
    assert_eq!(kept(&all, &keep(5, 2), now()), [0, 1, 10]);
}

#[test]
fn of_each_day_week_and_month_that_has_one_the_last_stays() {
    let at = |text: &str| good(format!("{text}:00Z").parse().unwrap());
    let all = [
        at("2026-11-20T23:00"), // the last of its day, week and month
        at("2026-11-20T01:00"),
        at("2026-11-18T01:00"), // a day without one does not count
        at("2026-11-15T23:59"), // Sunday: the week before
        at("2026-11-15T00:01"),
        at("2026-10-31T23:00"),
        at("2026-10-01T00:00"),
        at("2025-12-29T00:00"), // ISO week 2026-W01
    ];
    let policy = |daily, weekly, monthly| Keep { daily, weekly, monthly, ..keep(0, 1) };
    assert_eq!(kept(&all, &policy(2, 0, 0), now()), [0, 2]);
    assert_eq!(kept(&all, &policy(0, 2, 0), now()), [0, 3]);
    assert_eq!(kept(&all, &policy(0, 0, 2), now()), [0, 5]);
    assert_eq!(kept(&all, &policy(3, 3, 3), now()), [0, 2, 3, 5, 7]);
    let verdicts = decide(&all, &policy(3, 5, 0), now());
    assert_eq!(verdicts[3].why, "the last one of day 2026-11-15");
    assert_eq!(verdicts[7].why, "the last one of week 2026-W01");
}

#[test]
fn a_leap_day_is_a_day() {
    let leap = good("2028-02-29T12:00:00Z".parse().unwrap());
    let next = good("2028-03-01T12:00:00Z".parse().unwrap());
    let policy = Keep { daily: 2, ..keep(0, 1) };
    assert_eq!(kept(&[next, leap], &policy, "2029-01-01T00:00:00Z".parse().unwrap()), [0, 1]);
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let hours = -60 * 24..400 * 24i64;
    let one = (hours.clone(), hours, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let candidate = |(at, (started, stored, same, is_good)): (usize, (i64, i64, bool, bool))| {
            let (started_at, stored_at) = (now() - started.hours(), now() - stored.hours());
            let stored_at = if same { started_at } else { stored_at };
            Candidate { id: format!("{at:03}"), started_at, stored_at, is_good }
        };
        all.into_iter().enumerate().map(candidate).collect()
    })
}

fn policies() -> impl Strategy<Value = Keep> {
    (0u32..90, 1u32..9, 0u32..5, 0u32..5, 0u32..5).prop_map(|(days, at_least, daily, weekly, monthly)| Keep {
        days,
        at_least,
        daily,
        weekly,
        monthly,
    })
}

proptest! {
    #[test]
    fn whatever_the_clocks_say_the_floor_the_young_and_the_future_stay(
        all in candidates(), keep in policies(), jump in -40 * 24..40 * 24i64,
    ) {
        let now = now() + jump.hours();
        let verdicts = decide(&all, &keep, now);
        let mut good: Vec<(&Candidate, &Verdict)> = all.iter().zip(&verdicts).filter(|(one, _)| one.is_good).collect();
        for order in [|one: &Candidate| one.started_at, |one: &Candidate| one.stored_at] {
            good.sort_by_key(|(one, _)| std::cmp::Reverse(order(one)));
            let floor = good.iter().take(keep.at_least as usize);
            // Of equal times either may be the one that stays.
            let oldest = floor.clone().next_back().map(|(one, _)| order(one));
            prop_assert!(floor.clone().filter(|(one, _)| Some(order(one)) != oldest).all(|(_, verdict)| verdict.keep));
        }
        let kept = good.iter().filter(|(_, verdict)| verdict.keep).count();
        prop_assert!(kept >= good.len().min(keep.at_least as usize));
        for (one, verdict) in all.iter().zip(&verdicts) {
            let age = now.duration_since(one.started_at.max(one.stored_at));
            let is_young = age < SignedDuration::from_hours(24 * i64::from(keep.days));
            prop_assert!(verdict.keep || !is_young);
            prop_assert!(!verdict.why.is_empty());
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter_and_a_second_time_deletes_nothing(
        all in candidates(), keep in policies(),
    ) {
        let verdicts = decide(&all, &keep, now());
        let reversed: Vec<Candidate> = all.iter().rev().cloned().collect();
        let mut again = decide(&reversed, &keep, now());
        again.reverse();
        prop_assert_eq!(&verdicts, &again);
        let left: Vec<Candidate> =
            all.iter().zip(&verdicts).filter(|(_, verdict)| verdict.keep).map(|(one, _)| one.clone()).collect();
        prop_assert!(decide(&left, &keep, now()).iter().all(|verdict| verdict.keep));
    }
}
