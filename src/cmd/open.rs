//! What every command about a pipeline starts with: its files, its secrets, its wishes.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use crate::config::model::{AwsPlace, FilesPlace, Mask, Pipeline, Project, SecretPlace};
use crate::error::Failure;
use crate::etl::plan::Wishes;
use crate::etl::prepare::HMAC_KEY;
use crate::etl::run::{Hands, Request};
use crate::secret::aws::{Ambient, SecretsManager, Settings, Who};
use crate::secret::{Asked, Environment, Files, Place, Resolver};
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
        SecretPlace::Files(files) => Ok(file_place(files)),
        SecretPlace::AwsSecretsManager(place) => Ok(aws_place(place)),
        SecretPlace::NotYet(name) => {
            Err(Failure::config(format!("cannot ask {name} for secrets: not in this version"))
                .hint("List `environment` alone under `secrets:`."))
        }
    });
    Ok(Resolver::new(places.collect::<Result<_, _>>()?))
}

fn file_place(files: &FilesPlace) -> Arc<dyn Place> {
    let FilesPlace { connections, variables } = files.clone();
    Arc::new(Files { connections, variables })
}

fn aws_place(place: &AwsPlace) -> Arc<dyn Place> {
    let AwsPlace { region, connections, variables, sep, extra_conn_words, profile, role_arn, endpoint_url } =
        place.clone();
    let who = Who { region, profile, role_arn };
    let settings = Settings { connections, variables, sep, extra_conn_words, endpoint_url, who };
    Arc::new(SecretsManager::new(settings, Ambient::process()))
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
    /// Asks, side by side, for all that reading the source into the warehouse needs.
    pub async fn fetch_for_reading(&self) {
        let by_pipeline = self.pipeline.tables.iter().flat_map(|table| table.mask.values());
        let mut masks = by_pipeline.chain(self.project.guard.mask.iter().map(|(_, mask)| mask));
        let key = masks.any(|mask| *mask == Mask::Hmac).then_some(Asked::Variable(HMAC_KEY));
        let ends = [&self.pipeline.source, &self.project.warehouse.connection];
        let needed: Vec<_> = ends.into_iter().map(|id| Asked::Connection(id)).chain(key).collect();
        self.resolver.fetch_ahead(&needed).await;
    }

    /// Asks, side by side, for all that reading a stage into the warehouse needs.
    pub async fn fetch_for_loading(&self) {
        let stage = self.project.stage.as_ref().filter(|stage| !stage.encrypt_to.is_empty());
        let identity = stage.and_then(|stage| stage.identity.as_deref()).map(Asked::Variable);
        let warehouse = Asked::Connection(&self.project.warehouse.connection);
        let needed: Vec<_> = std::iter::once(warehouse).chain(identity).collect();
        self.resolver.fetch_ahead(&needed).await;
    }

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
