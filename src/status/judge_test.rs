use super::*;
use crate::config::model::Project;
use crate::status::{Kept, Limits, Proof};

const NOW: &str = "2026-11-21T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

fn project() -> Project {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nstores: {off: {directory: x}}\ndrill: {connection: drill}\nbackups: {servers: [hr_db], \
                databases: {hr: {connection: hr_db, store: off, encrypt_to: [age1x]}}}\n";
    std::fs::write(folder.path().join("sankofa.yaml"), text).unwrap();
    let files = crate::config::Files {
        project_dir: folder.path().to_owned(),
        environment: None,
        variables: BTreeMap::new(),
    };
    crate::config::load_project(&files).unwrap()
}

fn judged(ledger: Option<Result<Overview, Failure>>, stored: Option<Result<Stored, Failure>>) -> Vec<Line> {
    let project = project();
    let limits = Limits { rows: None, drill: Duration::from_secs(35 * 86_400) };
    let stores = stored.map(|stored| ("hr".to_owned(), stored)).into_iter().collect();
    let seen = Seen { pipelines: Vec::new(), ledger, stores };
    judge(&seen, &Question { project: &project, limits, now: now() })
}

fn verdict(lines: &[Line], part: Part) -> (Verdict, &str) {
    let line = lines.iter().find(|line| line.part == part).unwrap();
    (line.verdict, &line.said)
}

fn stored(backup_hours: i64, drill: (i64, bool, u64)) -> Stored {
    Stored {
        backups: vec![Kept { id: "one".into(), at: ago(backup_hours), stored_bytes: 1 }],
        drills: vec![Proof { at: ago(drill.0), proven: drill.1, took_ms: (drill.2, 1000) }],
    }
}

#[test]
fn a_backup_is_good_until_its_time_has_passed_and_missing_when_there_is_none() {
    let of = |stored| verdict(&judged(None, Some(Ok(stored))), Part::Backups).0;
    assert_eq!(of(stored(26, (1, true, 1))), Verdict::Good);
    assert_eq!(of(stored(27, (1, true, 1))), Verdict::Late);
    assert_eq!(of(Stored::default()), Verdict::Missing);
    assert_eq!(of(stored(-1, (1, true, 1))), Verdict::Failed);
}

#[test]
fn a_drill_that_differs_or_takes_too_long_has_failed_and_an_old_one_is_late() {
    let of = |drill| verdict(&judged(None, Some(Ok(stored(1, drill)))), Part::Drills).0;
    assert_eq!(of((34 * 24, true, 1000)), Verdict::Good);
    assert_eq!(of((36 * 24, true, 1000)), Verdict::Late);
    assert_eq!(of((1, false, 1)), Verdict::Failed);
    assert_eq!(of((1, true, 1001)), Verdict::Failed);
    let never = Stored { drills: Vec::new(), ..stored(1, (1, true, 1)) };
    assert_eq!(verdict(&judged(None, Some(Ok(never))), Part::Drills).0, Verdict::Missing);
}

#[test]
fn a_failure_in_the_ledger_counts_until_something_good_has_come_after_it() {
    let failed = |hours| {
        let last = Last { failure: Some("cannot dump hr".into()), ended_at: ago(hours) };
        let backups = BTreeMap::from([("hr".to_owned(), last)]);
        Some(Ok(Overview { backups, ..Overview::default() }))
    };
    let of = |hours| verdict(&judged(failed(hours), Some(Ok(stored(5, (1, true, 1))))), Part::Backups).0;
    assert_eq!((of(4), of(6)), (Verdict::Failed, Verdict::Good));
}

#[test]
fn what_cannot_be_asked_is_unknown_and_hides_nothing_else() {
    let away = || Failure::temporary("no answer");
    let lines = judged(Some(Err(away())), Some(Ok(stored(30, (1, true, 1)))));
    assert_eq!(verdict(&lines, Part::Pipelines).0, Verdict::Unknown);
    assert_eq!(verdict(&lines, Part::Backups).0, Verdict::Late);
    let lines = judged(Some(Ok(Overview::default())), Some(Err(away())));
    assert_eq!(verdict(&lines, Part::Backups), (Verdict::Unknown, "cannot be asked: no answer"));
}

#[test]
fn a_database_that_nobody_listed_is_missing_and_one_that_is_listed_is_told_by_its_backups() {
    let gap = |listed: Option<&str>| Gap {
        server: "hr_db".into(),
        database: Some("left_alone".into()),
        listed: listed.map(str::to_owned),
        said: "neither".into(),
    };
    let seen = |gaps| Some(Ok(Overview { coverage: Some((ago(1), gaps)), ..Overview::default() }));
    assert_eq!(verdict(&judged(seen(vec![gap(None)]), None), Part::Coverage).0, Verdict::Missing);
    assert_eq!(verdict(&judged(seen(vec![gap(Some("hr"))]), None), Part::Coverage).0, Verdict::Good);
    assert_eq!(verdict(&judged(seen(Vec::new()), None), Part::Coverage).0, Verdict::Good);
    assert_eq!(verdict(&judged(Some(Ok(Overview::default())), None), Part::Coverage).0, Verdict::Warned);
}

#[test]
fn a_run_is_late_by_the_time_that_its_schedule_names_and_a_failed_one_is_told_with_its_reason() {
    let done = |hours: i64| Some((ago(hours), ago(hours)));
    let due = (ago(10), "was due at x");
    let newest = |status: &str| Run {
        run_id: "r".into(),
        status: status.into(),
        started_at: ago(1),
        ..Run::default()
    };
    let of = |newest: Option<&Run>, published| run("p", newest, published, due, now()).verdict;
    assert_eq!(of(Some(&newest("published")), done(9)), Verdict::Good);
    assert_eq!(of(Some(&newest("published")), done(11)), Verdict::Late);
    assert_eq!(of(Some(&newest("running")), done(11)), Verdict::Late);
    assert_eq!(of(Some(&newest("running")), done(9)), Verdict::Good);
    assert_eq!(of(None, None), Verdict::Missing);
    let mut failed = newest("failed");
    failed.error = Some(("data".into(), "cannot publish p: 3 checks failed".into()));
    let line = run("p", Some(&failed), done(9), due, now());
    assert!(line.verdict == Verdict::Failed && line.said.contains("data: cannot publish p"), "{line:?}");
    assert_eq!(of(Some(&newest("lost")), done(9)), Verdict::Failed);
}
