//! The warehouse: reachable, ours, writable, and closed to readers where it has to be.

use super::Findings;
use crate::config::model::{Pipeline, Project, SecretPlace, Warehouse};
use crate::config::needs::Class;
use crate::error::{Failure, Kind};
use crate::etl::target;
use crate::ledger::{self, STAGING_SCHEMA, lock, overview, setup};
use crate::pg::Session;
use crate::report::lines::minute;
use crate::secret::{Connection, Resolver};
use crate::table::quote;
use anyhow::Result;
use std::collections::BTreeMap;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " doctor");

/// Asks everything about the warehouse.
pub async fn examine(project: &Project, pipelines: &[&Pipeline], resolver: &Resolver) -> Findings {
    let warehouse = match project.warehouse() {
        Ok(warehouse) => warehouse,
        Err(missing) => {
            let mut findings = Findings::about("warehouse");
            match pipelines.is_empty() {
                true => findings.ok("the project has none: it moves no rows"),
                false => findings.failed(&missing),
            }
            return findings;
        }
    };
    let mut findings = Findings::about(format!("warehouse {}", warehouse.connection));
    let Some(connection) = findings.answer(resolver.connection(&warehouse.connection).await) else {
        return findings;
    };
    let Some(session) = findings.answer(target::look(&connection, warehouse, NAME).await) else {
        return findings;
    };
    super::source::version(&session, &mut findings);
    owner(project, warehouse, &mut findings);
    let Some(writer) = findings.answer(target::bare(&connection, NAME).await) else { return findings };
    findings.ok("takes writes");
    pooler(&connection, &session, &mut findings).await;
    connection_check(&writer, &mut findings).await;
    let asked = ledger(project, &session, &mut findings).await;
    let known = findings.answer(asked).unwrap_or(false);
    let asked = rights(project, pipelines, &session, known, &mut findings).await;
    findings.answer(asked);
    if let Some(reader) = &warehouse.reader_role {
        let asked = reader_rules(reader, &session, known, &mut findings).await;
        findings.answer(asked);
    }
    findings
}

/// Whether each pipeline has been loaded.
pub async fn loads(project: &Project, pipelines: &[&Pipeline], resolver: &Resolver) -> Findings {
    let mut findings = Findings::about("first load");
    let Ok(warehouse) = project.warehouse() else { return findings };
    let asked = async {
        let connection = resolver.connection(&warehouse.connection).await?;
        let session = target::look(&connection, warehouse, NAME).await?;
        match ledger::look(&session.client).await?.version {
            0 => Ok(BTreeMap::new()),
            _ => overview::published(&session.client).await,
        }
    };
    let asked: Result<_> = asked.await;
    let Ok(published) = asked else { return findings }; // told of the warehouse already
    for pipeline in pipelines {
        let name = &pipeline.name;
        match published.get(name) {
            Some((_, ended)) => findings.ok(format!("{name} was published at {}", minute(*ended))),
            None => findings.step(
                format!("{name} has never been published"),
                format!("`sankofa plan {name}`, then `sankofa sync {name}`."),
            ),
        }
    }
    findings
}

/// A user that Vault makes for a run and drops after it must own nothing.
fn owner(project: &Project, warehouse: &Warehouse, findings: &mut Findings) {
    let is_leased = project.secrets.iter().any(|place| match place {
        SecretPlace::Vault(place) => place.of_class(Class::Rows).dynamic.contains_key(&warehouse.connection),
        _ => false,
    });
    if is_leased && warehouse.owner_role.is_none() {
        let what =
            format!("the user of {} is made for each run, and would own what it makes", warehouse.connection);
        let failure = Failure::config(what)
            .hint("Name a role that stays: `warehouse: {owner_role: ...}`; the user must be a member of it (docs/vault.md).");
        findings.answer::<()>(Err(failure.into()));
    }
}

async fn pooler(connection: &Connection, session: &Session, findings: &mut Findings) {
    let asked = async {
        let other = target::bare(connection, NAME).await?;
        lock::refuse_pooler(&session.client, &other.client).await
    };
    if findings.answer(asked.await).is_some() {
        findings.ok("no transaction pooler stands before it");
    }
}

/// Whether the server notices by itself that a client is gone.
async fn connection_check(session: &Session, findings: &mut Findings) {
    if session.major() < 14 {
        findings.ok(
            "a lost host frees its lock by TCP keepalives (client_connection_check_interval came with 14)",
        );
        return;
    }
    match session.client.batch_execute("SET client_connection_check_interval = '10s'").await {
        Ok(()) => findings.ok("a lost host frees its lock (client_connection_check_interval)"),
        Err(_) => findings.warn(
            "client_connection_check_interval does not work on this server",
            "After a crash the lock may be held until TCP gives up; `--take-over` ends the holder.",
        ),
    }
}

/// The ledger's version and environment; whether there is one.
async fn ledger(project: &Project, session: &Session, findings: &mut Findings) -> Result<bool> {
    let found = ledger::look(&session.client).await?;
    if found.version == 0 {
        findings.ok("schema sankofa is not there yet: the first run makes it");
        return Ok(false);
    }
    ledger::refuse(&found, &project.environment)?;
    let (version, environment) = (found.version, &found.environment);
    findings.ok(format!("schema sankofa version {version}, environment {environment}"));
    Ok(true)
}

async fn truth(session: &Session, sql: &str, with: &[&str]) -> Result<bool> {
    let with: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = with.iter().map(|text| text as _).collect();
    let row = session.client.query_one(sql, &with).await;
    let row = row.map_err(|error| session.failure(error, "cannot see the rights in the warehouse"))?;
    Ok(row.get::<_, Option<bool>>(0).unwrap_or(false))
}

/// What the role that writes may do.
async fn rights(
    project: &Project,
    pipelines: &[&Pipeline],
    session: &Session,
    known: bool,
    findings: &mut Findings,
) -> Result<()> {
    let row = session.client.query_one("SELECT current_user::text, current_database()::text", &[]).await;
    let row = row.map_err(|error| session.failure(error, "cannot see the rights in the warehouse"))?;
    let (role, database): (String, String) = (row.get(0), row.get(1));
    let create = truth(session, "SELECT has_database_privilege(current_database(), 'CREATE')", &[]).await?;
    let mut schemas: Vec<&str> = pipelines.iter().map(|pipeline| pipeline.schema.as_str()).collect();
    schemas.extend(known.then_some(STAGING_SCHEMA));
    schemas.sort_unstable();
    schemas.dedup();
    let mut missing = !known;
    for schema in schemas {
        let there =
            truth(session, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", &[schema]).await?;
        missing |= !there;
        let may =
            "SELECT has_schema_privilege($1::text, 'CREATE') AND has_schema_privilege($1::text, 'USAGE')";
        if there && !truth(session, may, &[schema]).await? {
            findings.fail(
                Kind::Permission,
                format!("{role} may not create tables in schema {schema}"),
                format!("GRANT USAGE, CREATE ON SCHEMA {} TO {};", quote(schema), quote(&role)),
            );
        }
    }
    match (missing, create) {
        (true, false) => findings.fail(
            Kind::Permission,
            format!("{role} may not create the schemas that are missing"),
            format!("GRANT CREATE ON DATABASE {} TO {};", quote(&database), quote(&role)),
        ),
        _ => findings.ok(format!("{role} may create what a run needs")),
    }
    if let Some(after) = project.warehouse.as_ref().and_then(|warehouse| warehouse.after_role.as_ref()) {
        let query = "SELECT pg_has_role((SELECT oid FROM pg_roles WHERE rolname = $1), 'MEMBER')";
        match truth(session, query, &[after]).await? {
            true => findings.ok(format!("`after:` SQL runs as {after}")),
            false => findings.fail(
                Kind::Permission,
                format!("{role} is no member of after_role {after}, or there is no such role"),
                format!("GRANT {} TO {};", quote(after), quote(&role)),
            ),
        }
    }
    Ok(())
}

/// The reader sees what is loaded and the platform's views; no staging, no base table.
async fn reader_rules(reader: &str, session: &Session, known: bool, findings: &mut Findings) -> Result<()> {
    if !truth(session, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", &[reader]).await? {
        let next = format!("CREATE ROLE {}; or correct `reader_role:`.", quote(reader));
        findings.fail(Kind::Config, format!("reader_role {reader} does not exist"), next);
        return Ok(());
    }
    if truth(session, "SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[reader]).await? {
        let next = format!("ALTER ROLE {} NOSUPERUSER;", quote(reader));
        findings.fail(
            Kind::Permission,
            format!("reader_role {reader} is a superuser: it sees everything"),
            next,
        );
        return Ok(());
    }
    if !known {
        return Ok(());
    }
    let before = findings.all.len();
    let staging = format!("SELECT has_schema_privilege($1::text, '{STAGING_SCHEMA}', 'USAGE')");
    if truth(session, &staging, &[reader]).await? {
        let next = format!("REVOKE ALL ON SCHEMA {STAGING_SCHEMA} FROM {}; and from PUBLIC.", quote(reader));
        findings.fail(
            Kind::Permission,
            format!("reader_role {reader} sees rows on their way ({STAGING_SCHEMA})"),
            next,
        );
    }
    let base = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'sankofa' AND c.relkind = 'r' AND has_table_privilege($1::text, c.oid, 'SELECT'))";
    if truth(session, base, &[reader]).await? {
        let next = format!(
            "REVOKE ALL ON ALL TABLES IN SCHEMA sankofa FROM {}; then `sankofa warehouse init`.",
            quote(reader)
        );
        findings.fail(
            Kind::Permission,
            format!("reader_role {reader} reads base tables of schema sankofa"),
            next,
        );
    }
    if !setup::sees_views(&session.client, reader).await? {
        findings.warn(
            format!("reader_role {reader} cannot read the platform's views"),
            "Run `sankofa warehouse init`.",
        );
    }
    let shut = "SELECT EXISTS (SELECT FROM sankofa.table_state s WHERE to_regclass(s.target) IS NOT NULL
        AND NOT has_table_privilege($1::text, to_regclass(s.target), 'SELECT'))";
    if truth(session, shut, &[reader]).await? {
        findings.warn(
            format!("reader_role {reader} cannot read some table that is loaded"),
            "The next run of its pipeline grants it.",
        );
    }
    if findings.all.len() == before {
        findings.ok(format!("{reader} reads what is loaded, and nothing on its way"));
    }
    Ok(())
}
