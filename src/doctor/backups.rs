//! What backups need: stores that can be listed and written, rules of buckets that delete nothing by
//! themselves, databases that can be dumped by the right programs.

use super::{Findings, Verdict, drills, readable};
use crate::backup::inventory::{self, Backup};
use crate::backup::manifest::{Kind as What, PROOF};
use crate::backup::source::{self, Opening};
use crate::backup::{dump, holders, names, stores};
use crate::config::model::{Database, Project, StorePlace};
use crate::error::Kind;
use crate::pg::tool::{Tools, folders};
use crate::secret::Resolver;
use crate::store::{Rules, Store, Terms};
use anyhow::Result;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " doctor");
/// A key that may hide could otherwise have everything deleted within days.
const HIDDEN_DAYS: u32 = 7;

/// Asks everything about what is backed up; with `fix`, the rules of buckets are set right first.
pub async fn examine(
    project: &Project,
    resolver: &Resolver,
    variables: &BTreeMap<String, String>,
    fix: bool,
) -> Vec<Findings> {
    let databases = &project.backups.databases;
    let mut all = Vec::new();
    let mut seen: Vec<&StorePlace> = Vec::new();
    for database in databases {
        if seen.contains(&&database.place) {
            continue;
        }
        seen.push(&database.place);
        let those: Vec<&Database> = databases.iter().filter(|one| one.place == database.place).collect();
        let mut findings = Findings::about(format!("store {}", database.store));
        let asked = store(&those, resolver, fix, &mut findings).await;
        findings.answer(asked);
        all.push(findings);
    }
    for database in databases {
        let mut findings = Findings::about(format!("backup {}", database.name));
        let asked = dumpable(database, resolver, variables, &mut findings).await;
        findings.answer(asked);
        stored(database, &project.environment, resolver, &mut findings).await;
        all.push(findings);
    }
    all.extend(drills::left_on_sources(project, resolver).await);
    all
}

/// One store, which `those` share.
async fn store(those: &[&Database], resolver: &Resolver, fix: bool, findings: &mut Findings) -> Result<()> {
    let Some(first) = those.first() else { return Ok(()) };
    let store = stores::open(&first.place, None, resolver).await?;
    let home = names::home(What::Database, &first.name);
    let listed = store.list(&home).await?;
    findings.ok(format!("{} can be listed: {} objects under {home}", store.place(), listed.len()));
    for database in those {
        let asked = probe(&store, database).await;
        if findings.answer(asked).is_some() {
            findings.ok(format!("takes uploads for {}", database.name));
        }
        if let Some(key) = &database.prune_connection {
            let asked = async { stores::open(&first.place, Some(key), resolver).await?.list(&home).await };
            if findings.answer(asked.await).is_some() {
                findings.ok(format!("the key of {key}, for prune, can list"));
            }
        }
    }
    if matches!(first.place, StorePlace::Directory(_)) {
        let locks = those.iter().filter(|one| one.lock.is_some());
        for database in locks {
            let said = format!("`lock:` of {} needs a bucket with Object Lock", database.name);
            findings.fail(Kind::Config, said, "Leave `lock:` out, or use a bucket.");
        }
        return Ok(());
    }
    let longest = those.iter().map(|one| one.keep.days).max().unwrap_or_default();
    let keep_days = longest.max(HIDDEN_DAYS);
    if fix {
        set(&store, those, keep_days, findings).await;
    }
    rules(&store.rules("").await?, those, findings);
    Ok(())
}

/// Sets the rules of the bucket, and its default Object Lock to the longest `lock:`.
async fn set(store: &Arc<dyn Store>, those: &[&Database], keep_days: u32, findings: &mut Findings) {
    let asked = store.set_rules("", keep_days).await;
    if findings.answer(asked) == Some(true) {
        findings.ok(format!("its rules were set: hidden versions go after {keep_days} days"));
    }
    let longest = those.iter().filter_map(|one| one.lock).max_by_key(|lock| lock.days);
    let Some(lock) = longest else { return };
    let asked = store.set_default_lock(lock.days, lock.mode).await;
    if findings.answer(asked) == Some(true) {
        findings.ok(format!("its default Object Lock was set: {} days", lock.days));
    }
}

/// Begins an upload and withdraws it: nothing is left, and a right that is missing is found.
async fn probe(store: &Arc<dyn Store>, database: &Database) -> Result<()> {
    let id = names::id(Timestamp::now(), &uuid::Uuid::now_v7().simple().to_string());
    let name = format!("{}{id}/{PROOF}", names::home(What::Database, &database.name));
    let is_lockable = !matches!(database.place, StorePlace::Directory(_));
    let lock = database.lock.filter(|_| is_lockable).map(|lock| (lock.days, lock.mode));
    let mut upload = store.begin(&name, &Terms::locked(lock)).await?;
    let fed = upload.feed(Bytes::from_static(b"probe of sankofa doctor")).await;
    upload.cancel().await;
    fed
}

/// What the bucket would do by itself, against what the project wants.
fn rules(rules: &Rules, those: &[&Database], findings: &mut Findings) {
    const FIX: &str = "`sankofa doctor --fix` sets the rules, with a key that may.";
    for unknown in &rules.unknown {
        findings.warn(format!("cannot be read: {unknown}"), "Look at it with a key that may.");
    }
    let are_known = !rules.unknown.iter().any(|unknown| unknown.contains("ifecycle"));
    if let Some(days) = rules.expires_after_days {
        let said = format!("a rule hides or deletes what is {days} days old, the last good backups included");
        findings.fail(Kind::Config, said, FIX);
    } else if are_known {
        findings.ok("no rule hides or deletes what is current");
    }
    match rules.drops_unfinished_after_days {
        Some(days) => findings.ok(format!("uploads that never ended are dropped after {}", plural(days))),
        None if are_known => findings.warn("uploads that never ended are kept, and billed", FIX),
        None => (),
    }
    match rules.drops_hidden_after_days {
        Some(days) if days < HIDDEN_DAYS => findings.warn(
            format!(
                "hidden versions are deleted after {days} days: a stolen key that hides could delete soon"
            ),
            FIX,
        ),
        Some(days) => findings.ok(format!("hidden versions are deleted after {days} days")),
        None if are_known => findings.warn("hidden versions are kept, and billed, for ever", FIX),
        None => (),
    }
    for database in those {
        lock(rules, database, findings);
    }
}

fn plural(days: u32) -> String {
    if days == 1 { "1 day".into() } else { format!("{days} days") }
}

fn lock(rules: &Rules, database: &Database, findings: &mut Findings) {
    let name = &database.name;
    let lock_is_known = !rules.unknown.iter().any(|unknown| unknown.contains("Lock"));
    let days = match database.lock {
        Some(_) if !rules.can_lock && lock_is_known => {
            let said = format!("`lock:` of {name} needs Object Lock, and the bucket has none");
            return findings.fail(
                Kind::Config,
                said,
                "Enable Object Lock on the bucket, or leave `lock:` out.",
            );
        }
        Some(own) => {
            findings.ok(format!("uploads for {name} are locked for {} days", own.days));
            own.days.max(rules.default_lock.map_or(0, |(days, _)| days))
        }
        None => match rules.default_lock {
            Some((days, _)) => days,
            None => return,
        },
    };
    if days > database.keep.days {
        let said = format!(
            "what is stored for {name} is locked for {days} days, and `keep:` lets it go after {}: it stays",
            database.keep.days
        );
        findings.warn(said, "Make `keep: {days: ...}` as long as the lock, or the lock shorter.");
    }
}

/// Whether the database can be dumped from here.
async fn dumpable(
    database: &Database,
    resolver: &Resolver,
    variables: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Result<()> {
    let connection = resolver.connection(&database.connection).await?;
    let opening = Opening {
        database: &database.name,
        environment: "",
        application_name: NAME,
        take_over: false,
        look_only: true,
    };
    let source = source::open(&connection, &opening).await?;
    findings.ok(format!("PostgreSQL {}, not behind a transaction pooler", source.facts.server_version));
    for warning in &source.warnings {
        findings.add(Verdict::Warn, warning, None);
    }
    let major = source.major();
    source.close().await;
    let asked = readable::examine(&connection, NAME, findings).await;
    findings.answer(asked);
    let tools = Tools::find(major, dump::PROGRAMS, &folders(major, variables)).await?;
    findings.ok(format!("dumped by the programs of {} in {}", tools.version, tools.folder.display()));
    Ok(())
}

/// Whether there is one already.
async fn stored(database: &Database, environment: &str, resolver: &Resolver, findings: &mut Findings) {
    findings.ok(format!("encrypted to {}", holders::any_of(&database.encrypt_to)));
    match good(database, environment, resolver).await.as_deref() {
        Some([]) => findings.step(
            "there is no good backup of it yet",
            format!("`sankofa backup {}`, then `sankofa drill {0}`.", database.name),
        ),
        Some(good) => findings.ok(format!("{} good backups are stored", good.len())),
        None => (), // a store that cannot be read is told where stores are looked at
    }
}

/// The good backups of a database; `None` where the store cannot be read.
pub async fn good(database: &Database, environment: &str, resolver: &Resolver) -> Option<Vec<Backup>> {
    let store = stores::open(&database.place, None, resolver).await.ok()?;
    let home = names::home(What::Database, &database.name);
    let inventory = inventory::take(store.as_ref(), &home, environment).await.ok()?;
    Some(inventory.backups.into_iter().filter(Backup::is_good).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::backups::{Codec, Keep, Lock};
    use crate::store::LockMode;
    use std::time::Duration;

    fn hr(lock: Option<u32>) -> Database {
        Database {
            name: "hr".into(),
            connection: "hr_db".into(),
            store: "off".into(),
            place: StorePlace::Directory("off".into()),
            encrypt_to: Vec::new(),
            identities: Vec::new(),
            keep: Keep { days: 30, at_least: 7, daily: 0, weekly: 0, monthly: 0 },
            expected_every: Duration::from_secs(1),
            restore_within: Duration::from_secs(1),
            prune_connection: None,
            scheduled_by: None,
            codec: Codec::Zstd,
            lock: lock.map(|days| Lock { days, mode: LockMode::Governance }),
        }
    }

    /// What is said that is not in order.
    fn said(found: &Rules, database: &Database) -> Vec<(Verdict, String)> {
        let mut findings = Findings::about("store");
        rules(found, &[database], &mut findings);
        let wrong = findings.all.into_iter().filter(|one| one.verdict != Verdict::Ok);
        wrong.map(|one| (one.verdict, one.said)).collect()
    }

    fn right() -> Rules {
        Rules {
            drops_hidden_after_days: Some(30),
            drops_unfinished_after_days: Some(1),
            can_lock: true,
            ..Rules::default()
        }
    }

    #[test]
    fn a_rule_that_would_remove_the_last_good_backup_is_an_error() {
        assert_eq!(said(&right(), &hr(None)), []);
        let wrong = said(&Rules { expires_after_days: Some(30), ..right() }, &hr(None));
        assert_eq!(wrong[0].0, Verdict::Fail(Kind::Config));
        assert!(wrong[0].1.contains("the last good backups included"));
    }

    #[test]
    fn what_is_billed_for_ever_or_gone_too_soon_is_told() {
        let none = Rules { drops_hidden_after_days: None, drops_unfinished_after_days: None, ..right() };
        assert_eq!(said(&none, &hr(None)).len(), 2);
        assert_eq!(said(&Rules { drops_hidden_after_days: Some(1), ..right() }, &hr(None)).len(), 1);
        let unknown = Rules { unknown: vec!["lifecycle rules: the key needs x".into()], ..Rules::default() };
        let told = said(&unknown, &hr(None));
        assert_eq!((told.len(), &told[0].0), (1, &Verdict::Warn));
    }

    #[test]
    fn a_lock_needs_a_bucket_that_can_lock_and_should_not_outlast_what_is_kept() {
        assert_eq!(said(&right(), &hr(Some(30))), []);
        assert_eq!(
            said(&Rules { can_lock: false, ..right() }, &hr(Some(30)))[0].0,
            Verdict::Fail(Kind::Config)
        );
        assert!(said(&right(), &hr(Some(31)))[0].1.contains("locked for 31 days"));
        let by_default = Rules { default_lock: Some((90, LockMode::Compliance)), ..right() };
        assert!(said(&by_default, &hr(None))[0].1.contains("locked for 90 days"));
    }
}
