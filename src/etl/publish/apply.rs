//! Writes one table's staged rows into its target, inside the publishing transaction.

use super::{Counts, Publication, TableJob};
use crate::config::model::DeleteMode;
use crate::error::Failure;
use crate::etl::contract::Change;
use crate::etl::merge::{Gone, Merge};
use crate::etl::plan::Action;
use crate::etl::staging::{Places, is_small};
use crate::pg::public::sqlstate;
use anyhow::Result;

/// Staged rows below this share of the target are looked up one by one, without a scan.
const LOOKUP_SHARE: f64 = 0.05;
/// Targets of up to this many live rows are small, if the source table is.
const SMALL_ROWS: i64 = 10_000;

/// Whether one statement makes the target what the staged rows are.
pub fn is_one_statement(job: &TableJob<'_>) -> bool {
    let plan = job.plan;
    plan.action == Action::Replace
        && !plan.layout.key.is_empty()
        && !has_new_key(job)
        && is_small(plan)
        && plan.live_rows <= SMALL_ROWS
}

fn has_new_key(job: &TableJob<'_>) -> bool {
    job.plan.decision.changes.iter().any(|change| matches!(change, Change::Key { .. }))
}

/// What was done, or the failure that the others only follow from: in a transaction that has failed the
/// server refuses whatever comes next (25P02).
pub fn first_failure(done: Vec<Result<Counts>>) -> Result<Vec<Counts>> {
    let follows = |error: &anyhow::Error| sqlstate(error).as_deref() == Some("25P02");
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let mut errors: Vec<anyhow::Error> = bad.into_iter().filter_map(Result::err).collect();
    let at = errors.iter().position(|error| !follows(error)).unwrap_or(0);
    match errors.is_empty() {
        true => good.into_iter().collect(),
        false => Err(errors.swap_remove(at)),
    }
}

/// Applies one table and counts what changed.
pub async fn apply(publication: &Publication<'_>, job: &TableJob<'_>) -> Result<Counts> {
    let places = Places::of(publication.run, job.number);
    let merge = Merge {
        layout: &job.plan.layout,
        target: &job.plan.target,
        staging: &places.rows,
        extinct: &job.plan.contract.extinct,
        run: publication.run,
    };
    let applying = Applying { publication, job, merge, places: &places };
    let new_key = has_new_key(job);
    let mut counts = match job.plan.action {
        Action::Create => Counts { inserted: job.extracted.staged, ..Counts::default() },
        Action::Merge => applying.merge_rows().await?,
        Action::Replace if job.plan.layout.key.is_empty() || new_key => {
            applying.replace_multiset(new_key).await?
        }
        Action::Replace if is_one_statement(job) => applying.replace_small().await?,
        Action::Replace => applying.replace_difference().await?,
    };
    let before = if job.plan.action == Action::Create { 0 } else { job.plan.live_rows };
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    counts.live_rows = before + signed(counts.inserted) + signed(counts.revived) - signed(counts.deleted);
    Ok(counts)
}

struct Applying<'a> {
    publication: &'a Publication<'a>,
    job: &'a TableJob<'a>,
    merge: Merge<'a>,
    places: &'a Places,
}

impl Applying<'_> {
    /// Rows by key: changed ones over the old, new ones beside them, then those that are gone.
    async fn merge_rows(&self) -> Result<Counts> {
        let few = (self.job.extracted.staged as f64) < LOOKUP_SHARE * self.job.plan.live_rows as f64;
        if few {
            self.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
                .await?;
        }
        let (updated, revived) = self.count_pair(&self.merge.update()).await?;
        let inserted = self.rows(&self.merge.insert()).await?;
        if few {
            self.execute("SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on")
                .await?;
        }
        let (deleted, back) = match self.gone().filter(|_| self.job.plan.compare_keys) {
            Some(gone) => {
                let keys = &self.places.keys;
                self.execute(&format!("ANALYZE {}", keys.sql())).await?;
                let deleted = self.rows(&self.merge.delete_absent(keys, gone)).await?;
                (deleted, self.rows(&self.merge.revive_present(keys)).await?)
            }
            None => (0, 0),
        };
        self.brake(deleted)?;
        Ok(Counts { inserted, updated: updated + back, revived: revived + back, deleted, live_rows: 0 })
    }

    /// A table made equal to the staged rows: one join finds the difference, which is then written.
    async fn replace_difference(&self) -> Result<Counts> {
        let delta = &self.places.delta;
        self.execute(&self.merge.difference(delta)).await?;
        self.execute(&format!("ANALYZE {}", delta.sql())).await?;
        let (updated, revived) = self.count_pair(&self.merge.update_from(delta)).await?;
        let inserted = self.rows(&self.merge.insert_from(delta)).await?;
        let deleted = match self.gone() {
            Some(gone) => self.rows(&self.merge.delete_from(delta, gone)).await?,
            None => 0,
        };
        self.brake(deleted)?;
        self.execute(&format!("DROP TABLE {}", delta.sql())).await?;
        Ok(Counts { inserted, updated, revived, deleted, live_rows: 0 })
    }

    /// The same in one statement, which reads the target twice: less than a table for the difference costs.
    async fn replace_small(&self) -> Result<Counts> {
        let sql = self.merge.replace(self.gone());
        let row =
            self.publication.session.client.query_one(&sql, &[]).await.map_err(|error| self.failed(error))?;
        let count = |at: usize| row.get::<_, i64>(at).unsigned_abs();
        let counts = Counts {
            updated: count(0),
            revived: count(1),
            inserted: count(2),
            deleted: count(3),
            live_rows: 0,
        };
        self.brake(counts.deleted)?;
        Ok(counts)
    }

    /// A table without a key, or with a new one: rows are told apart by their text alone.
    async fn replace_multiset(&self, new_key: bool) -> Result<Counts> {
        let deleted = match self.gone() {
            _ if new_key => {
                let marked =
                    format!("DELETE FROM {} WHERE _sankofa_deleted_at IS NOT NULL", self.merge.target.sql());
                self.rows(&marked).await?;
                self.rows(&self.merge.delete_surplus(Gone::Remove)).await?
            }
            Some(gone) => self.rows(&self.merge.delete_surplus(gone)).await?,
            None => 0,
        };
        if !new_key {
            self.brake_beyond_replaced(deleted)?;
        }
        let inserted = self.rows(&self.merge.insert_missing()).await?;
        Ok(Counts { inserted, updated: 0, revived: 0, deleted, live_rows: 0 })
    }

    fn gone(&self) -> Option<Gone> {
        match self.job.spec.deletes.mode {
            DeleteMode::Soft => Some(Gone::Mark),
            DeleteMode::Hard => Some(Gone::Remove),
            DeleteMode::Ignore => None,
        }
    }

    /// Refuses to lose more rows than `deletes.at_most` allows.
    fn brake(&self, deleted: u64) -> Result<(), Failure> {
        let (before, share) = (self.job.plan.live_rows, self.job.spec.deletes.at_most);
        if self.publication.allow_deletes || deleted == 0 || deleted as f64 <= share * before as f64 {
            return Ok(());
        }
        Err(Failure::data(format!(
            "cannot load {}: {deleted} of {before} rows are gone from the source, more than {:.0} %",
            self.job.plan.target,
            share * 100.0
        ))
        .hint("Nothing was changed. If they are really gone, run it with `--allow-deletes`."))
    }

    /// In a table without a key a changed row is one gone and one new: only the net loss counts.
    fn brake_beyond_replaced(&self, deleted: u64) -> Result<(), Failure> {
        let now = i64::try_from(self.job.extracted.staged).unwrap_or(i64::MAX);
        let net = u64::try_from(self.job.plan.live_rows - now).unwrap_or(0);
        self.brake(deleted.min(net))
    }

    fn failed(&self, error: tokio_postgres::Error) -> anyhow::Error {
        self.publication.session.failure(error, &format!("cannot load {}", self.job.plan.target))
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        self.publication.session.client.batch_execute(sql).await.map_err(|error| self.failed(error))
    }

    async fn rows(&self, sql: &str) -> Result<u64> {
        self.publication.session.client.execute(sql, &[]).await.map_err(|error| self.failed(error))
    }

    async fn count_pair(&self, sql: &str) -> Result<(u64, u64)> {
        let row =
            self.publication.session.client.query_one(sql, &[]).await.map_err(|error| self.failed(error))?;
        Ok((row.get::<_, i64>(0).unsigned_abs(), row.get::<_, i64>(1).unsigned_abs()))
    }
}
