//! Asks warehouse and stores how everything stands.
//!
//! In:    the project, where secrets are asked for.
//! Out:   [`Seen`]: an answer or a failure for each part.
//! Holds: reads only; a part that does not answer within `WITHIN` holds up no other.
//! Not here: what it comes to (`status::judge`).

use super::{Kept, Proof, Question, Seen, Stored};
use crate::backup::manifest::Kind;
use crate::backup::{drill, inventory, names, stores};
use crate::config::model::{Database, Pipeline, Warehouse};
use crate::error::{Failure, classify};
use crate::etl::target;
use crate::ledger::{self, overview};
use crate::secret::Resolver;
use anyhow::Result;
use futures_util::{StreamExt, stream};
use std::time::Duration;

/// How long one part may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Databases that are looked for side by side.
const SIDE_BY_SIDE: usize = 4;

type Pipelines = Vec<(String, Result<Pipeline, Failure>)>;

/// Asks everything, side by side.
pub async fn look(question: &Question<'_>, pipelines: Pipelines, resolver: &Resolver) -> Seen {
    let project = question.project;
    let warehouse = async {
        let warehouse = project.warehouse.as_ref()?;
        Some(bounded(of_warehouse(warehouse, &project.environment, resolver)).await)
    };
    let of_database = |database: &Database| {
        let database = database.clone();
        async move {
            let asked = bounded(of_store(&database, &project.environment, resolver)).await;
            (database.name, asked)
        }
    };
    let asked = stream::iter(project.backups.databases.iter().map(of_database)).buffered(SIDE_BY_SIDE);
    let (ledger, stores) = tokio::join!(warehouse, asked.collect::<Vec<_>>());
    Seen { pipelines, ledger, stores: stores.into_iter().collect() }
}

async fn bounded<T>(asked: impl Future<Output = Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| classify(&error)),
        Err(_) => Err(Failure::temporary(format!("no answer within {} s", WITHIN.as_secs()))),
    }
}

async fn of_warehouse(
    warehouse: &Warehouse,
    environment: &str,
    resolver: &Resolver,
) -> Result<overview::Overview> {
    let connection = resolver.connection(&warehouse.connection).await?;
    let name = format!("sankofa/{} status", env!("CARGO_PKG_VERSION"));
    let session = target::look(&connection, warehouse, &name).await?;
    let found = ledger::look(&session.client).await?;
    if found.version == 0 {
        return Ok(overview::Overview::default()); // nothing has run yet
    }
    ledger::refuse(&found, environment)?;
    overview::read(&session.client).await
}

async fn of_store(database: &Database, environment: &str, resolver: &Resolver) -> Result<Stored> {
    let store = stores::open(&database.place, None, resolver).await?;
    let home = names::home(Kind::Database, &database.name);
    let inventory = inventory::take(store.as_ref(), &home, environment).await?;
    let mut backups: Vec<Kept> = inventory
        .of(&home)
        .filter(|backup| backup.is_good())
        .map(|backup| Kept {
            id: backup.id.clone(),
            at: backup.manifest.started_at.min(backup.stored_at),
            stored_bytes: backup.manifest.object.stored_bytes,
        })
        .collect();
    backups.sort_by_key(|one| std::cmp::Reverse(one.at));
    let records = drill::records(store.as_ref(), &database.name).await?;
    let drills = records.into_iter().filter(|record| record.environment == environment).map(|record| Proof {
        at: record.ended_at,
        proven: record.proven,
        took_ms: (drill::measured(&record).total_ms(), record.restore_within_ms),
    });
    Ok(Stored { backups, drills: drills.collect() })
}
