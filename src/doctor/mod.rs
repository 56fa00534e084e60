//! Tries everything that a run would need, and tells what to do about what is missing.
//!
//! In:    the project, its pipelines, where secrets are asked for.
//! Out:   one [`Finding`] a question: fine, worth a look, or in the way of a run.
//! Holds: nothing is written anywhere but one file that is removed at once in the stage directory and one
//!        upload that is withdrawn at once in each store, and with `--fix` the rules of buckets;
//!        a question that cannot be asked is a finding, never the end of the others.
//! Not here: what a run does (`etl`).

mod backups;
mod drills;
mod local;
mod locks;
mod readable;
mod source;
mod warehouse;

use crate::config::Files;
use crate::config::model::{Pipeline, Project};
use crate::error::{Failure, Kind, classify, most_serious};
use crate::report::plain;
use crate::secret::Resolver;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What became of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fine.
    Ok,
    /// A run works, but somebody should look.
    Warn,
    /// Nothing is wrong: it is what setting up comes to next.
    Step,
    /// A run would fail, with this kind.
    Fail(Kind),
}

/// One question and its answer.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is about, such as `source hr_db`.
    pub about: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The answer.
    pub said: String,
    /// What to type next.
    pub next: Option<String>,
}

/// The findings about one thing.
pub struct Findings {
    about: String,
    all: Vec<Finding>,
}

impl Findings {
    fn about(about: impl Into<String>) -> Self {
        Findings { about: about.into(), all: Vec::new() }
    }

    fn add(&mut self, verdict: Verdict, said: impl Into<String>, next: Option<String>) {
        self.all.push(Finding { about: self.about.clone(), verdict, said: said.into(), next });
    }

    fn ok(&mut self, said: impl Into<String>) {
        self.add(Verdict::Ok, said, None);
    }

    fn warn(&mut self, said: impl Into<String>, next: impl Into<String>) {
        self.add(Verdict::Warn, said, Some(next.into()));
    }

    fn step(&mut self, said: impl Into<String>, next: impl Into<String>) {
        self.add(Verdict::Step, said, Some(next.into()));
    }

    fn fail(&mut self, kind: Kind, said: impl Into<String>, next: impl Into<String>) {
        self.add(Verdict::Fail(kind), said, Some(next.into()));
    }

    fn failed(&mut self, failure: &Failure) {
        let page = || format!("`sankofa man {}` tells what such a failure wants.", failure.kind.exit_code());
        let next = failure.hint.clone().unwrap_or_else(page);
        self.fail(failure.kind, &failure.what, next);
    }

    /// The value, or a finding in its place.
    fn answer<T>(&mut self, asked: anyhow::Result<T>) -> Option<T> {
        match asked {
            Ok(value) => Some(value),
            Err(error) => {
                self.failed(&classify(&error));
                None
            }
        }
    }
}

/// Everything that was asked.
pub struct Diagnosis {
    /// In the order of asking.
    pub findings: Vec<Finding>,
}

/// Asks everything about `project` and `pipelines`; one that could not be read is a failure already.
pub async fn examine(
    project: &Project,
    pipelines: &[(String, Result<Pipeline, Failure>)],
    resolver: &Resolver,
) -> Diagnosis {
    let mut findings = local::files(project, pipelines).all;
    let read: Vec<&Pipeline> = pipelines.iter().filter_map(|(_, pipeline)| pipeline.as_ref().ok()).collect();
    findings.extend(local::secrets(project, &read, resolver).await.all);
    findings.extend(local::stage(project, resolver).await.all);
    findings.extend(warehouse::examine(project, &read, resolver).await.all);
    let mut by_source: BTreeMap<&str, Vec<&Pipeline>> = BTreeMap::new();
    for pipeline in &read {
        by_source.entry(&pipeline.source).or_default().push(pipeline);
    }
    for (source, pipelines) in by_source {
        findings.extend(source::examine(project, source, &pipelines, resolver).await.all);
    }
    findings.extend(warehouse::loads(project, &read, resolver).await.all);
    Diagnosis { findings }
}

/// A project whose own file cannot be read.
pub fn unread(failure: &Failure) -> Diagnosis {
    let mut findings = Findings::about("project");
    findings.failed(failure);
    Diagnosis::of(vec![findings])
}

/// That a project backs up nothing, where backups or drills were asked about and nothing else.
pub fn nothing_backed_up() -> Diagnosis {
    let mut findings = Findings::about("backups");
    let next = "Name the databases under `backups:` of sankofa.yaml (docs/operations.md, Backups).";
    findings.step("the project backs up no database", next);
    Diagnosis::of(vec![findings])
}

/// Asks everything about making backups; with `fix`, the rules of their buckets are set first. Asks for no identity.
pub async fn examine_backups(
    project: &Project,
    resolver: &Resolver,
    variables: &BTreeMap<String, String>,
    fix: bool,
) -> Diagnosis {
    Diagnosis::of(backups::examine(project, resolver, variables, fix).await)
}

/// Asks everything about bringing backups back: the drill server, who opens what is stored, what was proven.
/// That nothing at hand here opens them is a failure with `must_open`.
pub async fn examine_drills(project: &Project, resolver: &Resolver, must_open: bool) -> Diagnosis {
    Diagnosis::of(drills::examine(project, resolver, must_open).await)
}

/// Looks at what DAGs read: one lock a pipeline, and that of the backups which Airflow starts.
pub fn examine_locks(
    project: &Project,
    files: &Files,
    pipelines: &[(String, Result<Pipeline, Failure>)],
) -> Diagnosis {
    Diagnosis::of(vec![locks::examine(project, files, pipelines)])
}

impl Diagnosis {
    fn of(asked: Vec<Findings>) -> Self {
        Diagnosis { findings: asked.into_iter().flat_map(|findings| findings.all).collect() }
    }

    /// Adds what else was asked, after what is there.
    pub fn add(&mut self, more: Diagnosis) {
        self.findings.extend(more.findings);
    }

    /// What to do next, and about what: findings are in the order of setting things up. The first that is in
    /// the way of a run comes before the first step that was not done, that before what only wants a look.
    pub fn next(&self) -> Option<(&str, &str)> {
        let first = |is_wanted: fn(&Verdict) -> bool| {
            let mut wanted = self.findings.iter().filter(|finding| is_wanted(&finding.verdict));
            wanted.find_map(|finding| Some((finding.about.as_str(), finding.next.as_deref()?)))
        };
        first(|verdict| matches!(verdict, Verdict::Fail(_)))
            .or_else(|| first(|verdict| *verdict == Verdict::Step))
            .or_else(|| first(|verdict| *verdict == Verdict::Warn))
    }

    /// As a person reads it: what is wrong stands out, and what to type stands below it.
    ///
    /// `on` is what to go on with where nothing else comes next.
    pub fn to_text(&self, on: Option<&str>) -> String {
        let mut text = String::new();
        let mut about = "";
        for finding in &self.findings {
            if finding.about != about {
                let gap = if about.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}{}\n", finding.about));
                about = &finding.about;
            }
            text.push_str(&format!("  {:<5} {}\n", word(&finding.verdict), finding.said));
            if let Some(next) = &finding.next {
                text.push_str(&format!("        -> {next}\n"));
            }
        }
        let count = |wanted: &str| self.findings.iter().filter(|f| word(&f.verdict) == wanted).count();
        text.push_str(&format!(
            "\ndoctor: {} ok, {} to look at, {} failed\n",
            count("ok"),
            count("warn") + count("next"),
            count("FAIL")
        ));
        match self.next() {
            Some((about, next)) => text.push_str(&format!("next: {about}: {next}\n")),
            None => text.extend(on.map(|on| format!("next: {on}\n"))),
        }
        plain(&text)
    }

    /// For a program.
    pub fn to_json(&self) -> Value {
        let one = |finding: &Finding| {
            let code = match finding.verdict {
                Verdict::Fail(kind) => Some(kind.exit_code()),
                _ => None,
            };
            let verdict = word(&finding.verdict).to_lowercase();
            json!({"about": finding.about, "verdict": verdict, "said": finding.said, "next": finding.next, "exit": code})
        };
        Value::Array(self.findings.iter().map(one).collect())
    }

    /// The most serious finding, as the failure of the command.
    pub fn failure(&self) -> Option<Failure> {
        let failed = self.findings.iter().filter_map(|finding| match finding.verdict {
            Verdict::Fail(kind) => {
                let failure = Failure::new(kind, format!("{}: {}", finding.about, finding.said));
                Some(finding.next.iter().fold(failure, |failure, next| failure.hint(next)))
            }
            _ => None,
        });
        let failed: Vec<Failure> = failed.collect();
        let worst = most_serious(&failed)?;
        let more = match failed.len() {
            1 => String::new(),
            some => format!(" (and {} more)", some - 1),
        };
        let mut failure = Failure::new(worst.kind, format!("{}{more}", worst.what));
        failure.hint.clone_from(&worst.hint);
        Some(failure)
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Step => "next",
        Verdict::Fail(_) => "FAIL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_serious_finding_is_the_failure_and_warnings_are_none() {
        let mut findings = Findings::about("warehouse");
        findings.warn("old", "Look.");
        assert!(Diagnosis { findings: findings.all.clone() }.failure().is_none());
        findings.fail(Kind::Temporary, "down", "Start it.");
        findings.fail(Kind::Config, "wrong", "Mend it.");
        let diagnosis = Diagnosis { findings: findings.all };
        let failure = diagnosis.failure().unwrap();
        assert_eq!((failure.kind, failure.what.as_str()), (Kind::Config, "warehouse: wrong (and 1 more)"));
        assert_eq!(failure.hint.as_deref(), Some("Mend it."));
        assert!(diagnosis.to_text(None).contains("  FAIL  down\n        -> Start it.\n"));
        assert!(
            diagnosis.to_text(None).ends_with("\nnext: warehouse: Start it.\n"),
            "the first, not the worst"
        );
    }

    #[test]
    fn a_step_that_was_not_done_comes_before_what_wants_a_look_and_the_way_on_after_both() {
        let mut findings = Findings::about("source");
        findings.ok("is there");
        let next = |findings: &Findings| {
            let text = Diagnosis { findings: findings.all.clone() }.to_text(Some("Go on."));
            text.lines().last().unwrap().to_owned()
        };
        assert_eq!(next(&findings), "next: Go on.");
        findings.warn("a superuser", "Use another.");
        assert_eq!(next(&findings), "next: source: Use another.");
        findings.step("never loaded", "Load it.");
        assert_eq!(next(&findings), "next: source: Load it.");
        findings.failed(&Failure::permission("no hint"));
        assert!(
            next(&findings).starts_with("next: source: `sankofa man 77`"),
            "a failure is never passed over"
        );
    }
}
