//! What Airflow's DAGs read: a lock for each pipeline, in step with its file, and one for the backups.
//!
//! In:    the project and its files. Out: findings.
//! Holds: reads only.
//! Not here: Airflow's own side, which `sankofa_airflow doctor` looks at.

use super::Findings;
use crate::config::Files;
use crate::config::backups::Scheduler;
use crate::config::locks::{self, Lock};
use crate::config::model::{Pipeline, Project, RunAs};
use crate::error::{Failure, Kind};
use anyhow::Result;

/// Looks at every lock in the folder `locks` of the project.
pub fn examine(
    project: &Project,
    files: &Files,
    pipelines: &[(String, Result<Pipeline, Failure>)],
) -> Findings {
    let mut findings = Findings::about("locks");
    for (name, pipeline) in pipelines {
        match pipeline {
            Err(failure) => findings.failed(failure),
            Ok(pipeline) => {
                steps(project, pipeline, &mut findings);
                is_in_step(Lock::of_pipeline(files, name), files, &mut findings);
                if pipeline.schedule.cron.is_none() {
                    let next = format!("Write `schedule: {{cron: ...}}` into pipelines/{name}.yaml.");
                    findings
                        .warn(format!("{name} has no schedule: its DAG runs when somebody starts it"), next);
                }
            }
        }
    }
    let mut databases = project.backups.databases.iter();
    if databases.any(|database| database.scheduled_by == Some(Scheduler::Airflow)) {
        backups(files, &mut findings);
    }
    let next = "On the scheduler, `sankofa_airflow doctor`; then unpause the DAGs.";
    findings.warn("Airflow's own side cannot be seen from here", next);
    findings
}

/// A DAG that runs `extract`, `validate` and `load` needs a place between them.
fn steps(project: &Project, pipeline: &Pipeline, findings: &mut Findings) {
    if project.stage.is_none() && pipeline.schedule.run_as == RunAs::Steps {
        let name = &pipeline.name;
        let said = format!("the DAG of {name} runs in steps, and sankofa.yaml has no `stage:` between them");
        let next = format!(
            "Add `stores:` and `stage: {{store: ...}}` to sankofa.yaml, or `schedule: {{run_as: sync}}` to pipelines/{name}.yaml."
        );
        findings.fail(Kind::Config, said, next);
    }
}

/// The lock of backups may lie where the operator keeps it.
fn backups(files: &Files, findings: &mut Findings) {
    let Some(lock) = findings.answer(Lock::of_backups(files)) else { return };
    let path = lock.path(&locks::folder(files));
    match path.exists() {
        true => is_in_step(Ok(lock), files, findings),
        false => findings.warn(
            format!("{} is not there: the lock of the backups that Airflow starts lies elsewhere, or nowhere", path.display()),
            "`sankofa config compile --backups --out DIR --check`, with the folder of `[sankofa] backups` in airflow.cfg.",
        ),
    }
}

fn is_in_step(lock: Result<Lock>, files: &Files, findings: &mut Findings) {
    let Some(lock) = findings.answer(lock) else { return };
    let folder = locks::folder(files);
    let path = lock.path(&folder);
    if lock.is_current(&folder) {
        findings.ok(format!("{} is what its files say", path.display()));
    } else if path.exists() {
        findings.failed(&lock.stale());
    } else {
        let hint = lock.stale().hint.unwrap_or_default();
        findings.fail(Kind::Config, format!("{} is not there", path.display()), hint);
    }
}
