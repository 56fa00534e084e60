//! What wants attention.
//!
//! In:    everything that was asked; limits; the time.
//! Out:   lines, the worst first in each part.
//! Holds: pure; the same answers give the same lines.
//! Not here: asking (`status::look`).

use super::{Line, Part, Question, Seen, Stored, Verdict, schedule};
use crate::config::model::{Database, Pipeline};
use crate::error::Failure;
use crate::ledger::overrides::Taken;
use crate::ledger::overview::{Gap, Last, Missed, Overview, Run};
use crate::report::lines::{minute, span};
use crate::report::{duration, grouped};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// How old the newest published run of a pipeline without a schedule may be.
const ROWS_MAX_AGE: Duration = Duration::from_secs(26 * 3600);
/// How long a run that was due may take, where its pipeline names no `timeout:`.
const GRACE: Duration = Duration::from_secs(2 * 3600);
/// A look at the servers that is older says little.
const COVERAGE_MAX_AGE_S: i64 = 8 * 86_400;
/// A time may be this much ahead of our clock, seconds.
const AHEAD_S: i64 = 300;

/// The lines of everything, part by part, the worst of each first.
pub fn judge(seen: &Seen, question: &Question<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    match &seen.ledger {
        None => {}
        Some(Err(failure)) => lines.push(unknown(Part::Pipelines, "warehouse", failure)),
        Some(Ok(ledger)) => {
            for (name, pipeline) in &seen.pipelines {
                lines.extend(rows(name, pipeline, ledger, question));
            }
            lines.extend(ledger.missed.iter().map(missed));
            lines.extend(coverage(ledger, question));
        }
    }
    let ledger = seen.ledger.as_ref().and_then(|asked| asked.as_ref().ok());
    for database in &question.project.backups.databases {
        match seen.stores.get(&database.name) {
            None => {}
            Some(Err(failure)) => lines.push(unknown(Part::Backups, &database.name, failure)),
            Some(Ok(stored)) => {
                lines.push(backup(database, stored, ledger, question.now));
                lines.extend(drill(database, stored, ledger, question));
            }
        }
    }
    lines.sort_by_key(|line| (line.part, line.verdict));
    lines
}

fn line(part: Part, name: &str, verdict: Verdict, at: Option<Timestamp>, said: impl Into<String>) -> Line {
    Line { part, name: name.to_owned(), verdict, at, said: said.into() }
}

fn unknown(part: Part, name: &str, failure: &Failure) -> Line {
    line(part, name, Verdict::Unknown, None, format!("cannot be asked: {}", failure.what))
}

/// Age in seconds, and in words.
fn age(at: Timestamp, now: Timestamp) -> (i64, String) {
    let seconds = now.duration_since(at).as_secs();
    (seconds, span(seconds.max(0).unsigned_abs()))
}

fn is_older(at: Timestamp, limit: Duration, now: Timestamp) -> bool {
    now.duration_since(at).as_secs() > i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
}

/// A run that began before this is not the one that was due.
fn due(pipeline: &Pipeline, question: &Question<'_>) -> (Timestamp, String) {
    let before = |limit: Duration| {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        question.now.checked_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let schedule = &pipeline.schedule;
    let by_cron = schedule.cron.as_deref().filter(|_| question.limits.rows.is_none()).and_then(|cron| {
        let grace = schedule.timeout.unwrap_or(GRACE);
        schedule::newest_due(cron, &schedule.timezone, before(grace))
    });
    match by_cron {
        Some(at) => (at, format!("was due at {}", minute(at))),
        None => {
            let limit = question.limits.rows.unwrap_or(ROWS_MAX_AGE);
            (before(limit), format!("may be {} old", span(limit.as_secs())))
        }
    }
}

fn count(rows: i64) -> String {
    grouped(u64::try_from(rows).unwrap_or(0))
}

/// A pipeline and its tables.
fn rows(
    name: &str,
    pipeline: &Result<Pipeline, Failure>,
    ledger: &Overview,
    question: &Question<'_>,
) -> Vec<Line> {
    let pipeline = match pipeline {
        Ok(pipeline) => pipeline,
        Err(failure) => return vec![line(Part::Pipelines, name, Verdict::Failed, None, &failure.what)],
    };
    let (due, words) = due(pipeline, question);
    let published = ledger.published.get(name).copied();
    let newest = ledger.runs.get(name).and_then(|runs| runs.first());
    let mut lines = vec![run(name, newest, published, (due, &words), question.now)];
    if published.is_none() {
        return lines; // that says all of its tables
    }
    for table in &pipeline.tables {
        let key = (name.to_owned(), table.name.to_string());
        let whole = format!("{name}: {}", table.name);
        lines.push(match ledger.tables.get(&key) {
            None => {
                let aside = ledger.set_aside.get(&key).map(|taken| format!("; {}", set_aside(taken)));
                let said = format!("it has never been loaded{}", aside.unwrap_or_default());
                line(Part::Tables, &whole, Verdict::Missing, None, said)
            }
            Some(there) => {
                let at = there.published_at;
                let is_late = at.is_none_or(|at| at < due);
                let (verdict, said) = match (is_late, ledger.set_aside.get(&key)) {
                    (true, Some(taken)) => (Verdict::Late, set_aside(taken)),
                    (false, Some(taken)) => (Verdict::Warned, set_aside(taken)),
                    (true, None) => (Verdict::Late, format!("its newest load is too old: one {words}")),
                    (false, None) => (Verdict::Good, format!("{} rows", count(there.live_rows))),
                };
                line(Part::Tables, &whole, verdict, at, said)
            }
        });
    }
    lines
}

fn run(
    name: &str,
    newest: Option<&Run>,
    published: Option<(Timestamp, Timestamp)>,
    (due, words): (Timestamp, &str),
    now: Timestamp,
) -> Line {
    let of = |verdict, at, said: String| line(Part::Pipelines, name, verdict, at, said);
    let failed = newest.filter(|run| ["failed", "cancelled", "lost"].contains(&run.status.as_str()));
    let ended = published.map(|(_, ended)| ended);
    if let Some(run) = failed {
        let why = match (&run.error, run.status.as_str()) {
            (Some((code, what)), _) => format!("{code}: {what}"),
            (None, "lost") => "its process was lost".to_owned(),
            (None, status) => status.to_owned(),
        };
        return of(
            Verdict::Failed,
            ended,
            format!("run {} of {}: {why}", run.run_id, minute(run.started_at)),
        );
    }
    let on = match newest {
        Some(run) if run.status == "running" => {
            format!("; run {} is on since {}", run.run_id, minute(run.started_at))
        }
        Some(run) if run.status == "staged" => format!("; run {} is extracted and not loaded", run.run_id),
        _ => String::new(),
    };
    match published {
        None => of(Verdict::Missing, None, format!("it has never been published{on}")),
        Some((began, _)) if began < due => of(Verdict::Late, ended, format!("{words}{on}")),
        Some((began, _)) if began > now && age(began, now).0 < -AHEAD_S => {
            of(Verdict::Warned, ended, "its newest run is ahead of now: a clock is wrong".into())
        }
        Some(_) => {
            let rows = newest.map_or(0, |run| run.rows_written);
            of(Verdict::Good, ended, format!("{} rows written by the newest run{on}", count(rows)))
        }
    }
}

fn set_aside(taken: &Taken) -> String {
    let (by, why) = (&taken.by, &taken.because);
    format!("set aside since {} by {by}: {why}", minute(taken.at))
}

fn missed(check: &Missed) -> Line {
    let verdict = if check.refuses && check.accepted.is_none() { Verdict::Failed } else { Verdict::Warned };
    let name = format!("{}: {}: {}", check.pipeline, check.table, check.check);
    let measured = check.measured.map_or("something else".into(), |number| number.to_string());
    let mut said = format!("{} is allowed, {measured} was found", check.bound);
    if !check.rows.is_empty() {
        said.push_str(&format!("; rows {}", check.rows.join("; ")));
    }
    if let Some((by, why)) = &check.accepted {
        said.push_str(&format!("; accepted for that run by {by}: {why}"));
    }
    line(Part::Checks, &name, verdict, check.since, said)
}

fn coverage(ledger: &Overview, question: &Question<'_>) -> Vec<Line> {
    if question.project.backups.servers.is_empty() {
        return Vec::new();
    }
    let one = |verdict, at, said: &str| vec![line(Part::Coverage, "servers", verdict, at, said)];
    let Some((looked_at, gaps)) = &ledger.coverage else {
        return one(Verdict::Warned, None, "nobody has looked: run `sankofa backups coverage`");
    };
    let (old, _) = age(*looked_at, question.now);
    // Those that are listed are told by their backups, as they are now.
    let unlisted: Vec<&Gap> = gaps.iter().filter(|gap| gap.listed.is_none()).collect();
    let of = |gap: &&Gap| {
        let name = gap.database.as_ref().map_or(gap.server.clone(), |name| format!("{}: {name}", gap.server));
        line(Part::Coverage, &name, Verdict::Missing, Some(*looked_at), &gap.said)
    };
    let mut lines: Vec<Line> = unlisted.iter().map(of).collect();
    if old > COVERAGE_MAX_AGE_S {
        lines.extend(one(
            Verdict::Warned,
            Some(*looked_at),
            "nobody has looked for long: run `sankofa backups coverage`",
        ));
    } else if lines.is_empty() {
        lines = one(Verdict::Good, Some(*looked_at), "every database that was found is backed up or ignored");
    }
    lines
}

fn good_backups(count: usize) -> String {
    if count == 1 { "1 good backup".into() } else { format!("{count} good backups") }
}

/// The failure of the newest run, if nothing good has come after it.
fn failure_of(last: Option<&BTreeMap<String, Last>>, name: &str, good: Option<Timestamp>) -> Option<String> {
    let last = last?.get(name)?;
    let failure = last.failure.as_ref()?;
    good.is_none_or(|at| at < last.ended_at)
        .then(|| format!("the try of {}: {failure}", minute(last.ended_at)))
}

fn backup(database: &Database, stored: &Stored, ledger: Option<&Overview>, now: Timestamp) -> Line {
    let newest = stored.backups.first().map(|one| one.at);
    let of = |verdict, said: String| line(Part::Backups, &database.name, verdict, newest, said);
    if let Some(failure) = failure_of(ledger.map(|ledger| &ledger.backups), &database.name, newest) {
        return of(Verdict::Failed, failure);
    }
    let when = |id: &String| ledger?.damaged.get(&(database.name.clone(), id.clone()));
    let mut damaged = stored.backups.iter().filter_map(|one| Some((&one.id, when(&one.id)?)));
    let first = damaged.next();
    let rest = stored.backups.len() - usize::from(first.is_some()) - damaged.count();
    let limit = database.expected_every;
    match newest {
        None => of(Verdict::Missing, "it has no good backup".into()),
        Some(at) if age(at, now).0 < -AHEAD_S => {
            of(Verdict::Failed, "its newest backup is ahead of now: a clock is wrong".into())
        }
        Some(at) if is_older(at, limit, now) => of(
            Verdict::Late,
            format!("the newest is {} old, and expected every {}", age(at, now).1, span(limit.as_secs())),
        ),
        Some(_) => match first {
            None => of(Verdict::Good, good_backups(rest)),
            Some((id, at)) => {
                let is_newest = stored.backups.first().is_some_and(|one| one.id == *id);
                let what = format!("{id} was found damaged at {}", minute(*at));
                match is_newest {
                    true => of(
                        Verdict::Failed,
                        format!("the newest, {what}: make another with `sankofa backup {}`", database.name),
                    ),
                    false => of(Verdict::Warned, format!("{}; {what}", good_backups(rest))),
                }
            }
        },
    }
}

fn drill(
    database: &Database,
    stored: &Stored,
    ledger: Option<&Overview>,
    question: &Question<'_>,
) -> Option<Line> {
    let newest = stored.drills.first();
    let proven = stored.drills.iter().find(|one| one.proven).map(|one| one.at);
    let of = |verdict, said: String| Some(line(Part::Drills, &database.name, verdict, proven, said));
    if question.project.drill.is_none() && newest.is_none() {
        return of(Verdict::Warned, "nothing has proven that it comes back: there is no `drill:`".into());
    }
    let last = failure_of(ledger.map(|ledger| &ledger.drills), &database.name, newest.map(|one| one.at));
    if let Some(failure) = last {
        return of(Verdict::Failed, failure);
    }
    let Some(newest) = newest else { return of(Verdict::Missing, "it has never been drilled".into()) };
    let (took, within) = newest.took_ms;
    match proven {
        _ if !newest.proven => of(Verdict::Failed, "what came back differed from what was dumped".into()),
        _ if took > within => of(
            Verdict::Failed,
            format!("it took {}, and restore_within is {}", duration(took), duration(within)),
        ),
        Some(at) if is_older(at, question.limits.drill, question.now) => {
            let limit = span(question.limits.drill.as_secs());
            of(Verdict::Late, format!("proven {} ago, and expected every {limit}", age(at, question.now).1))
        }
        _ => of(
            Verdict::Good,
            format!("came back equal in {} of the {} allowed", duration(took), duration(within)),
        ),
    }
}

#[cfg(test)]
#[path = "judge_test.rs"]
mod tests;
