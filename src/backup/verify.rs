//! Reads a stored backup back, whole, and compares it with what its manifest says.
//!
//! In:    a backup as listed, its store; identities, where there are any.
//! Out:   [`Checked`]. Holds: every stored byte is read and hashed; with an identity the archive is
//!        decrypted, unpacked, read through and compared with its proof as well; no database is needed.
//! Not here: choosing the backup (`cmd::backups::verify`).

use crate::backup::inventory::Backup;
use crate::backup::manifest::Object;
use crate::backup::restore;
use crate::backup::seal::Identities;
use crate::backup::tally::Sum;
use crate::error::{Failure, Kind, classify};
use crate::progress::TableProgress;
use crate::store::{Store, Version};
use anyhow::{Context, Result};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces that wait to be hashed.
const WAITING: usize = 8;

/// What was found in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Bytes that were read back.
    pub stored_bytes: u64,
    /// Rows of the archive, where it was opened.
    pub rows: Option<u64>,
    /// Why it was not opened.
    pub not_opened: Option<String>,
}

/// Reads every object of `backup` back and compares lengths and hashes with its manifest; opens it and
/// compares it with its proof if an identity that fits is among `identities`.
///
/// # Errors
/// 65 naming the object and what differs; as the store.
pub async fn verify(
    store: &Arc<dyn Store>,
    backup: &Backup,
    identities: &Identities,
    progress: &TableProgress,
) -> Result<Checked> {
    let manifest = &backup.manifest;
    let opens = identities.recipients().iter().any(|own| manifest.recipients.contains(own));
    let objects =
        [Some((&manifest.object, &backup.archive)), manifest.proof.as_ref().map(|of| (of, &backup.proof))];
    let mut stored_bytes = 0;
    for (object, version) in objects.into_iter().flatten() {
        let version = version.as_ref().ok_or_else(|| missing(backup, object))?;
        // What is opened below is read and hashed there.
        if !opens {
            stored(store.as_ref(), version, object, progress).await?;
        }
        stored_bytes += version.bytes;
    }
    if !opens {
        let why = match identities.recipients().len() {
            0 => format!("no identity is at hand; it takes that of {}", manifest.recipients.join(" or ")),
            _ => format!("no identity at hand fits; it takes that of {}", manifest.recipients.join(" or ")),
        };
        return Ok(Checked { stored_bytes, rows: None, not_opened: Some(why) });
    }
    let opened = match restore::verify::verify(store, backup, identities, ()).await {
        Err(error) if classify(&error).kind == Kind::Permission => {
            return Err(closed(store.as_ref(), backup, progress).await);
        }
        opened => opened?,
    };
    let counts = opened.archive.counts();
    if counts != manifest.counts {
        let what = format!("cannot trust {}: its manifest counts what it does not hold", backup.folder());
        return Err(Failure::data(what)
            .hint("Somebody has changed the manifest; other backups stay good.")
            .into());
    }
    progress.add(counts.rows, stored_bytes);
    Ok(Checked { stored_bytes, rows: Some(counts.rows), not_opened: None })
}

/// Why a backup does not open although its manifest says that it does: a damaged header of age reads like
/// one that was made for somebody else.
async fn closed(store: &dyn Store, backup: &Backup, progress: &TableProgress) -> anyhow::Error {
    let manifest = &backup.manifest;
    let objects =
        [Some((&manifest.object, &backup.archive)), manifest.proof.as_ref().map(|of| (of, &backup.proof))];
    for (object, version) in objects.into_iter().flatten() {
        if let Some(version) = version
            && let Err(error) = stored(store, version, object, progress).await
        {
            return error;
        }
    }
    let what = format!("cannot trust {}: its manifest names recipients that do not open it", backup.folder());
    Failure::data(what).hint("Somebody has changed the manifest; other backups stay good.").into()
}

fn missing(backup: &Backup, object: &Object) -> Failure {
    let name = format!("{}{}", backup.folder(), object.name);
    let why = format!("it is missing, or not {} bytes long", object.stored_bytes);
    Failure::data(format!("cannot verify {name}: {why}"))
        .hint("The object was removed or cut after its backup had ended; other backups stay good.")
}

/// Reads all of `version` and compares it with `object`.
///
/// # Errors
/// 65 when length or hash differ; as the store.
pub async fn stored(
    store: &dyn Store,
    version: &Version,
    object: &Object,
    progress: &TableProgress,
) -> Result<()> {
    let mut pieces = store.read(version, 0..version.bytes).await?;
    let (to_hash, mut taken) = mpsc::channel::<bytes::Bytes>(WAITING);
    let hashing = tokio::task::spawn_blocking(move || {
        let mut sum = Sum::default();
        while let Some(piece) = taken.blocking_recv() {
            sum.add(&piece);
        }
        sum
    });
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        progress.add(0, piece.len() as u64);
        if to_hash.send(piece).await.is_err() {
            break; // the thread has died, which is told below
        }
    }
    drop(to_hash);
    let sum = hashing.await.context("a thread that hashes has died")?;
    let (bytes, sha256) = (sum.bytes(), sum.sha256());
    let differs = match () {
        () if bytes != object.stored_bytes => {
            format!("{bytes} bytes were read, its manifest says {}", object.stored_bytes)
        }
        () if sha256 != object.stored_sha256 => {
            "its bytes have another SHA-256 than its manifest says".to_owned()
        }
        () => return Ok(()),
    };
    let what = format!("cannot trust {} in {}: {differs}", version.name, store.place());
    Err(Failure::data(what)
        .hint(
            "Verify it again to tell the transfer from the store. If it stays, make another backup now; older ones stay good, \
             and `--backup ID` of `restore` and `drill` chooses one.",
        )
        .into())
}
