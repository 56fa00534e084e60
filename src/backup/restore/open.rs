//! What every restore and drill starts with: the store, the backup, how long it will take.
//!
//! In:    a database of the project, which backup is asked for.
//! Out:   [`Opened`].
//! Holds: nothing is written.
//! Not here: choosing (`choose`), predicting (`predict`).

use super::choose::{Choice, choose};
use super::predict::{Prediction, is_close, predict};
use crate::backup::drills::Drilled;
use crate::backup::inventory::{self, Backup};
use crate::backup::manifest::Kind;
use crate::backup::{drill, earlier, names, stores};
use crate::config::model::Database;
use crate::report::{duration, size};
use crate::secret::Resolver;
use crate::store::Store;
use anyhow::Result;
use std::sync::Arc;
use tracing::{info, warn};

/// A backup that was chosen, where it lies.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The backup.
    pub backup: Backup,
    /// All good backups of the database, newest first.
    pub good: Vec<Backup>,
    /// How long restoring it will take.
    pub prediction: Prediction,
    /// Records of drills of the database, newest first.
    pub drills: Vec<Drilled>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Opened {
    /// Opens the store of `database` and chooses.
    ///
    /// # Errors
    /// As [`stores::open`], [`inventory::take`] and [`choose`]; 78 where another environment keeps its backups.
    pub async fn open(
        database: &Database,
        environment: &str,
        choice: &Choice,
        resolver: &Resolver,
    ) -> Result<Opened> {
        let store = stores::open(&database.place, None, resolver).await?;
        let home = names::home(Kind::Database, &database.name);
        let inventory = inventory::take(store.as_ref(), &home, environment).await?;
        if let Some(other) = inventory.owned_by_other(|_| true) {
            return Err(earlier::foreign(store.as_ref(), environment, other).into());
        }
        let backup = choose(&inventory, &home, choice)?.clone();
        let drills = drill::records(store.as_ref(), &database.name).await?;
        let history: Vec<_> = drills.iter().filter(|drill| drill.proven).map(drill::measured).collect();
        let object = &backup.manifest.object;
        let prediction = predict(&history, object.stored_bytes, object.plain_bytes);
        let good = inventory.backups.into_iter().filter(|one| one.home == home && one.is_good()).collect();
        let mut opened = Opened { store, backup, good, prediction, drills, warnings: Vec::new() };
        opened.tell(database);
        Ok(opened)
    }

    fn tell(&mut self, database: &Database) {
        let (object, total) = (&self.backup.manifest.object, self.prediction.phases.total_ms());
        info!(
            backup = %self.backup.id,
            age = %duration_since(&self.backup),
            stored = %size(object.stored_bytes),
            archive = %size(object.plain_bytes),
            about = %duration(total),
            from_drills = self.prediction.measured,
            "backup chosen"
        );
        let limit = u64::try_from(database.restore_within.as_millis()).unwrap_or(u64::MAX);
        if is_close(total, limit) {
            let basis = if self.prediction.measured == 0 { "assumed rates" } else { "drills" };
            let warning = format!(
                "it will take about {} by {basis}, and restore_within is {}",
                duration(total),
                duration(limit)
            );
            warn!("{warning}");
            self.warnings.push(warning);
        }
    }
}

fn duration_since(backup: &Backup) -> String {
    let seconds = jiff::Timestamp::now().duration_since(backup.manifest.started_at).as_secs();
    duration(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}
