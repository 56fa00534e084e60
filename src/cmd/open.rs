//! What every command about a pipeline starts with: its files, its secrets, its wishes.

use super::Context;
use super::arguments::{SelectArgs, StepArgs};
use crate::config::model::{AwsPlace, Database, FilesPlace, Pipeline, Project, SecretPlace};
use crate::config::needs::{Class, HMAC_KEY, masks_by_hmac};
use crate::error::Failure;
use crate::etl::run::{Hands, Request};
use crate::report::Report;
use crate::secret::aws::{Ambient, SecretsManager, Settings, Who};
use crate::secret::vault::Vault;
use crate::secret::{Asked, Environment, Files, Place, Resolver};
use crate::stop::{Registration, StopSignal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A project and one of its pipelines, resolved, and where its secrets are asked for.
pub struct Open {
    /// The operator's half.
    pub project: Project,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Where secrets are asked for.
    pub resolver: Resolver,
}

/// The places that a command has opened, to be closed at its end: by class, since each may have users of
/// its own.
#[derive(Default)]
pub struct Opened(Mutex<Vec<(Class, Resolver, Registration)>>);

impl Opened {
    /// Where the secrets of `project` are asked for, the same each time; closed when the command ends, or
    /// is asked to stop.
    ///
    /// # Errors
    /// As [`resolver`].
    pub fn resolver(&self, project: &Project, class: Class, stop: &StopSignal) -> Result<Resolver, Failure> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_class = |place: &SecretPlace| matches!(place, SecretPlace::Vault(place) if !place.dynamic_by_class.is_empty());
        let is_same = |of: Class| of == class || !project.secrets.iter().any(by_class);
        if let Some((_, resolver, _)) = opened.iter().find(|(of, ..)| is_same(*of)) {
            return Ok(resolver.clone());
        }
        let resolver = resolver(project, class)?;
        let closing = resolver.clone();
        let on_stop = stop.on_stop(async move { closing.close().await });
        opened.push((class, resolver.clone(), on_stop));
        Ok(resolver)
    }

    /// What `done` really ended with: work that failed because a user was taken away is to be tried again.
    ///
    /// # Errors
    /// That of `done`; 75 when a lease was lost.
    pub async fn judge(&self, done: anyhow::Result<Report>) -> anyhow::Result<Report> {
        let Err(error) = done else { return done };
        for resolver in self.all() {
            if let Some(id) = resolver.lost().await {
                let what =
                    format!("the user of connection {id} was taken away while it was in use: {error:#}");
                return Err(Failure::temporary(what)
                    .hint("Its lease in Vault was revoked or came to its end; compare its max_ttl with how long this takes.")
                    .into());
            }
        }
        Err(error)
    }

    /// Gives back logins and leases.
    pub async fn close(&self) {
        futures_util::future::join_all(self.all().iter().map(Resolver::close)).await;
    }

    fn all(&self) -> Vec<Resolver> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.iter().map(|(_, resolver, _)| resolver.clone()).collect()
    }
}

/// Where the secrets of `project` are asked for by `class`. A command takes it from
/// [`Context::resolver`], which closes it at the end.
///
/// # Errors
/// 78 for a place that this build cannot ask.
pub fn resolver(project: &Project, class: Class) -> Result<Resolver, Failure> {
    let places = project.secrets.iter().map(|place| match place {
        SecretPlace::Environment => Ok(Arc::new(Environment::process()) as Arc<dyn Place>),
        SecretPlace::Files(files) => Ok(file_place(files)),
        SecretPlace::AwsSecretsManager(place) => Ok(aws_place(place)),
        SecretPlace::Vault(place) => Ok(Arc::new(Vault::new(place.of_class(class))?) as Arc<dyn Place>),
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
    let resolver = context.resolver(&project)?;
    Ok(Open { project, pipeline, resolver })
}

/// The warehouse, if there is one.
pub fn warehouse(project: &Project) -> Option<Asked<'_>> {
    project.warehouse.as_ref().map(|warehouse| Asked::Connection(&warehouse.connection))
}

/// The key of the store of `database`.
pub fn store(database: &Database) -> Option<Asked<'_>> {
    database.place.connection().map(Asked::Connection)
}

/// What opens the backups of `database`, unless files do.
pub fn identities<'a>(database: &'a Database, files: &[PathBuf]) -> impl Iterator<Item = Asked<'a>> {
    let named: &[String] = if files.is_empty() { &database.identities } else { &[] };
    named.iter().map(|name| Asked::Variable(name))
}

impl Open {
    /// Asks, side by side, for all that reading the source into the warehouse needs.
    pub async fn fetch_for_reading(&self) {
        let key = masks_by_hmac(&self.project, [&self.pipeline]).then_some(Asked::Variable(HMAC_KEY));
        let source = Asked::Connection(&self.pipeline.source);
        let warehouse = warehouse(&self.project);
        self.resolver.fetch_ahead(std::iter::once(source).chain(warehouse).chain(key)).await;
    }

    /// Asks, side by side, for all that reading a stage into the warehouse needs.
    pub async fn fetch_for_loading(&self) {
        let stage = self.project.stage.as_ref().filter(|stage| !stage.encrypt_to.is_empty());
        let identity = stage.and_then(|stage| stage.identity.as_deref()).map(Asked::Variable);
        self.resolver.fetch_ahead(warehouse(&self.project).into_iter().chain(identity)).await;
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
        Ok(Request {
            project: &self.project,
            pipeline: &self.pipeline,
            specs: select.tables_of(&self.pipeline)?,
            run_id: step.run.as_str(),
            command,
            wishes: select.wishes(step.allow_rewrite)?,
            overrides: step.overrides.asked(&self.pipeline)?,
            allow_deletes: step.allow_deletes,
            take_over: step.take_over,
        })
    }
}
