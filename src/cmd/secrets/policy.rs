//! `sankofa secrets policy`: what Vault and PostgreSQL must allow, and what differs in Vault.
//!
//! Holds: what is printed is a policy as it stands (HCL), grants as its comments; with `--class` the
//!        login of this process is compared, and nothing but paths and capabilities is asked.

use crate::cmd::Context;
use crate::config::model::{Pipeline, Project, SecretPlace};
use crate::config::needs::{Class, needs};
use crate::config::{load_pipeline, pipeline_names};
use crate::report::Report;
use crate::secret::Asked;
use crate::secret::vault::{Auth, Rights, Settings, Vault};
use crate::table::quote;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// Print the Vault policy and the grants that this project needs, and what differs from those in force
#[derive(clap::Args, Debug)]
pub struct Args {
    /// One class, compared with what the login of this process may do in Vault [default: all, not compared]
    #[arg(long, value_name = "CLASS")]
    pub class: Option<Class>,
}

/// By path, the one capability that is needed there.
type Wanted = BTreeMap<String, &'static str>;

/// Runs the command.
///
/// # Errors
/// 78 for project files that are wrong. That Vault cannot be asked is a warning.
pub async fn run(args: &Args, context: &Context) -> anyhow::Result<Report> {
    let files = context.files();
    let project = context.project()?;
    let moves_rows = project.warehouse.is_some() && args.class.is_none_or(|class| class == Class::Rows);
    let names = if moves_rows { pipeline_names(&files)? } else { Vec::new() };
    let pipelines: Vec<Pipeline> =
        names.iter().map(|name| load_pipeline(&files, &project, name)).collect::<anyhow::Result<_>>()?;
    let classes = args.class.map_or(Class::ALL.to_vec(), |class| vec![class]);
    let (mut report, mut text, mut told) = (context.report(), String::new(), Map::new());
    for class in classes {
        let grants = grants(&project, &pipelines, class);
        let mut policies = Vec::new();
        for settings in vaults(&project) {
            let wanted = wanted(&project, &pipelines, settings, class);
            text.push_str(&format!(
                "# class {}, Vault at {}\n{}",
                class.word(),
                settings.address,
                hcl(&wanted)
            ));
            let mut policy = json!({"address": settings.address, "paths": wanted});
            if args.class.is_some() {
                let (missing, beyond) = compare(&wanted, settings, &mut report).await;
                missing.iter().for_each(|line| text.push_str(&format!("# missing in force: {line}\n")));
                beyond.iter().for_each(|line| text.push_str(&format!("# in force beyond need: {line}\n")));
                policy["missing"] = json!(missing);
                policy["beyond"] = json!(beyond);
            }
            policies.push(policy);
        }
        text.push_str(&format!("# class {}, PostgreSQL\n", class.word()));
        grants.iter().for_each(|line| text.push_str(&format!("# {line}\n")));
        text.push('\n');
        told.insert(class.word().to_owned(), json!({"policies": policies, "grants": grants}));
    }
    report.extra.insert("classes".to_owned(), told.into());
    Ok(report.for_person(text))
}

fn vaults(project: &Project) -> impl Iterator<Item = &Settings> {
    project.secrets.iter().filter_map(|place| match place {
        SecretPlace::Vault(settings) => Some(settings.as_ref()),
        _ => None,
    })
}

/// What `class` does in this Vault.
fn wanted(project: &Project, pipelines: &[Pipeline], settings: &Settings, class: Class) -> Wanted {
    let needs = needs(project, pipelines, class);
    let mut wanted = Wanted::new();
    let connections = needs.connections.iter().map(|id| Asked::Connection(id));
    for asked in connections.chain(needs.variables.iter().map(|key| Asked::Variable(key))) {
        wanted.extend(settings.paths(asked).into_iter().map(|path| (path, "read")));
    }
    let leased: Vec<&String> = needs.connections.iter().filter_map(|id| settings.dynamic.get(id)).collect();
    if leased.iter().any(|path| path.contains("/creds/")) {
        wanted
            .extend([("sys/leases/renew".to_owned(), "update"), ("sys/leases/revoke".to_owned(), "update")]);
    }
    wanted.extend(leased.into_iter().map(|path| (path.clone(), "read")));
    if settings.auth != Auth::Agent {
        wanted.insert("auth/token/renew-self".to_owned(), "update");
    }
    match settings.auth {
        Auth::Agent => (),
        Auth::Token { .. } => drop(wanted.insert("auth/token/lookup-self".to_owned(), "read")),
        _ => drop(wanted.insert("auth/token/revoke-self".to_owned(), "update")),
    }
    wanted
}

fn hcl(wanted: &Wanted) -> String {
    let quoted = |path: &str| path.replace('\\', "\\\\").replace('"', "\\\"");
    let line = |(path, word): (&String, &&str)| {
        format!("path \"{}\" {{ capabilities = [\"{word}\"] }}\n", quoted(path))
    };
    wanted.iter().map(line).collect()
}

/// What the login of this process lacks, and what it has beyond.
async fn compare(wanted: &Wanted, settings: &Settings, report: &mut Report) -> (Vec<String>, Vec<String>) {
    let (mut missing, mut beyond) = (Vec::new(), Vec::new());
    let paths: Vec<String> = wanted.keys().cloned().collect();
    let vault = match Vault::new(settings.clone()) {
        Ok(vault) => vault,
        Err(failure) => {
            report.warnings.push(failure.what);
            return (missing, beyond);
        }
    };
    match vault.rights_on(&paths).await {
        Ok(rights) => missing.extend(lacking(wanted, &rights)),
        Err(failure) => report.warnings.push(format!("not compared: {}", failure.what)),
    }
    match vault.rights().await {
        Ok(rights) => beyond.extend(too_much(wanted, &rights)),
        Err(failure) => report.warnings.push(format!("not looked for what is beyond need: {}", failure.what)),
    }
    crate::secret::Place::close(&vault).await;
    (missing, beyond)
}

fn lacking<'a>(wanted: &'a Wanted, rights: &'a Rights) -> impl Iterator<Item = String> + 'a {
    let allows = |words: &Vec<String>, word: &str| words.iter().any(|one| one == word || one == "root");
    wanted
        .iter()
        .filter(move |(path, word)| !rights.get(*path).is_some_and(|words| allows(words, word)))
        .map(|(path, word)| format!("{word} on {path}"))
}

fn too_much(wanted: &Wanted, rights: &Rights) -> Vec<String> {
    // Whoever compares needs these two; every login may have them.
    let harmless = ["sys/capabilities-self", "sys/internal/ui/resultant-acl"];
    let mut beyond = Vec::new();
    for (path, words) in rights.iter().filter(|(path, _)| !harmless.contains(&path.as_str())) {
        let extra =
            words.iter().filter(|word| *word != "deny" && wanted.get(path).is_none_or(|need| need != word));
        beyond.extend(extra.map(|word| format!("{word} on {path}")));
    }
    beyond
}

/// The grants of PostgreSQL, as SQL; the group roles have the names of docs/vault.md.
fn grants(project: &Project, pipelines: &[Pipeline], class: Class) -> Vec<String> {
    match class {
        Class::Rows => {
            let mut lines = Vec::new();
            for pipeline in pipelines {
                lines.push(format!("-- in the database of connection {}:", pipeline.source));
                lines.push("GRANT pg_read_all_stats TO sankofa_rows;".to_owned());
                let schemas: std::collections::BTreeSet<&str> =
                    pipeline.tables.iter().map(|table| table.name.schema.as_str()).collect();
                lines.extend(
                    schemas
                        .iter()
                        .map(|one| format!("GRANT USAGE ON SCHEMA {} TO sankofa_rows;", quote(one))),
                );
                lines.extend(pipeline.tables.iter().map(|table| {
                    let (schema, name) = (quote(&table.name.schema), quote(&table.name.name));
                    format!("GRANT SELECT ON {schema}.{name} TO sankofa_rows;")
                }));
            }
            if let Some(warehouse) = &project.warehouse {
                let owner = quote(warehouse.owner_role.as_deref().unwrap_or("sankofa_owner"));
                let id = &warehouse.connection;
                lines.push(format!("-- in the database of connection {id}, by its owner, for its name:"));
                lines.push(format!("GRANT CREATE, TEMPORARY ON DATABASE ... TO {owner};"));
            }
            lines
        }
        Class::Backup => vec![
            "-- on every server that is backed up; before 14, SELECT on all tables and sequences:".to_owned(),
            "GRANT pg_read_all_data, pg_read_all_stats TO sankofa_backup;".to_owned(),
            "-- the user itself, where tables have row security: ALTER ROLE ... BYPASSRLS".to_owned(),
        ],
        Class::Drill => {
            vec!["-- on the drill server:".to_owned(), "ALTER ROLE sankofa_drill CREATEDB;".to_owned()]
        }
    }
}
