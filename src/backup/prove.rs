//! Compares a restored database with the proof of its dump, row by row.
//!
//! In:    a database, the proof.
//! Out:   the differences in words and counts, never a cell's value; none: they are equal.
//! Holds: everything is read in one snapshot, under the settings that the dump was made under; what is
//!        read is hashed as it comes, so memory is one row a job.
//! Not here: how the proof came about (`backup::archive`); definitions, which only another dump can
//!        tell ([`compare`]).
//!
//! `pg_dump` is not asked: one of the dump's major refuses a newer server, and one of the newer would
//! have to be installed.

mod catalog;
mod difference;
mod reading;

pub use difference::{Difference, compare};

use crate::backup::proof::{Proof, SETTINGS, TableProof};
use crate::pg::{Endpoint, Session, SessionOptions, connect};
use crate::progress::Progress;
use crate::secret::Connection;
use crate::stop::{Registration, StopSignal};
use crate::table::TableName;
use anyhow::Result;
use catalog::{Catalog, Relation};
use futures_util::future::try_join_all;
use reading::{Unit, What};
use std::collections::HashMap;

/// Compares one database with proofs.
pub struct Prover<'a> {
    /// The database.
    pub connection: &'a Connection,
    /// The one server of the connection to go to, if it matters.
    pub at: Option<&'a Endpoint>,
    /// Sessions that read side by side, at least one.
    pub jobs: usize,
    /// Whether a table that the proof does not know is a difference.
    pub is_alone: bool,
    /// When it is asked for, the queries are cancelled.
    pub stop: &'a StopSignal,
    /// Gets a counter for each table.
    pub progress: &'a Progress,
}

impl Prover<'_> {
    /// Reads the whole database and tells what differs from `proof`, in the proof's order.
    ///
    /// Rows that went in by way of a partitioned table are compared for all its partitions together.
    /// What a restore computes anew ([`Proof::recomputed`]) is not compared; nor are large objects
    /// where the proof does not cover them.
    ///
    /// Cost: one pass over every table. A row is in memory at once, as the server sends it.
    ///
    /// # Errors
    /// As the server fails; 77 if the role may not read something; 65 if the proof is not understood;
    /// the reason's failure after a stop.
    pub async fn prove(&self, proof: &Proof) -> Result<Vec<Difference>> {
        let (sessions, _cancelled_on_stop) = self.sessions(proof).await?;
        let catalog = Catalog::read(&sessions[0]).await?;
        let mut differences = catalog::columns(&catalog, &proof.tables);
        let units = self.units(proof, &catalog, sessions[0].major());
        let sequences = catalog::sequences(&sessions[0], &catalog, proof).await?;
        let sums = reading::read(sessions, units, self.stop).await?;
        differences.extend(difference::of_tables(&proof.tables, &found_tables(proof, &catalog, &sums)));
        if self.is_alone {
            differences.extend(catalog::additional(&catalog, proof));
        }
        if let Some(expected) = proof.large_objects.sum() {
            let found = sums.get(&What::LargeObjects).copied().unwrap_or_default();
            differences.extend(difference::of_large_objects(&expected, &found));
        }
        differences.extend(sequences);
        Ok(differences)
    }

    /// Sessions in one snapshot, each cancelled when a stop is asked for.
    async fn sessions(&self, proof: &Proof) -> Result<(Vec<Session>, Vec<Registration>)> {
        let options = self.options(proof);
        let first = connect(self.connection, &options).await?;
        let more = options.pinned(&first.endpoint);
        let others = (1..self.jobs).map(|_| connect(self.connection, &more));
        let mut sessions = try_join_all(others).await?;
        sessions.insert(0, first);
        let registered = sessions.iter().map(|session| {
            let canceller = session.canceller();
            self.stop.on_stop(async move {
                let _ = canceller.cancel().await; // its session is closed soon after, whatever it says
            })
        });
        let registered = registered.collect();
        reading::share_snapshot(&sessions).await?;
        Ok((sessions, registered))
    }

    fn options(&self, proof: &Proof) -> SessionOptions {
        let mut options = SessionOptions::named("sankofa/prove");
        for (name, value) in SETTINGS {
            let recorded = proof.settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            options = options.set(*name, recorded.map_or(*value, |(_, value)| value));
        }
        for (name, value) in reading::SETTINGS {
            options = options.set(*name, *value);
        }
        match self.at {
            Some(at) => options.pinned(at),
            None => options,
        }
    }

    /// What is to be read, the largest first.
    fn units(&self, proof: &Proof, catalog: &Catalog, major: u32) -> Vec<Unit> {
        let mut units = Vec::new();
        for (nth, table) in proof.tables.iter().enumerate() {
            let name = name_of(table);
            let Some(relation) = catalog.relations.get(&name) else { continue };
            if relation.has_all(&table.columns) {
                let progress = self.progress.table(&name.to_string(), Some(table.set.count));
                let cut = self.jobs > 1 && major >= 14; // 13 reads the whole table for a range of it
                units.extend(
                    reading::table(nth, table, relation, cut).into_iter().map(|unit| unit.counted(&progress)),
                );
            }
        }
        if proof.large_objects.sum().is_some() {
            let progress = self.progress.table("large objects", Some(proof.large_objects.count));
            let objects = reading::large_objects(self.jobs, proof.large_objects.bytes);
            units.extend(objects.map(|unit| unit.counted(&progress)));
        }
        units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes));
        units
    }
}

fn name_of(table: &TableProof) -> TableName {
    TableName::new(&table.schema, &table.table)
}

/// The sums of the tables that are there and could be read.
fn found_tables(
    proof: &Proof,
    catalog: &Catalog,
    sums: &reading::Sums,
) -> HashMap<TableName, Option<crate::backup::proof::SetSum>> {
    let there = proof.tables.iter().enumerate().filter_map(|(nth, table)| {
        let name = name_of(table);
        let relation: &Relation = catalog.relations.get(&name)?;
        let sum = relation.has_all(&table.columns).then(|| sums.get(&What::Table(nth)).copied());
        Some((name, sum.flatten()))
    });
    there.collect()
}
