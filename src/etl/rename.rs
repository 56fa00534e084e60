//! `state rename`: what is known of a pipeline's tables goes to another name of it.
//!
//! In:    the old name, the pipeline under its new one, a table or all.
//! Out:   the tables that were handed over, and those among them that the new pipeline does not read.
//! Holds: one transaction, under the locks of both; no row of the warehouse is touched.
//! Not here: the statements (`ledger::state`).

use crate::config::model::{Pipeline, Project};
use crate::error::Failure;
use crate::etl::target::{self, Opening};
use crate::ledger::{self, lock, state};
use crate::pg::{Session, public};
use crate::secret::Resolver;
use anyhow::Result;

/// What is asked for.
pub struct Rename<'a> {
    /// The operator's half.
    pub project: &'a Project,
    /// The old name.
    pub old: &'a str,
    /// The pipeline that goes on.
    pub new: &'a Pipeline,
    /// One table, by its name at the source; `None`: all, with the runs.
    pub table: Option<&'a str>,
    /// Only tell.
    pub dry_run: bool,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Tables that were handed over.
    pub tables: Vec<String>,
    /// Those that the new pipeline does not read.
    pub unread: Vec<String>,
}

impl Rename<'_> {
    /// Does it.
    ///
    /// # Errors
    /// 65 when nothing is known under the old name, or the new one has loaded such a table; 75 while a
    /// run of either holds its lock; as [`target::open`].
    pub async fn run(&self, resolver: &Resolver) -> Result<Done> {
        let warehouse = self.project.warehouse()?;
        let connection = resolver.connection(&warehouse.connection).await?;
        let name =
            format!("sankofa/{} state rename {} {}", env!("CARGO_PKG_VERSION"), self.old, self.new.name);
        let environment = &self.project.environment;
        if self.dry_run {
            let session = target::look(&connection, warehouse, &name).await?;
            let found = ledger::look(&session.client).await?;
            if found.version == 0 {
                return self.told(Vec::new());
            }
            ledger::refuse(&found, environment)?;
            let states = state::read(&session.client, self.old).await?;
            let wanted = |name: &String| self.table.is_none_or(|table| table == name);
            return self.told(states.into_keys().filter(wanted).collect());
        }
        let opening =
            Opening { warehouse, environment, pipeline: self.old, application_name: &name, take_over: false };
        let target = target::open(&connection, &opening).await?;
        let (holder, other) = (&target.publisher, &target.second);
        lock::of(&self.new.name).by(environment).take(holder, other, false).await?;
        self.hand_over(holder).await
    }

    async fn hand_over(&self, session: &Session) -> Result<Done> {
        let run = async |sql: &str| {
            let done = session.client.batch_execute(sql).await;
            done.map_err(|error| public::failure(error, "cannot rename the pipeline in the ledger"))
        };
        run("BEGIN").await?;
        let done = async {
            let tables = state::rename(&session.client, self.old, &self.new.name, self.table).await?;
            self.told(tables)
        };
        let done = done.await;
        run(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        done
    }

    fn told(&self, tables: Vec<String>) -> Result<Done> {
        if tables.is_empty() {
            let what = match self.table {
                Some(table) => format!("{table} of pipeline {}", self.old),
                None => format!("pipeline {}", self.old),
            };
            return Err(Failure::data(format!("cannot rename: the ledger knows nothing of {what}"))
                .hint(format!(
                    "`sankofa state show {}` tells what is known under the new name.",
                    self.new.name
                ))
                .into());
        }
        let reads = |name: &String| self.new.tables.iter().any(|spec| spec.name.to_string() == *name);
        let unread = tables.iter().filter(|name| !reads(name)).cloned().collect();
        Ok(Done { tables, unread })
    }
}
