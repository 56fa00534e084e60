//! `sankofa backups verify`.

use super::{Open, by_store};
use crate::backup::inventory::{self, Backup};
use crate::backup::manifest::Kind;
use crate::backup::restore::identity::Places;
use crate::backup::seal::Identities;
use crate::backup::verify::{Checked, verify};
use crate::backup::{earlier, names, stores};
use crate::cmd::open;
use crate::cmd::record;
use crate::config::model::Database;
use crate::error::{Failure, Kind as ErrorKind, classify, most_serious, nearest_hint};
use crate::ledger::records::{self, Verification};
use crate::report::{Report, grouped, plain, size};
use crate::store::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_postgres::Client;

/// Read whole backups back and compare every byte with its hash, without a database
///
/// With an identity at hand (`identities:`) they are decrypted, unpacked and read through, too, and
/// compared with their proof.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database, by its name in sankofa.yaml [default: all]
    pub database: Option<String>,
    /// The backup with this id [default: the newest good one of each database]
    #[arg(long, value_name = "ID", requires = "database")]
    pub backup: Option<String>,
    /// Every backup
    #[arg(long, conflicts_with = "backup")]
    pub all: bool,
}

/// What became of one backup.
struct Outcome {
    folder: String,
    /// Name of its database, and its id.
    of: Option<(String, String)>,
    checked: Result<Checked, Failure>,
}

pub async fn run(args: &Args, open: &Open<'_>) -> anyhow::Result<Report> {
    let databases = open.databases(args.database.as_deref())?;
    let identities = databases.iter().flat_map(|one| open::identities(one, &[]));
    open.fetch(&databases, identities.chain(open::warehouse(&open.project))).await;
    let mut outcomes = Vec::new();
    for (place, those) in by_store(databases, |one| &one.place) {
        let store = stores::open(place, None, &open.resolver).await?;
        for database in those {
            outcomes.extend(of_database(args, open, &store, database).await?);
        }
    }
    let mut report = report(open, &outcomes);
    let rows: Vec<Verification> = outcomes.iter().filter_map(Outcome::row).collect();
    let write = async |client: &Client| {
        for row in &rows {
            records::verification(client, row).await?;
        }
        Ok(())
    };
    report.warnings.extend(record::note(&open.project, &open.resolver, write).await);
    Ok(report)
}

async fn of_database(
    args: &Args,
    open: &Open<'_>,
    store: &Arc<dyn Store>,
    database: &Database,
) -> anyhow::Result<Vec<Outcome>> {
    let home = names::home(Kind::Database, &database.name);
    let inventory = inventory::take(store.as_ref(), &home, &open.project.environment).await?;
    if let Some(other) = inventory.owned_by_other(|_| true) {
        return Err(earlier::foreign(store.as_ref(), &open.project.environment, other).into());
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut chosen: Vec<&Backup> = inventory.of(&home).collect();
    if let Some(id) = &args.backup {
        chosen.retain(|backup| backup.id == *id);
        if chosen.is_empty() {
            let known = inventory.of(&home).map(|backup| backup.id.as_str());
            let what = format!("cannot find backup {id} of {}", database.name);
            return Err(Failure::config(what).hint(nearest_hint(id, known)).into());
        }
    } else if !args.all {
        chosen.retain(|backup| backup.is_good());
        chosen.truncate(1);
        if chosen.is_empty() {
            let what = format!("cannot verify {}: there is no good backup", database.name);
            outcomes.push(Outcome { folder: home.clone(), of: None, checked: Err(Failure::data(what)) });
        }
    }
    if args.all {
        outcomes.extend(inventory.unreadable.iter().map(|one| {
            let folder = format!("{}{}/", one.home, one.id);
            let checked = Err(Failure::data(format!("cannot verify {folder}: {}", one.why)));
            Outcome { folder, of: Some((database.name.clone(), one.id.clone())), checked }
        }));
    }
    let places = Places { resolver: &open.resolver, variables: &database.identities, files: &[] };
    let mut identities = Identities::default();
    places.held().await?.0.into_iter().for_each(|one| identities.extend(one.identity));
    for backup in chosen {
        let progress = open.context.progress(format!("verifying {}", backup.folder()));
        let counter = progress.table(&backup.id, None);
        let checked = verify(store, backup, &identities, &counter).await;
        counter.done();
        let checked = checked.map_err(|error| classify(&error));
        let of = Some((database.name.clone(), backup.id.clone()));
        outcomes.push(Outcome { folder: backup.folder(), of, checked });
        if let Some(reason) = open.context.stop.reason() {
            return Err(reason.failure().into());
        }
    }
    Ok(outcomes)
}

fn report(open: &Open<'_>, outcomes: &[Outcome]) -> Report {
    let mut report = open.context.report();
    let checked = || outcomes.iter().filter_map(|one| one.checked.as_ref().ok());
    report.bytes = checked().map(|one| one.stored_bytes).sum();
    report.rows = checked().filter_map(|one| one.rows).sum();
    report.extra.insert("verified".into(), json!(checked().count()));
    report.extra.insert("damaged".into(), json!(outcomes.len() - checked().count()));
    report.extra.insert("backups".into(), outcomes.iter().map(Outcome::to_json).collect());
    let failures: Vec<Failure> =
        outcomes.iter().filter_map(|one| one.checked.as_ref().err()).cloned().collect();
    let text: String = outcomes.iter().map(Outcome::to_text).collect();
    let report = report.for_person(text);
    match most_serious(&failures) {
        Some(failure) => report.failed(failure),
        None => report,
    }
}

impl Outcome {
    /// As the warehouse keeps it; a store that could not be asked says nothing about a backup.
    fn row(&self) -> Option<Verification> {
        let (database, backup) = self.of.clone()?;
        let row = Verification { database, backup, ..Verification::default() };
        match &self.checked {
            Ok(checked) => Some(Verification {
                opened: checked.rows.is_some(),
                stored_bytes: checked.stored_bytes,
                ..row
            }),
            Err(failure) if failure.kind == ErrorKind::Data => {
                Some(Verification { failure: Some(failure.clone()), ..row })
            }
            Err(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        match &self.checked {
            Ok(checked) => json!({
                "folder": self.folder, "bytes": checked.stored_bytes, "opened": checked.rows.is_some(),
                "rows": checked.rows, "not_opened": checked.not_opened, "error": null,
            }),
            Err(failure) => json!({"folder": self.folder, "error": failure.what}),
        }
    }

    fn to_text(&self) -> String {
        match &self.checked {
            Err(failure) => format!("DAMAGED  {}: {}\n", self.folder, plain(&failure.what)),
            Ok(checked) => {
                let bytes = size(checked.stored_bytes);
                let inside = match (checked.rows, &checked.not_opened) {
                    (Some(rows), _) => format!("opened: {} rows as its proof says", grouped(rows)),
                    (None, Some(why)) => format!("not opened: {}", plain(why)),
                    (None, None) => "not opened".into(),
                };
                format!("ok       {}: {bytes} as its manifest says; {inside}\n", self.folder)
            }
        }
    }
}
