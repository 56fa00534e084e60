//! What our reading costs others on the source: locks they wait for, a snapshot that holds back VACUUM.
//!
//! In:    a session of its own, our server processes; when the snapshot was taken.
//! Out:   the failure that ends the reading, when somebody has waited, or it was held, too long.

use crate::error::Failure;
use crate::pg::public;
use crate::report::Report;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tracing::info;

/// Another session that has waited so long for us makes us give up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A snapshot that is held: rows that others delete meanwhile cannot be cleared away.
#[derive(Debug)]
pub(super) struct Held {
    since: Instant,
    at_most: Option<Duration>,
}

impl Held {
    /// A snapshot that is about to be taken, for `at_most` that long.
    pub(super) fn now(at_most: Option<Duration>) -> Self {
        Held { since: Instant::now(), at_most }
    }

    /// Tells how long it has been held by now: VACUUM there has waited for it.
    pub(super) fn tell(&self, report: &mut Report) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(ms, "the source is read, its snapshot let go");
        report.extra.insert("snapshot_ms".to_owned(), ms.into());
    }

    /// Ends when it has been held for too long; never, where there is no bound.
    pub(super) async fn until_too_old(&self) -> anyhow::Error {
        let Some(at_most) = self.at_most else { return std::future::pending().await };
        tokio::time::sleep(at_most.saturating_sub(self.since.elapsed())).await;
        Failure::temporary(format!(
            "gave up reading the source: its snapshot has been held for {} s, the pipeline's `max_snapshot_age`",
            at_most.as_secs_f64()
        ))
        .hint("`extract` does not wait for the warehouse as `sync` does; else raise `max_snapshot_age`.")
        .into()
    }
}

/// Looks twice a second who waits for us; ends when somebody has waited too long.
pub(super) async fn until_held_up(client: &Client, ours: &[i32]) -> anyhow::Error {
    let query = "SELECT a.pid, coalesce(a.application_name, '')
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
        WHERE NOT l.granted AND a.backend_type <> 'autovacuum worker'
          AND pg_catalog.pg_blocking_pids(l.pid) && $1::int4[]";
    let mut waiting: HashMap<i32, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // What a transaction has seen of other sessions it goes on seeing, unless told to look again.
        let asked = async {
            client.batch_execute("SELECT pg_catalog.pg_stat_clear_snapshot()").await?;
            client.query(query, &[&ours]).await
        };
        let rows = match asked.await {
            Ok(rows) => rows,
            Err(error) => return public::failure(error, "cannot watch over the source's locks"),
        };
        let now = Instant::now();
        let seen: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        waiting.retain(|pid, _| seen.contains(pid));
        for row in &rows {
            let (pid, program): (i32, String) = (row.get(0), row.get(1));
            if now.duration_since(*waiting.entry(pid).or_insert(now)) >= PATIENCE {
                return Failure::temporary(format!(
                    "gave up reading the source: our locks have held up server process {pid} ({program}) for {} s",
                    PATIENCE.as_secs()
                ))
                .hint("Run it again when the schema change (or VACUUM FULL) there is through.")
                .into();
            }
        }
    }
}
