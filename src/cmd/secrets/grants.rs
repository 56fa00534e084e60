//! The grants of PostgreSQL that a connection needs for what it is for, and which of them it lacks.
//!
//! In:    an id with its uses, the project. Out: SQL, as in `docs/grants/`; what is missing in force.
//! Holds: the catalog is asked, in a session that cannot write; nothing is granted.
//! Not here: what a role has beyond that (`beyond`), trying it out (`doctor`).

use crate::config::model::{Pipeline, Project, TableSpec};
use crate::config::needs::{Needed, Purpose};
use crate::error::{Kind, classify};
use crate::etl::prepare;
use crate::pg::Session;
use crate::pg::connect::{SessionOptions, connect};
use crate::secret::Connection;
use crate::table::{literal, quote};
use anyhow::Result;
use std::collections::BTreeSet;

const NAME: &str = concat!("sankofa/", env!("CARGO_PKG_VERSION"), " secrets policy");

/// One line: `{role}` and `{database}` stand for those of the connection.
pub(super) struct Grant<'a> {
    sql: String,
    /// Where it is needed, if not always.
    only: &'static str,
    given: Given<'a>,
}

/// How the catalog tells whether it is in force.
enum Given<'a> {
    /// This expression is true.
    If(String),
    /// Every column that is read may be read.
    Columns(&'a TableSpec),
}

impl Grant<'_> {
    fn always<'a>(sql: impl Into<String>, given: impl Into<String>) -> Grant<'a> {
        Grant { sql: sql.into(), only: "", given: Given::If(given.into()) }
    }

    fn only<'a>(only: &'static str, sql: &str, given: impl Into<String>) -> Grant<'a> {
        Grant { only, ..Grant::always(sql, given) }
    }

    /// As it is printed before anybody was asked, with the role of docs/grants.
    pub(super) fn printed(&self, needed: &Needed) -> String {
        let role = match needed.uses.first() {
            Some((_, Purpose::Warehouse)) => "sankofa_load",
            Some((_, Purpose::Backup)) => "sankofa_backup",
            Some((_, Purpose::Drill)) => "sankofa_drill",
            _ => "sankofa_rows",
        };
        self.sql.replace("{role}", role).replace("{database}", "...") + self.only
    }
}

/// What `needed` must be granted; empty for what is no database.
pub(super) fn needed<'a>(needed: &Needed, project: &Project, pipelines: &'a [Pipeline]) -> Vec<Grant<'a>> {
    let mut grants = Vec::new();
    for pipeline in pipelines.iter().filter(|one| one.source == needed.id) {
        if needed.is_for(|purpose| matches!(purpose, Purpose::Source(_))) {
            grants.extend(source(pipeline));
        }
    }
    if needed.is_for(|purpose| *purpose == Purpose::Warehouse) {
        grants.extend(warehouse(project));
    }
    if needed.is_for(|purpose| *purpose == Purpose::Backup) {
        grants.extend(backup());
    }
    if needed.is_for(|purpose| *purpose == Purpose::Drill) {
        let given = "SELECT rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
        grants.push(Grant::always("ALTER ROLE {role} CREATEDB;", format!("({given})")));
    }
    if !grants.is_empty() {
        let given = "pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CONNECT')";
        grants.insert(0, Grant::always("GRANT CONNECT ON DATABASE {database} TO {role};", given));
    }
    let mut seen = BTreeSet::new();
    grants.retain(|grant| seen.insert(grant.sql.clone()));
    grants
}

/// Reading the tables of a pipeline.
fn source(pipeline: &Pipeline) -> Vec<Grant<'_>> {
    let specs: Vec<&TableSpec> = pipeline.tables.iter().collect();
    let mut grants = Vec::new();
    if prepare::opening(pipeline, &specs, "").needs_activity {
        let given = "pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')";
        grants.push(Grant::always("GRANT pg_read_all_stats TO {role};", given));
    }
    let schemas: BTreeSet<&str> = specs.iter().map(|spec| spec.name.schema.as_str()).collect();
    grants.extend(schemas.into_iter().map(|schema| {
        let given = format!(
            "NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {} \
             AND NOT pg_catalog.has_schema_privilege(oid, 'USAGE'))",
            literal(schema)
        );
        Grant::always(format!("GRANT USAGE ON SCHEMA {} TO {{role}};", quote(schema)), given)
    }));
    for spec in specs.iter().copied() {
        let columns = match &spec.include {
            Some(columns) => {
                format!(" ({})", columns.iter().map(|one| quote(one)).collect::<Vec<_>>().join(", "))
            }
            None => String::new(),
        };
        let sql = format!("GRANT SELECT{columns} ON {} TO {{role}};", spec.name.sql());
        let only =
            if spec.exclude.is_empty() { "" } else { " -- or column by column, without those left out" };
        grants.push(Grant { sql, only, given: Given::Columns(spec) });
    }
    let names =
        specs.iter().map(|spec| format!("({}, {})", literal(&spec.name.schema), literal(&spec.name.name)));
    let tables = format!("AND (n.nspname, c.relname) IN ({})", names.collect::<Vec<_>>().join(", "));
    grants.push(Grant::only(" -- where row security would hide rows", BYPASS, unhidden(&tables)));
    grants
}

const BYPASS: &str = "ALTER ROLE {role} BYPASSRLS;";
const READ_ALL: &str = "GRANT pg_read_all_data TO {role};";
/// The same on PostgreSQL 13.
const READ_EACH: &str = "USAGE ON SCHEMA, SELECT ON ALL TABLES and ON ALL SEQUENCES of each schema TO {role}; -- docs/grants/backup-13.sql";

/// No table of `which` hides rows from this role.
fn unhidden(which: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relrowsecurity {which} AND pg_catalog.row_security_active(c.oid))"
    )
}

/// `one` is a member of `of`, if there is such a role.
fn member(one: &str, of: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_roles m, pg_catalog.pg_roles g WHERE m.rolname = {one} \
         AND g.rolname = {} AND NOT pg_catalog.pg_has_role(m.oid, g.oid, 'MEMBER'))",
        literal(of)
    )
}

/// Loading the warehouse.
fn warehouse(project: &Project) -> Vec<Grant<'static>> {
    let Some(warehouse) = &project.warehouse else { return Vec::new() };
    let (mut grants, mut acts, mut who) = (Vec::new(), "{role}".to_owned(), "current_user".to_owned());
    if let Some(owner) = &warehouse.owner_role {
        grants.push(Grant::always(format!("GRANT {} TO {{role}};", quote(owner)), member(&who, owner)));
        (acts, who) = (quote(owner), literal(owner));
    }
    let given = format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {who} AND NOT \
         pg_catalog.has_database_privilege(oid, pg_catalog.current_database(), 'CREATE'))"
    );
    grants.push(Grant::always(format!("GRANT CREATE ON DATABASE {{database}} TO {acts};"), given));
    if let Some(after) = &warehouse.after_role {
        grants.push(Grant::always(format!("GRANT {} TO {acts};", quote(after)), member(&who, after)));
        if let Some(reader) = &warehouse.reader_role {
            let sql = format!("GRANT {} TO {};", quote(reader), quote(after));
            grants.push(Grant::always(sql, member(&literal(after), reader)));
        }
    }
    grants
}

/// Dumping a whole database.
fn backup() -> Vec<Grant<'static>> {
    const THERE: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
    let reads = format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {THERE} AND c.relkind IN ('r', 'p', 'S') AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND \
         CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') \
         ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END))"
    );
    let objects = "NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata m WHERE NOT \
        (pg_catalog.pg_has_role(m.lomowner, 'USAGE') OR EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a \
        WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))))";
    vec![
        Grant::only(" -- before 14: docs/grants/backup-13.sql", READ_ALL, reads),
        Grant::only(" -- where tables have row security", BYPASS, unhidden("")),
        Grant::only(" -- each of them", "GRANT SELECT ON LARGE OBJECT ... TO {role};", objects),
    ]
}

/// Those of `grants` that the role of `connection` lacks.
///
/// # Errors
/// As a connection; that it may not connect is missing, and no error.
pub(super) async fn missing(
    connection: &Connection,
    grants: &[Grant<'_>],
    project: &Project,
) -> Result<Vec<String>> {
    let options =
        SessionOptions::named(NAME).set("default_transaction_read_only", "on").set("search_path", "");
    let session = match connect(connection, &options).await {
        Ok(session) => session,
        Err(error) if is_shut(&error) => {
            let first = grants.first().map(|grant| grant.sql.as_str()).unwrap_or_default();
            let database = connection.schema.as_deref().map_or("...".to_owned(), quote);
            let role = connection.login.as_deref().map_or("...".to_owned(), quote);
            return Ok(vec![first.replace("{role}", &role).replace("{database}", &database)]);
        }
        Err(error) => return Err(error),
    };
    let row = session.client.query_one("SELECT current_user::text, pg_catalog.current_database()::text", &[]);
    let row = row.await.map_err(|error| session.failure(error, CANNOT))?;
    let (role, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut missing = Vec::new();
    for grant in grants {
        let line = match &grant.given {
            Given::If(given) if holds(&session, given).await? => continue,
            Given::If(_) if grant.sql == READ_ALL && session.major() < 14 => READ_EACH.to_owned(),
            Given::If(_) => grant.sql.clone(),
            Given::Columns(spec) => match unread(&session, spec, project, &database).await?.as_slice() {
                [] => continue,
                columns => {
                    format!("GRANT SELECT ({}) ON {} TO {{role}};", columns.join(", "), spec.name.sql())
                }
            },
        };
        missing.push(line.replace("{role}", &quote(&role)).replace("{database}", &quote(&database)));
    }
    session.close().await;
    Ok(missing)
}

const CANNOT: &str = "cannot ask which grants are in force";

/// Whether the server knows the role and does not let it into the database.
fn is_shut(error: &anyhow::Error) -> bool {
    let failure = classify(error);
    failure.kind == Kind::Permission && failure.what.contains("permission denied for database")
}

async fn holds(session: &Session, given: &str) -> Result<bool> {
    let asked = session.client.query_one(&format!("SELECT {given}"), &[]).await;
    Ok(asked.map_err(|error| session.failure(error, CANNOT))?.try_get::<_, Option<bool>>(0)?.unwrap_or(true))
}

/// Quoted names of the columns that are read and may not be.
async fn unread(
    session: &Session,
    spec: &TableSpec,
    project: &Project,
    database: &str,
) -> Result<Vec<String>> {
    let sql = "SELECT a.attname::text FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
        AND a.attnum > 0 AND NOT a.attisdropped AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') \
        ORDER BY a.attnum";
    let asked = session.client.query(sql, &[&spec.name.schema, &spec.name.name]).await;
    let rows = asked.map_err(|error| session.failure(error, CANNOT))?;
    let mut columns: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let never = project.guard.never_columns(database, &spec.name, &columns);
    let is_read = |column: &String| {
        let is_included = spec.include.as_ref().is_none_or(|list| list.contains(column));
        is_included && !spec.exclude.contains(column) && !never.contains(column)
    };
    columns.retain(is_read);
    Ok(columns.iter().map(|column| quote(column)).collect())
}
