//! Who opens which backups: the identities that are held here, against what the manifests name.
//!
//! In:    backups as listed, identities with where they were found.
//! Out:   of each identity, what it opens and that it does; the backups that none of them opens.
//! Holds: a backup is opened by each identity alone; no identity is in what is told.
//! Not here: where identities are looked for (`backup::restore::identity`).

use crate::backup::inventory::Backup;
use crate::backup::restore::verify::read_small;
use crate::backup::seal::Identities;
use crate::error::{Failure, Kind, classify};
use crate::store::Store;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One identity, and where it was found.
#[derive(Clone)]
pub struct Held {
    /// Such as `variable age_identity`.
    pub from: String,
    /// Its recipient: the name it has in manifests.
    pub recipient: String,
    /// Itself, alone.
    pub identity: Identities,
}

/// What one identity was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Where it was found.
    pub from: String,
    /// Its recipient.
    pub recipient: String,
    /// How many good backups name it.
    pub backups: usize,
    /// Id of the newest of them, which it has opened.
    pub opened: Option<String>,
}

/// The identities of `found`, one by one, with where they came from.
pub fn each(found: &Identities, from: &str) -> Vec<Held> {
    let alone = found.each().into_iter();
    let held = alone.map(|identity| {
        let recipient = identity.recipients().pop().unwrap_or_default();
        Held { from: from.to_owned(), recipient, identity }
    });
    held.collect()
}

/// How many of `backups` only these recipients open, by the recipients; the most first.
pub fn by_recipients<'a>(backups: impl IntoIterator<Item = &'a Backup>) -> Vec<(Vec<String>, usize)> {
    let mut sets: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for backup in backups {
        let mut recipients = backup.manifest.recipients.clone();
        recipients.sort();
        *sets.entry(recipients).or_default() += 1;
    }
    let mut sets: Vec<_> = sets.into_iter().collect();
    sets.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sets
}

/// The backups that none of `held` opens.
pub fn unopened<'a>(backups: &'a [Backup], held: &[Held]) -> Vec<&'a Backup> {
    let opens = |backup: &Backup| held.iter().any(|one| backup.manifest.recipients.contains(&one.recipient));
    backups.iter().filter(|backup| !opens(backup)).collect()
}

/// Lets each identity open the newest of `backups` that names it: its proof, which is small.
///
/// # Errors
/// 65 when one does not open what names it; as the store.
pub async fn prove(store: &Arc<dyn Store>, backups: &[Backup], held: &[Held]) -> Result<Vec<Proven>> {
    let mut all: Vec<Proven> = Vec::new();
    for one in held.iter() {
        if all.iter().any(|known| known.recipient == one.recipient) {
            continue; // found in two places
        }
        let named = backups.iter().filter(|backup| backup.manifest.recipients.contains(&one.recipient));
        let newest = named.clone().find(|backup| backup.manifest.proof.is_some());
        if let Some(backup) = newest {
            open(store, backup, one).await?;
        }
        all.push(Proven {
            from: one.from.clone(),
            recipient: one.recipient.clone(),
            backups: named.count(),
            opened: newest.map(|backup| backup.id.clone()),
        });
    }
    Ok(all)
}

async fn open(store: &Arc<dyn Store>, backup: &Backup, held: &Held) -> Result<()> {
    let Some(object) = &backup.manifest.proof else { return Ok(()) };
    let name = format!("{}{}", backup.folder(), object.name);
    match read_small(store, backup.proof.as_ref(), (object, &name), &held.identity).await {
        Err(error) if classify(&error).kind == Kind::Permission => {
            let what = format!(
                "cannot open backup {} with the identity of {} ({}), which its manifest names",
                backup.id, held.recipient, held.from
            );
            Err(Failure::data(what)
                .hint(
                    "Somebody has changed the manifest, or the object: `sankofa backups verify` tells which.",
                )
                .into())
        }
        read => read.map(drop),
    }
}

/// A recipient as a person recognises it: `age1qqqqqqqq...`.
pub fn short(recipient: &str) -> String {
    match recipient.char_indices().nth(12) {
        Some((end, _)) => format!("{}...", &recipient[..end]),
        None => recipient.to_owned(),
    }
}

/// Several of them: any one opens it.
pub fn any_of(recipients: &[String]) -> String {
    recipients.iter().map(|text| short(text)).collect::<Vec<_>>().join(" or ")
}
