//! One restore from its first byte to the database's name.
//!
//! In:    a chosen backup, a server that was looked at, what a person asked for.
//! Out:   [`Restored`]; on failure a server as it was before, or a leftover that the next restore removes.
//! Holds: the order below: verify, look for what is missing, make or mark, fill, prove, name.
//! Not here: choosing (`choose`), each step (`verify`, `check`, `place`, `apply`, `backup::prove`).

use super::apply::{Manner, apply};
use super::globals::Applied;
use super::guard::{Allowed, Entry};
use super::place::{self, Marker, Place};
use super::plan::Plan;
use super::predict::Measured;
use super::select::Wanted;
use super::spool::Spool;
use super::target::Target;
use super::verify::{Output, Verified, verify};
use super::{globals, guard, properties, verify as verified};
use crate::backup::inventory::{self, Backup};
use crate::backup::prove::Prover;
use crate::backup::seal::Identities;
use crate::error::Failure;
use crate::pg::tool::Tools;
use crate::progress::{Progress, Shown, TableProgress};
use crate::stop::StopSignal;
use crate::store::Store;
use anyhow::{Context, Result};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// What is restored, how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The database's name in the project.
    pub database: String,
    /// What of it.
    pub wanted: Wanted,
    /// What may be written over.
    pub allowed: Allowed,
    /// How `pg_restore` runs.
    pub manner: Manner,
    /// Roles are brought back first.
    pub with_globals: bool,
    /// The rows are compared with the proof.
    pub prove: bool,
    /// The database is only a trial: it is dropped in the end, whatever comes of it.
    pub scratch: bool,
    /// Directory of the spool.
    pub spool: PathBuf,
}

/// What a restore needs of the outside.
pub struct Hands<'a> {
    /// Where the backup lies.
    pub store: &'a Arc<dyn Store>,
    /// The backup.
    pub backup: &'a Backup,
    /// What opens it.
    pub identities: &'a Identities,
    /// Programs of the dump's major version.
    pub tools: &'a Tools,
    /// The wish to stop.
    pub stop: &'a StopSignal,
    /// Where progress is shown.
    pub shown: &'a Shown,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Name of the database, in the end.
    pub name: String,
    /// Time by phase.
    pub measured: Measured,
    /// Tables that were compared, and their rows.
    pub tables: u64,
    /// Rows of these.
    pub rows: u64,
    /// Tables and other sets that differ from the proof, by name.
    pub different: Vec<String>,
    /// What was restored and cannot be compared.
    pub not_covered: Vec<String>,
    /// Roles, where they were brought back.
    pub globals: Option<Applied>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Restores `hands.backup` into `target`.
///
/// # Errors
/// 65 for a damaged backup, before anything is written, and for one whose rows differ afterwards; 78
/// for a target that lacks something; as each step.
pub async fn restore(wish: &Wish, hands: &Hands<'_>, target: &Target) -> Result<Restored> {
    let source = &hands.backup.manifest.source;
    guard::check_version(target, source)?;
    let entry = guard::decide(target, source, &wish.allowed)?;
    let work = Work { wish, hands, target };
    let fetched = work.fetch().await?;
    let plan = Plan::of(wish, fetched.output.spool.reopened()?, &fetched.proof)?;
    plan.check(target, !wish.with_globals).await?;
    if entry == Entry::Add {
        plan.refuse_what_is_there(target).await?;
    }
    let globals = work.bring_globals().await?;
    if globals.is_some() {
        plan.check(target, true).await?;
    }
    place::sweep(&target.session).await?;
    let withdrawal = Withdrawal::start(hands.stop);
    let place = work.open_place(entry, &plan).await?;
    let done = work.fill(&place, &fetched.output.spool, &plan).await;
    if done.is_err() || wish.scratch {
        place.withdraw(&target.session).await;
    }
    drop(withdrawal);
    let mut restored = done?;
    restored.measured.fetch_ms = ms(fetched.fetch);
    restored.measured.decrypt_ms = ms(fetched.decrypt);
    restored.globals = globals;
    Ok(restored)
}

/// One restore at work.
struct Work<'a> {
    wish: &'a Wish,
    hands: &'a Hands<'a>,
    target: &'a Target,
}

/// A spool that tells how far it is.
struct Counted {
    spool: Spool,
    progress: TableProgress,
}

impl Output for Counted {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.progress.add(0, bytes.len() as u64);
        self.spool.write(bytes)
    }
}

impl Work<'_> {
    /// The verified archive in a spool, with the places of its blocks written in.
    async fn fetch(&self) -> Result<Verified<Counted>> {
        let (wish, hands) = (self.wish, self.hands);
        let object = &hands.backup.manifest.object;
        let spool = Spool::new(&wish.spool, object.plain_bytes)?;
        let progress = Progress::start(format!("fetching {}", wish.database), hands.shown);
        let output = Counted { spool, progress: progress.table("archive", None) };
        let verified = verify(hands.store, hands.backup, hands.identities, output).await?;
        drop(progress);
        info!(
            backup = %hands.backup.id,
            stored_bytes = object.stored_bytes,
            plain_bytes = object.plain_bytes,
            rows = verified.archive.counts().rows,
            ms = ms(verified.fetch + verified.decrypt),
            "fetched, decrypted and verified"
        );
        let work = move || {
            let patches = verified.archive.patches.iter().map(|patch| (patch.at, patch.bytes().to_vec()));
            let patches: Vec<_> = patches.collect();
            verified.output.spool.patch(&patches).map(|()| verified)
        };
        tokio::task::spawn_blocking(work).await.context("a thread failed")?
    }

    /// Roles and the like, where they are asked for.
    async fn bring_globals(&self) -> Result<Option<Applied>> {
        let (hands, target) = (self.hands, self.target);
        if !self.wish.with_globals {
            return Ok(None);
        }
        let Some(folder) = &hands.backup.manifest.globals else {
            let what = format!("cannot bring back roles: backup {} has no globals with it", hands.backup.id);
            return Err(Failure::config(what)
                .hint("Leave out `--with-globals`, and make the roles by hand.")
                .into());
        };
        let sql = read_globals(hands, folder).await?;
        let applied = globals::apply(&target.session, &sql).await?;
        info!(
            made = applied.made.len(),
            kept = applied.kept.len(),
            refused = applied.refused.len(),
            "roles brought back"
        );
        Ok(Some(applied))
    }

    /// The database to fill: made, or marked.
    async fn open_place(&self, entry: Entry, plan: &Plan) -> Result<Place> {
        let (target, id) = (self.target, place::new_id());
        if entry == Entry::Make {
            return Place::make(target, &id, &plan.options).await;
        }
        let existing = target.existing.clone();
        let earlier = existing.as_ref().and_then(|existing| existing.marker.clone());
        let marker = Marker {
            schema: 1,
            restore: id,
            database: self.wish.database.clone(),
            backup: self.hands.backup.id.clone(),
            started_at: Timestamp::now(),
            was_empty: entry != Entry::Add,
            comment: earlier
                .map_or(existing.and_then(|existing| existing.comment), |earlier| earlier.comment),
        };
        let place = Place::mark(target, marker).await?;
        match entry {
            Entry::StartOver => place::empty(target).await?,
            Entry::Fill => place.check_still_empty(target).await?, // fetching may have taken hours
            Entry::Make | Entry::Add => {}
        }
        Ok(place)
    }

    /// Fills, proves and names. What it leaves behind when it fails is the caller's.
    async fn fill(&self, place: &Place, spool: &Spool, plan: &Plan) -> Result<Restored> {
        let (wish, hands, target) = (self.wish, self.hands, self.target);
        let manner = Manner { in_one_transaction: is_added_to(place), ..wish.manner.clone() };
        let ids = plan.ids();
        let from = (hands.tools, spool);
        let filled = apply(from, (target, place.name()), ids.as_deref(), &manner, hands.stop).await?;
        info!(database = place.name(), ms = ms(filled), "pg_restore is done");
        let mut restored = Restored { name: target.name.clone(), ..Restored::default() };
        let object = &hands.backup.manifest.object;
        restored.measured.stored_bytes = object.stored_bytes;
        restored.measured.plain_bytes = object.plain_bytes;
        restored.measured.restore_ms = ms(filled);
        restored.warnings =
            plan.selection.as_ref().map(|selection| selection.left_out.clone()).unwrap_or_default();
        restored.not_covered = plan.proof.recomputed.clone();
        if wish.prove {
            self.compare(place, plan, &mut restored).await?;
        }
        if restored.different.is_empty() && !wish.scratch {
            let statements = match place {
                Place::Made { temporary, .. } => {
                    properties::statements(&plan.items, temporary, !wish.manner.without_owners)
                }
                Place::Given { .. } => Vec::new(), // its settings are its own
            };
            place.settle(target, &statements).await?;
            info!(database = %target.name, "restored");
        }
        Ok(restored)
    }

    /// Compares what is in `place` with the proof.
    async fn compare(&self, place: &Place, plan: &Plan, restored: &mut Restored) -> Result<()> {
        let (wish, hands, target) = (self.wish, self.hands, self.target);
        let start = Instant::now();
        let progress = Progress::start(format!("proving {}", wish.database), hands.shown);
        let prover = Prover {
            connection: &target.connection_to(place.name()),
            at: Some(&target.session.endpoint),
            jobs: wish.manner.jobs,
            is_alone: plan.selection.is_none() && !is_added_to(place),
            stop: hands.stop,
            progress: &progress,
        };
        restored.different = prover.prove(&plan.proof).await?.iter().map(ToString::to_string).collect();
        restored.tables = plan.proof.tables.len() as u64;
        restored.rows = plan.proof.tables.iter().map(|table| table.set.count).sum();
        restored.measured.prove_ms = ms(start.elapsed());
        match restored.different.is_empty() {
            true => info!(
                tables = restored.tables,
                rows = restored.rows,
                ms = restored.measured.prove_ms,
                "proven equal"
            ),
            false => {
                warn!(different = restored.different.len(), "what was restored differs from what was dumped")
            }
        }
        Ok(())
    }
}

async fn read_globals(hands: &Hands<'_>, folder: &str) -> Result<String> {
    let folder = format!("{}/", folder.trim_end_matches('/'));
    let found = inventory::take(hands.store.as_ref(), &folder, &hands.backup.manifest.environment).await?;
    let globals = found.backups.iter().find(|backup| backup.folder() == folder && backup.is_good());
    let Some(globals) = globals else {
        return Err(
            Failure::config(format!("cannot bring back roles: {folder} is not there or not whole")).into()
        );
    };
    let object = &globals.manifest.object;
    let name = format!("{folder}{}", object.name);
    let small =
        verified::read_small(hands.store, globals.archive.as_ref(), (object, &name), hands.identities);
    let (bytes, _) = small.await?;
    String::from_utf8(bytes).map_err(|_| Failure::data(format!("cannot use {name}: it is not UTF-8")).into())
}

fn is_added_to(place: &Place) -> bool {
    matches!(place, Place::Given { marker, .. } if !marker.was_empty)
}

/// Keeps the process alive, within its bounds, until a database that was begun is dropped again.
struct Withdrawal {
    _done: tokio::sync::watch::Sender<()>,
    _registered: crate::stop::Registration,
}

impl Withdrawal {
    fn start(stop: &StopSignal) -> Withdrawal {
        let (done, mut seen) = tokio::sync::watch::channel(());
        let registered = stop.on_stop(async move {
            while seen.changed().await.is_ok() {} // until it is dropped
        });
        Withdrawal { _done: done, _registered: registered }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Names, at most ten.
pub fn list(names: &[String]) -> String {
    let shown = names.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(10) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
