//! `sankofa secrets policy`: what Vault and PostgreSQL must allow, and what differs from what they do.
//!
//! Holds: what is printed is a policy as it stands (HCL), grants as its comments; with `--class` the
//!        login and the roles of this process are compared: paths, capabilities and the catalog are
//!        asked, never a value; nothing is changed.

use super::grants::Grant;
use super::{beyond, grants, pipelines};
use crate::cmd::Context;
use crate::config::model::{Pipeline, Project, SecretPlace};
use crate::config::needs::{Class, Needed, Purpose, all, of_class};
use crate::error::classify;
use crate::report::Report;
use crate::secret::vault::{Settings, Vault, Wanted};
use crate::secret::{Asked, Beyond, Place, Resolver};
use serde_json::{Map, Value, json};

/// Print the Vault policy and the grants that this project needs, and what differs from those in force
#[derive(clap::Args, Debug)]
pub struct Args {
    /// One class, compared with what Vault and PostgreSQL allow this process [default: all, not compared]
    #[arg(long, value_name = "CLASS")]
    pub class: Option<Class>,
}

/// What is lacking and what is too much.
#[derive(Default)]
struct Difference {
    missing: Vec<String>,
    beyond: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// 78 for project files that are wrong. That Vault or a server cannot be asked is a warning.
pub async fn run(args: &Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let is_of_rows = args.class.is_none_or(|class| class == Class::Rows);
    let pipelines = if is_of_rows { pipelines(&project, context)? } else { Vec::new() };
    let classes = args.class.map_or(Class::ALL.to_vec(), |class| vec![class]);
    let (mut report, mut text, mut told) = (context.report(), String::new(), Map::new());
    report.warnings.extend(shared(&project, &pipelines));
    for class in classes {
        let here = Here { project: &project, pipelines: &pipelines, class, compares: args.class.is_some() };
        let policies = here.policies(&mut text, &mut report).await;
        text.push_str(&format!("# class {}, PostgreSQL\n", class.word()));
        let databases = here.databases(context, &mut text, &mut report).await?;
        text.push('\n');
        let sql: Vec<&Value> = databases.iter().flat_map(|one| one["grants"].as_array()).flatten().collect();
        let class_told = json!({"policies": policies, "grants": sql, "databases": databases});
        told.insert(class.word().to_owned(), class_told);
    }
    report.extra.insert("classes".to_owned(), told.into());
    Ok(report.for_person(text))
}

/// One class of a project.
struct Here<'a> {
    project: &'a Project,
    pipelines: &'a [Pipeline],
    class: Class,
    compares: bool,
}

impl Here<'_> {
    /// The policies of every Vault of the project.
    async fn policies(&self, text: &mut String, report: &mut Report) -> Vec<Value> {
        let mut policies = Vec::new();
        let needed = of_class(self.project, self.pipelines, self.class);
        let asked: Vec<Asked<'_>> = needed.iter().map(Needed::asked).collect();
        for place in &self.project.secrets {
            let SecretPlace::Vault(place) = place else { continue };
            let settings = place.of_class(self.class);
            let (wanted, address) = (settings.wanted(&asked), settings.address.clone());
            text.push_str(&format!("# class {}, Vault at {address}\n{}", self.class.word(), hcl(&wanted)));
            let mut policy = json!({"address": address, "paths": wanted});
            if self.compares {
                compared(in_vault(settings, &asked, report).await, &mut policy, text);
            }
            policies.push(policy);
        }
        policies
    }

    /// The grants on every database that the class opens.
    async fn databases(
        &self,
        context: &Context,
        text: &mut String,
        report: &mut Report,
    ) -> anyhow::Result<Vec<Value>> {
        let resolver = if self.compares { Some(context.resolver(self.project)?) } else { None };
        let mut databases = Vec::new();
        for needed in of_class(self.project, self.pipelines, self.class) {
            let grants = grants::needed(&needed, self.project, self.pipelines);
            if grants.is_empty() {
                continue;
            }
            let lines: Vec<String> = grants.iter().map(|grant| grant.printed(&needed)).collect();
            text.push_str(&format!("# -- in the database of connection {}:\n", needed.id));
            lines.iter().for_each(|line| text.push_str(&format!("# {line}\n")));
            let mut database = json!({"connection": needed.id, "grants": lines});
            if let Some(resolver) = &resolver {
                let difference = self.in_database(resolver, &needed, &grants, report).await;
                compared(difference, &mut database, text);
            }
            databases.push(database);
        }
        Ok(databases)
    }

    async fn in_database(
        &self,
        resolver: &Resolver,
        needed: &Needed,
        grants: &[Grant<'_>],
        report: &mut Report,
    ) -> Difference {
        let connection = match resolver.connection(&needed.id).await {
            Ok(connection) => connection,
            Err(error) => return settled(&needed.id, Err(error), Beyond::Known(Vec::new()), report),
        };
        let missing = grants::missing(&connection, grants, self.project).await;
        settled(&needed.id, missing, beyond::of(&connection, needed).await, report)
    }
}

/// What is in force, as far as it could be asked; what could not is a warning.
fn settled(
    of: &str,
    missing: anyhow::Result<Vec<String>>,
    beyond: Beyond,
    report: &mut Report,
) -> Difference {
    let mut difference = Difference::default();
    let mut warn = |what: String| report.warnings.push(format!("{of} was not compared: {what}"));
    match missing {
        Ok(missing) => difference.missing = missing,
        Err(error) => {
            let failure = classify(&error);
            warn([Some(failure.what), failure.hint].into_iter().flatten().collect::<Vec<_>>().join("; "));
            return difference;
        }
    }
    match beyond {
        Beyond::Known(beyond) => difference.beyond = beyond,
        Beyond::Unknown(why) => warn(format!("what is beyond its need: {}", why.unwrap_or_default())),
    }
    difference
}

async fn in_vault(settings: Settings, asked: &[Asked<'_>], report: &mut Report) -> Difference {
    let name = format!("Vault at {}", settings.address);
    let vault = match Vault::new(settings) {
        Ok(vault) => vault,
        Err(failure) => return settled(&name, Err(failure.into()), Beyond::Known(Vec::new()), report),
    };
    let lacking = vault.lacking(asked).await.map_err(anyhow::Error::from);
    let difference = settled(&name, lacking, vault.beyond(asked).await, report);
    vault.close().await;
    difference
}

fn compared(difference: Difference, into: &mut Value, text: &mut String) {
    let Difference { missing, beyond } = difference;
    missing.iter().for_each(|line| text.push_str(&format!("# missing in force: {line}\n")));
    beyond.iter().for_each(|line| text.push_str(&format!("# in force beyond need: {line}\n")));
    into["missing"] = json!(missing);
    into["beyond"] = json!(beyond);
}

/// Connections whose user several classes get from one path: it can have the rights of one of them only.
fn shared(project: &Project, pipelines: &[Pipeline]) -> Vec<String> {
    let mut warnings = Vec::new();
    for needed in all(project, pipelines) {
        let is_for = |class: &Class| needed.is_for(|purpose: &Purpose| purpose.classes().contains(class));
        let classes: Vec<&str> =
            Class::ALL.iter().filter(|class| is_for(class)).map(|one| one.word()).collect();
        let path = project.secrets.iter().find_map(|place| match place {
            SecretPlace::Vault(place) => place.settings.dynamic.get(&needed.id),
            _ => None,
        });
        if let (Some(path), 2..) = (path, classes.len()) {
            warnings.push(format!(
                "the user of {id} comes from {path} in classes {}: give each its own, \
                 `dynamic: {{{id}: {{{}: ..., {}: ...}}}}`",
                classes.join(" and "),
                classes[0],
                classes[1],
                id = needed.id,
            ));
        }
    }
    warnings
}

fn hcl(wanted: &Wanted) -> String {
    let quoted = |path: &str| path.replace('\\', "\\\\").replace('"', "\\\"");
    let line = |(path, word): (&String, &&str)| {
        format!("path \"{}\" {{ capabilities = [\"{word}\"] }}\n", quoted(path))
    };
    wanted.iter().map(line).collect()
}
