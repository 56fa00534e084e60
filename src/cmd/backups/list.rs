//! `sankofa backups list`.

use super::{Open, by_store};
use crate::backup::drill;
use crate::backup::drills::Drilled;
use crate::backup::holders::short;
use crate::backup::inventory::{self, Backup, Inventory, State};
use crate::backup::manifest::Kind;
use crate::backup::restore::predict::predict;
use crate::backup::{names, stores};
use crate::config::model::Database;
use crate::error::{Failure, classify, most_serious};
use crate::report::lines::{ago, columns, span};
use crate::report::{Report, duration, grouped, plain, size};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Show what is stored: when, how large, whether it is good and proven, what opens it
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database, by its name in sankofa.yaml [default: all]
    pub database: Option<String>,
}

/// What lies in one store.
struct Looked {
    place: String,
    inventory: Inventory,
    drills: Vec<Drilled>,
    databases: Vec<Database>,
}

pub async fn run(args: &Args, open: &Open<'_>) -> anyhow::Result<Report> {
    let databases = open.databases(args.database.as_deref())?;
    open.fetch(&databases, []).await;
    let (mut looked, mut failures) = (Vec::new(), Vec::new());
    for (place, those) in by_store(databases, |one| &one.place) {
        let look = async {
            let store = stores::open(place, None, &open.resolver).await?;
            let environment = &open.project.environment;
            let home = args.database.as_deref().map(|name| names::home(Kind::Database, name));
            let prefix = home.as_deref().unwrap_or_default();
            let inventory = inventory::take(store.as_ref(), prefix, environment).await?;
            let mut drills = Vec::new();
            for database in &those {
                drills.extend(drill::records(store.as_ref(), &database.name).await?);
            }
            let databases = those.into_iter().cloned().collect();
            anyhow::Ok(Looked { place: store.place(), inventory, drills, databases })
        };
        match look.await {
            Ok(one) => looked.push(one),
            Err(error) => failures.push(classify(&error)),
        }
    }
    Ok(report(open, &looked, most_serious(&failures)))
}

fn report(open: &Open<'_>, looked: &[Looked], failure: Option<&Failure>) -> Report {
    let now = Timestamp::now();
    let mut report = open.context.report();
    let every = || looked.iter().flat_map(|one| one.databases.iter().map(move |database| (one, database)));
    report.extra.insert("databases".into(), every().map(|(one, of)| summary(one, of, now)).collect());
    let all: Vec<Value> =
        every().flat_map(|(one, of)| one.of(of).map(|backup| one.to_json(backup, now))).collect();
    report.extra.insert("backups".into(), Value::Array(all));
    report.warnings = looked.iter().flat_map(Looked::warnings).collect();
    let text: String = looked.iter().map(|one| one.to_text(now)).collect();
    let report = report.for_person(text);
    match failure {
        Some(failure) => report.failed(failure),
        None => report,
    }
}

fn summary(looked: &Looked, of: &Database, now: Timestamp) -> Value {
    let good: Vec<&Backup> = looked.of(of).filter(|one| one.is_good()).collect();
    let newest = good.first().map(|one| one.manifest.started_at);
    json!({
        "database": of.name, "store": looked.place, "good": good.len(),
        "other": looked.of(of).count() - good.len(),
        "bytes": looked.of(of).map(Backup::bytes).sum::<u64>(),
        "newest_at": newest, "age_s": newest.map(|at| now.duration_since(at).as_secs()),
    })
}

impl Looked {
    fn of(&self, database: &Database) -> impl Iterator<Item = &Backup> {
        let home = names::home(Kind::Database, &database.name);
        self.inventory.backups.iter().filter(move |backup| backup.home == home)
    }

    /// The newest drill of this backup.
    fn drill(&self, backup: &Backup) -> Option<&Drilled> {
        let name = &backup.manifest.database;
        self.drills.iter().find(|drill| drill.backup == backup.id && drill.database == *name)
    }

    fn to_json(&self, backup: &Backup, now: Timestamp) -> Value {
        let manifest = &backup.manifest;
        let (state, why) = state(backup);
        let drill = self.drill(backup);
        let age_s = now.duration_since(manifest.started_at).as_secs();
        json!({
            "database": manifest.database, "id": backup.id, "started_at": manifest.started_at, "age_s": age_s,
            "bytes": backup.bytes(), "database_bytes": manifest.source.database_bytes,
            "rows": manifest.counts.rows, "state": state, "why": why, "recipients": manifest.recipients,
            "retired_recipients": self.retired(backup),
            "drilled_at": drill.map(|one| one.ended_at), "proven": drill.map(|one| one.proven),
            "restore_ms": self.restore_ms(backup), "locked_until": locked_until(backup),
        })
    }

    /// Recipients of it that `encrypt_to:` no longer names.
    fn retired<'a>(&self, backup: &'a Backup) -> Vec<&'a String> {
        let of = self.databases.iter().find(|one| one.name == backup.manifest.database);
        let named = |recipient: &&String| of.is_some_and(|one| one.encrypt_to.contains(recipient));
        backup.manifest.recipients.iter().filter(|one| !named(one)).collect()
    }

    /// Who opens it, in a few letters.
    fn opens(&self, backup: &Backup) -> String {
        let retired = self.retired(backup);
        let one = |recipient: &String| {
            let mark = if retired.contains(&recipient) { " (retired)" } else { "" };
            format!("{}{mark}", short(recipient))
        };
        backup.manifest.recipients.iter().map(one).collect::<Vec<_>>().join(" or ")
    }

    /// How long a restore of it would take; `None` before any was measured.
    fn restore_ms(&self, backup: &Backup) -> Option<u64> {
        let (name, object) = (&backup.manifest.database, &backup.manifest.object);
        let of_it = |one: &&Drilled| one.proven && one.database == *name;
        let mut measured: Vec<_> = self.drills.iter().filter(of_it).map(drill::measured).collect();
        if measured.is_empty() {
            // What another database of this store took says more than an assumption.
            measured = self.drills.iter().filter(|one| one.proven).map(drill::measured).collect();
        }
        let prediction = predict(&measured, object.stored_bytes, object.plain_bytes);
        (prediction.measured > 0).then(|| prediction.phases.total_ms())
    }

    fn warnings(&self) -> Vec<String> {
        let known: Vec<String> =
            self.databases.iter().map(|one| names::home(Kind::Database, &one.name)).collect();
        let mut said: Vec<String> =
            self.inventory.notes.iter().map(|(folder, note)| format!("{folder}: {note}")).collect();
        let unreadable = &self.inventory.unreadable;
        said.extend(unreadable.iter().map(|one| format!("{}{}: {}", one.home, one.id, one.why)));
        said.extend(self.inventory.orphans.iter().map(|one| {
            format!("{}{} has no manifest: a backup that runs, or one that never ended", one.home, one.id)
        }));
        let strange = |one: &&Backup| one.manifest.kind == Kind::Database && !known.contains(&one.home);
        let mut strangers: Vec<&str> =
            self.inventory.backups.iter().filter(strange).map(|one| one.home.as_str()).collect();
        strangers.dedup();
        said.extend(
            strangers
                .iter()
                .map(|home| format!("{home} holds backups of a database that is not in sankofa.yaml")),
        );
        said
    }

    fn to_text(&self, now: Timestamp) -> String {
        let mut text = String::new();
        for database in &self.databases {
            let all: Vec<&Backup> = self.of(database).collect();
            let good = all.iter().filter(|one| one.is_good()).count();
            let newest = all.iter().find(|one| one.is_good()).map(|one| age(one, now));
            let bytes = size(all.iter().map(|one| one.bytes()).sum());
            let newest = newest.map_or("NO GOOD BACKUP".into(), |age| format!("the newest is {age}"));
            text.push_str(&format!("{} in {}: {good} good, {bytes}; {newest}\n", database.name, self.place));
            if !all.is_empty() {
                let header =
                    ["backup", "began", "", "size", "rows", "state", "opens with", "proven", "restore takes"];
                let rows: Vec<_> = all.iter().map(|one| self.row(one, now)).collect();
                text.push_str(&columns(&header, &rows));
            }
            for (one, why) in all.iter().filter_map(|one| Some((one, state(one).1?))) {
                text.push_str(&format!("  {}: {}\n", one.id, plain(&why)));
            }
        }
        for warning in self.warnings() {
            text.push_str(&format!("warning: {}\n", plain(&warning)));
        }
        text
    }

    fn row(&self, backup: &Backup, now: Timestamp) -> Vec<String> {
        let manifest = &backup.manifest;
        let began =
            manifest.started_at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        let proven = match self.drill(backup) {
            Some(drill) if drill.proven => ago(now.duration_since(drill.ended_at).as_secs()),
            Some(_) => "FAILED".into(),
            None => "-".into(),
        };
        let takes = self.restore_ms(backup).map_or("unknown".into(), duration);
        vec![
            backup.id.clone(),
            began,
            age(backup, now),
            size(backup.bytes()),
            grouped(manifest.counts.rows),
            state(backup).0.into(),
            self.opens(backup),
            proven,
            takes,
        ]
    }
}

fn age(backup: &Backup, now: Timestamp) -> String {
    match now.duration_since(backup.manifest.started_at).as_secs() {
        ahead if ahead < 0 => format!("{} AHEAD", span(ahead.unsigned_abs())),
        seconds => ago(seconds),
    }
}

/// The word for a backup's state, and what is wrong with it.
fn state(backup: &Backup) -> (&'static str, Option<String>) {
    match &backup.state {
        State::Good => ("good", None),
        State::Incomplete(why) => ("INCOMPLETE", Some(why.clone())),
        State::OfEnvironment(other) => ("other", Some(format!("made by environment {other}"))),
    }
}

fn locked_until(backup: &Backup) -> Option<Timestamp> {
    backup.versions.iter().filter_map(|version| version.locked_until).max()
}
