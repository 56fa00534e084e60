//! Reads tables and large objects of one snapshot, side by side, and sums what goes by.
//!
//! In:    sessions, statements.
//! Out:   a sum for each table, and one for all large objects.
//! Holds: a large table is cut into ranges of its heap; the first error ends all.
//! Not here: what is compared with what (`difference`).

use super::catalog::Relation;
use crate::backup::archive::RowSum;
use crate::backup::proof::{SetSum, TableProof};
use crate::error::Failure;
use crate::pg::Session;
use crate::progress::TableProgress;
use crate::stop::StopSignal;
use crate::table::{TableName, quote_list};
use anyhow::Result;
use futures_util::{TryStreamExt, pin_mut};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;

/// What a reading session is set to beside what shapes the text of rows. A policy of row security must
/// be an error, never fewer rows.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("max_parallel_workers_per_gather", "0"),
];

/// Heap of a range, blocks: 64 MiB of 8 KiB.
const RANGE_BLOCKS: u64 = 8192;
/// A large object is read in pieces of this size.
const PIECE: i32 = 1 << 20;
/// Large objects up to this size together are read by one session.
const ALONE_BYTES: u64 = 16 << 20;

/// What a sum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The table of this place in the proof.
    Table(usize),
    /// All large objects.
    LargeObjects,
}

pub(super) type Sums = HashMap<What, SetSum>;

/// One thing to read.
pub(super) struct Unit {
    what: What,
    how: How,
    /// How much it is, about.
    pub bytes: u64,
    name: String,
    progress: Option<TableProgress>,
}

enum How {
    /// By this COPY statement.
    Copy(String),
    /// Those whose OID leaves `rest` when divided by `by`.
    LargeObjects { by: i64, rest: i64 },
}

impl Unit {
    /// Counts as it reads.
    pub fn counted(mut self, progress: &TableProgress) -> Unit {
        self.progress = Some(progress.clone());
        self
    }
}

/// What reads one table: several ranges if it is large and may be cut.
pub(super) fn table(nth: usize, proof: &TableProof, relation: &Relation, cut: bool) -> Vec<Unit> {
    let name = TableName::new(&proof.schema, &proof.table);
    let columns = quote_list(&proof.columns);
    let is_whole = !relation.is_foreign && relation.filter.is_none();
    let ranges = match cut && is_whole && relation.is_heap && !columns.is_empty() {
        true => relation.blocks.div_ceil(RANGE_BLOCKS).max(1),
        false => 1,
    };
    let select =
        format!("SELECT {columns} FROM {}{}", if relation.is_foreign { "" } else { "ONLY " }, name.sql());
    let sql = |range: u64| match &relation.filter {
        _ if ranges > 1 => format!("COPY ({select} WHERE {}) TO STDOUT", places(range, ranges)),
        Some(filter) => format!("COPY ({select} {filter}) TO STDOUT"),
        None if !is_whole => format!("COPY ({select}) TO STDOUT"),
        None if columns.is_empty() => format!("COPY {} TO STDOUT", name.sql()),
        None => format!("COPY {} ({columns}) TO STDOUT", name.sql()),
    };
    let bytes = relation.bytes / ranges;
    let unit = |range| Unit {
        what: What::Table(nth),
        how: How::Copy(sql(range)),
        bytes,
        name: name.to_string(),
        progress: None,
    };
    (0..ranges).map(unit).collect()
}

/// The rows of one range of a heap. The last range has no end: the heap may have grown since.
fn places(range: u64, ranges: u64) -> String {
    let from = format!("ctid >= '({},0)'", range * RANGE_BLOCKS);
    match range + 1 == ranges {
        true => from,
        false => format!("{from} AND ctid < '({},0)'", (range + 1) * RANGE_BLOCKS),
    }
}

/// What reads the large objects, of `bytes` together.
pub(super) fn large_objects(jobs: usize, bytes: u64) -> impl Iterator<Item = Unit> {
    let by = if bytes > ALONE_BYTES { jobs.clamp(1, 64) as i64 } else { 1 };
    (0..by).map(move |rest| Unit {
        what: What::LargeObjects,
        how: How::LargeObjects { by, rest },
        bytes: bytes / by.unsigned_abs(),
        name: "large objects".into(),
        progress: None,
    })
}

/// Begins a transaction in each session, all in the snapshot of the first.
pub(super) async fn share_snapshot(sessions: &[Session]) -> Result<()> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    let Some((first, others)) = sessions.split_first() else { return Ok(()) };
    let failed = |session: &Session, error| session.failure(error, "cannot take a snapshot");
    first.client.batch_execute(begin).await.map_err(|error| failed(first, error))?;
    let snapshot = first.client.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).await;
    let snapshot: String = snapshot.map_err(|error| failed(first, error))?.try_get(0)?;
    for session in others {
        let begin = format!("{begin}; SET TRANSACTION SNAPSHOT {}", crate::table::literal(&snapshot));
        session.client.batch_execute(&begin).await.map_err(|error| failed(session, error))?;
    }
    Ok(())
}

/// Reads all units, each session on a task of its own.
///
/// # Errors
/// The first that a session meets; the reason's failure after a stop.
pub(super) async fn read(sessions: Vec<Session>, units: Vec<Unit>, stop: &StopSignal) -> Result<Sums> {
    let queue = Arc::new(Mutex::new(VecDeque::from(units)));
    let mut workers = JoinSet::new();
    for session in sessions {
        workers.spawn(work(session, queue.clone(), stop.clone()));
    }
    let mut sums = Sums::new();
    while let Some(done) = workers.join_next().await {
        for (what, sum) in done?? {
            sums.entry(what).or_default().add_sum(&sum);
        }
    }
    Ok(sums)
}

async fn work(session: Session, queue: Arc<Mutex<VecDeque<Unit>>>, stop: StopSignal) -> Result<Sums> {
    let mut sums = Sums::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(unit) = next else { break };
        if let Some(reason) = stop.reason() {
            return Err(reason.failure().into());
        }
        let sum = match &unit.how {
            How::Copy(sql) => rows(&session, &unit, sql).await?,
            How::LargeObjects { by, rest } => objects(&session, &unit, *by, *rest).await?,
        };
        sums.entry(unit.what).or_default().add_sum(&sum);
    }
    session.close().await;
    Ok(sums)
}

async fn rows(session: &Session, unit: &Unit, sql: &str) -> Result<SetSum> {
    let failed =
        |error| session.failure(error, &format!("cannot read {} of the restored database", unit.name));
    let stream = session.client.copy_out(sql).await.map_err(failed)?;
    pin_mut!(stream);
    let mut rows = RowSum::default();
    while let Some(piece) = stream.try_next().await.map_err(failed)? {
        let before = rows.count();
        rows.feed_copied(&piece);
        if let Some(progress) = &unit.progress {
            progress.add(rows.count() - before, piece.len() as u64);
        }
    }
    let cut = || {
        Failure::temporary(format!("cannot read {} of the restored database: its rows were cut", unit.name))
    };
    Ok(rows.end_copied().ok_or_else(cut)?)
}

/// One query brings the beginning of each object; those that are longer are read again, in pieces.
async fn objects(session: &Session, unit: &Unit, by: i64, rest: i64) -> Result<SetSum> {
    let failed = |error| session.failure(error, "cannot read the restored large objects");
    let sql = "SELECT oid, pg_catalog.lo_get(oid, 0, $3) FROM pg_catalog.pg_largeobject_metadata \
               WHERE oid::bigint % $1 = $2";
    let parameters: [&(dyn ToSql + Sync); 3] = [&by, &rest, &PIECE];
    let stream = session.client.query_raw(sql, parameters).await.map_err(failed)?;
    pin_mut!(stream);
    let (mut sum, mut long) = (SetSum::default(), Vec::new());
    while let Some(row) = stream.try_next().await.map_err(failed)? {
        let (oid, content): (u32, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        if content.len() < PIECE as usize {
            sum.add_large_object(oid, content.len() as u64, &Sha256::digest(content).into());
            count(unit, content.len());
        } else {
            long.push(oid);
        }
    }
    for oid in long {
        let (bytes, hash) = long_object(session, oid).await?;
        sum.add_large_object(oid, bytes, &hash);
        count(unit, usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    Ok(sum)
}

async fn long_object(session: &Session, oid: u32) -> Result<(u64, [u8; 32])> {
    let failed = |error| session.failure(error, "cannot read a restored large object");
    let (mut hash, mut bytes) = (Sha256::new(), 0i64);
    loop {
        let parameters: [&(dyn ToSql + Sync); 3] = [&oid, &bytes, &PIECE];
        let row = session.client.query_one("SELECT pg_catalog.lo_get($1, $2, $3)", &parameters).await;
        let row = row.map_err(failed)?;
        let piece: &[u8] = row.try_get(0)?;
        hash.update(piece);
        bytes += piece.len() as i64;
        if piece.len() < PIECE as usize {
            return Ok((bytes.unsigned_abs(), hash.finalize().into()));
        }
    }
}

fn count(unit: &Unit, bytes: usize) {
    if let Some(progress) = &unit.progress {
        progress.add(1, bytes as u64);
    }
}
