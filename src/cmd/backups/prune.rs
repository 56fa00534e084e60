//! `sankofa backups prune`.

use super::{Open, by_store};
use crate::backup::inventory::Inventory;
use crate::backup::manifest::Kind;
use crate::backup::prune::{Item, Keys, Plan, Policies, Pruned, prune};
use crate::backup::{names, stores};
use crate::error::{Failure, classify, most_serious};
use crate::report::lines::columns;
use crate::report::{Report, size};
use crate::secret::Asked;
use serde_json::{Value, json};

/// Delete backups that `keep:` no longer keeps, never below its `at_least` good ones
///
/// The manifest goes first, then the objects. What the store has locked, what is not ours and what
/// cannot be read stays, and is told. What a run left unfinished goes after two days.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Database, by its name in sankofa.yaml [default: all]
    pub database: Option<String>,
    /// Show what would be done and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What happened in one store.
struct Done {
    place: String,
    inventory: Inventory,
    plan: Plan,
    pruned: Pruned,
}

pub async fn run(args: &Args, open: &Open<'_>) -> anyhow::Result<Report> {
    let databases = open.databases(args.database.as_deref())?;
    let keys = databases.iter().filter_map(|one| one.prune_connection.as_deref());
    open.fetch(&databases, keys.map(Asked::Connection)).await;
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for ((place, key), those) in by_store(databases, |one| (&one.place, one.prune_connection.as_deref())) {
        let policies: Policies =
            those.iter().map(|one| (names::home(Kind::Database, &one.name), one.keep)).collect();
        let in_store = async {
            let own = stores::open(place, None, &open.resolver).await.ok(); // prune may have its key alone
            let store = stores::open(place, key, &open.resolver).await?;
            let keys = Keys { own: own.as_deref(), prune: store.as_ref() };
            let environment = &open.project.environment;
            let (inventory, plan, pruned) =
                prune(keys, &policies, environment, args.dry_run, &open.context.stop).await?;
            anyhow::Ok(Done { place: store.place(), inventory, plan, pruned })
        };
        match in_store.await {
            Ok(one) => done.push(one),
            Err(error) => failures.push(classify(&error)),
        }
        if open.context.stop.reason().is_some() {
            break;
        }
    }
    Ok(report(args, open, &done, most_serious(&failures)))
}

fn report(args: &Args, open: &Open<'_>, done: &[Done], failure: Option<&Failure>) -> Report {
    let mut report = open.context.report();
    let going: Vec<&Item> = done.iter().flat_map(|one| one.plan.going()).collect();
    let deleted: u64 = done.iter().map(|one| one.pruned.bytes).sum();
    report.bytes = if args.dry_run { going.iter().map(|item| item.bytes).sum() } else { deleted };
    let items: usize = done.iter().map(|one| one.plan.items.len()).sum();
    let foreign: usize = done.iter().map(|one| one.inventory.foreign.len()).sum();
    let revived = done.iter().flat_map(|one| &one.pruned.revived);
    let locked = done.iter().flat_map(|one| &one.pruned.locked);
    for (name, value) in [
        ("database", json!(args.database)),
        ("dry_run", json!(args.dry_run)),
        ("bytes_freed", json!(report.bytes)),
        ("kept", json!(items - going.len())),
        ("foreign", json!(foreign)),
        ("revived", json!(revived.collect::<Vec<_>>())),
        ("locked", locked.map(|(folder, until)| json!({"folder": folder, "until": until})).collect()),
        ("deleted", going.iter().map(|item| told(item)).collect()),
    ] {
        report.extra.insert(name.to_owned(), value);
    }
    report.warnings = done.iter().flat_map(warnings).collect();
    let report = report.for_person(words(args, done));
    match failure {
        Some(failure) => report.failed(failure),
        None => report,
    }
}

fn told(item: &Item) -> Value {
    json!({"folder": item.folder(), "what": item.what.word(), "bytes": item.bytes, "why": item.verdict.why})
}

fn warnings(done: &Done) -> Vec<String> {
    let odd = done.inventory.notes.iter().map(|(folder, note)| format!("{folder}: {note}"));
    let unreadable =
        done.inventory.unreadable.iter().map(|one| format!("{}{} stays: {}", one.home, one.id, one.why));
    let locked = done.pruned.locked.iter().map(|(folder, until)| match until {
        Some(until) => format!("{folder} stays: the store has locked it until {until}"),
        None => format!("{folder} stays: the store has locked it"),
    });
    odd.chain(unreadable).chain(locked).collect()
}

fn words(args: &Args, done: &[Done]) -> String {
    let mut text = String::new();
    for one in done {
        text.push_str(&format!("{}\n", one.place));
        let row = |item: &Item| {
            let verdict = match (item.verdict.keep, args.dry_run) {
                (true, _) => "stays",
                (false, true) => "would go",
                (false, false) => "gone",
            };
            let size = size(item.bytes);
            vec![item.folder(), item.what.word().into(), size, verdict.into(), item.verdict.why.clone()]
        };
        let rows: Vec<_> = one.plan.items.iter().map(row).collect();
        text.push_str(&columns(&["folder", "what", "size", "", "why"], &rows));
        for warning in warnings(one) {
            text.push_str(&format!("  warning: {}\n", crate::report::plain(&warning)));
        }
        match one.inventory.foreign.len() {
            0 => (),
            count => text.push_str(&format!("  {count} objects are not ours and stay as they are\n")),
        }
        let going: u64 = one.plan.going().map(|item| item.bytes).sum();
        let (verb, bytes) =
            if args.dry_run { ("would be freed", going) } else { ("freed", one.pruned.bytes) };
        text.push_str(&format!("  {verb}: {}\n", size(bytes)));
    }
    text
}
