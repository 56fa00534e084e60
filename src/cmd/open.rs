//! What every command about a pipeline starts with: its files, its secrets, its wishes.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use crate::config::model::{Pipeline, Project, SecretPlace};
use crate::error::Failure;
use crate::etl::plan::Wishes;
use crate::etl::run::{Hands, Request};
use crate::secret::vault::Vault;
use crate::secret::{Environment, Place, Resolver};
use std::sync::Arc;

/// A project and one of its pipelines, resolved, and where its secrets are asked for.
pub struct Open {
    /// The operator's half.
    pub project: Project,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Where secrets are asked for.
    pub resolver: Resolver,
}

/// Where the secrets of `project` are asked for.
///
/// # Errors
/// 78 for a place that this build cannot ask.
pub fn resolver(project: &Project) -> Result<Resolver, Failure> {
    let places = project.secrets.iter().map(|place| match place {
        SecretPlace::Environment => Ok(Arc::new(Environment::process()) as Arc<dyn Place>),
        SecretPlace::Vault(settings) => {
            Ok(Arc::new(Vault::new(settings.as_ref().clone())?) as Arc<dyn Place>)
        }
        SecretPlace::NotYet(name) => {
            Err(Failure::config(format!("cannot ask {name} for secrets: not in this version"))
                .hint("List `environment` alone under `secrets:`."))
        }
    });
    Ok(Resolver::new(places.collect::<Result<_, _>>()?))
}

/// Reads the project and the pipeline called `name`.
///
/// # Errors
/// 78, with file, line and column.
pub fn open(context: &Context, name: &str) -> anyhow::Result<Open> {
    let (project, pipeline) = context.pipeline(name)?;
    let resolver = resolver(&project)?;
    Ok(Open { project, pipeline, resolver })
}

impl Open {
    /// What the run needs of this process.
    pub fn hands<'a>(&'a self, context: &'a Context) -> Hands<'a> {
        Hands { resolver: &self.resolver, stop: &context.stop, shown: &context.shown }
    }

    /// The run that the arguments ask for.
    ///
    /// # Errors
    /// 2 for a table or a window that makes no sense.
    pub fn request<'a>(
        &'a self,
        command: &'a str,
        step: &'a StepArgs,
        select: &SelectArgs,
    ) -> Result<Request<'a>, Failure> {
        let window = select.window()?.map(|(from, to)| (from.to_string(), to.to_string()));
        Ok(Request {
            project: &self.project,
            pipeline: &self.pipeline,
            specs: select.tables_of(&self.pipeline)?,
            run_id: step.run.as_str(),
            command,
            wishes: Wishes { full_refresh: select.full_refresh, window, allow_rewrite: step.allow_rewrite },
            allow_deletes: step.allow_deletes,
            take_over: step.take_over,
        })
    }
}
