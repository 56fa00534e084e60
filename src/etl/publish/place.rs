//! Moves new tables into place: a change of the catalog alone, in the publishing transaction.

use super::{Publication, TableJob};
use crate::etl::plan::Action;
use crate::etl::staging::Places;
use crate::table::{literal, quote};
use anyhow::Result;
use std::collections::HashSet;

/// Moves every new table of the run from the staging schema to where readers find it.
pub async fn move_new(publication: &Publication<'_>) -> Result<()> {
    let new: Vec<&TableJob<'_>> =
        publication.tables.iter().filter(|job| job.plan.action == Action::Create).collect();
    if new.is_empty() {
        return Ok(());
    }
    open_schema(publication).await?;
    let mut around = Around::of(publication, &new).await?;
    for some in new.chunks(50) {
        let sql: Vec<String> = some.iter().map(|job| moving(publication, job, &mut around)).collect();
        let cannot = match some {
            [one] => format!("cannot put {} in place", one.plan.target),
            _ => "cannot put the new tables in place".to_owned(),
        };
        publication.execute(&sql.join("\n"), &cannot).await?;
    }
    Ok(())
}

/// What is in the schema already, as far as new tables must mind it.
struct Around {
    /// Names that are taken, or will be by this run.
    taken: HashSet<String>,
    /// The owner has default grants there.
    default_grants: bool,
}

impl Around {
    async fn of(publication: &Publication<'_>, new: &[&TableJob<'_>]) -> Result<Self> {
        let query = "SELECT (SELECT coalesce(array_agg(c.relname::text), '{}') FROM pg_catalog.pg_class c
                 WHERE c.relnamespace = n.oid),
                EXISTS (SELECT FROM pg_catalog.pg_default_acl d WHERE d.defaclnamespace = n.oid
                    AND d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole)
            FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";
        let schema = &publication.pipeline.schema;
        let row = publication.session.client.query_one(query, &[schema]).await.map_err(|error| {
            publication.session.failure(error, &format!("cannot look into schema {schema:?}"))
        })?;
        let there: Vec<String> = row.get(0);
        let coming = new.iter().map(|job| job.plan.target.name.clone());
        Ok(Around { taken: there.into_iter().chain(coming).collect(), default_grants: row.get(1) })
    }
}

/// Makes the schema, if it is not there, and lets the reader see into it.
async fn open_schema(publication: &Publication<'_>) -> Result<()> {
    let name = &publication.pipeline.schema;
    let there = publication
        .session
        .client
        .query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", &[name])
        .await
        .map_err(|error| publication.session.failure(error, "cannot look for the schema"))?;
    let mut sql = String::new();
    if !there.get::<_, bool>(0) {
        sql.push_str(&format!("CREATE SCHEMA {};", quote(name)));
    }
    if let Some(reader) = &publication.warehouse.reader_role {
        sql.push_str(&format!("GRANT USAGE ON SCHEMA {} TO {};", quote(name), quote(reader)));
    }
    publication.execute(&sql, &format!("cannot make schema {name:?} in the warehouse")).await
}

/// Lets the reader see tables that were there before it was: of the others it has been told.
pub async fn admit_reader(publication: &Publication<'_>) -> Result<()> {
    let Some(reader) = &publication.warehouse.reader_role else { return Ok(()) };
    let existing = publication.tables.iter().filter(|job| job.plan.action != Action::Create);
    let names: Vec<String> = existing.map(|job| job.plan.target.sql()).collect();
    let query = "SELECT t.name FROM unnest($1::text[]) AS t(name)
        WHERE NOT pg_catalog.has_table_privilege($2::text, t.name, 'SELECT')";
    let shut =
        publication.session.client.query(query, &[&names, reader]).await.map_err(|error| {
            publication.session.failure(error, "cannot see what the reader_role may read")
        })?;
    let mut sql: Vec<String> = shut
        .iter()
        .map(|row| format!("GRANT SELECT ON {} TO {}", row.get::<_, &str>(0), quote(reader)))
        .collect();
    let schema = &publication.pipeline.schema;
    if !names.is_empty() && !has_usage(publication, reader, schema).await? {
        sql.push(format!("GRANT USAGE ON SCHEMA {} TO {}", quote(schema), quote(reader)));
    }
    publication.execute(&sql.join(";"), &format!("cannot let {reader} read what is loaded")).await
}

async fn has_usage(publication: &Publication<'_>, reader: &str, schema: &str) -> Result<bool> {
    let query = "SELECT pg_catalog.has_schema_privilege($1::text, $2::text, 'USAGE')";
    let row = publication.session.client.query_one(query, &[&reader, &schema]).await;
    Ok(row
        .map_err(|error| publication.session.failure(error, "cannot see what the reader_role may read"))?
        .get(0))
}

/// The SQL that moves one table: schema, name, owner's default grants, the reader's grant, comment.
fn moving(publication: &Publication<'_>, job: &TableJob<'_>, around: &mut Around) -> String {
    let places = Places::of(publication.run, job.number);
    let (hidden, target) = (&places.hidden, &job.plan.target);
    let moved = format!("{}.{}", quote(&target.schema), quote(&hidden.name));
    let mut sql = format!(
        "ALTER TABLE {} SET SCHEMA {}; ALTER TABLE {moved} RENAME TO {};",
        hidden.sql(),
        quote(&target.schema),
        quote(&target.name)
    );
    let wanted = key_name(&target.name);
    if !job.plan.layout.key.is_empty() && around.taken.insert(wanted.clone()) {
        let index = format!("{}.{}", quote(&target.schema), quote(&format!("{}_pkey", hidden.name)));
        sql.push_str(&format!("ALTER INDEX {index} RENAME TO {};", quote(&wanted)));
    }
    if around.default_grants {
        sql.push_str(&default_grants(&target.schema, &target.sql()));
    }
    if let Some(reader) = &publication.warehouse.reader_role {
        sql.push_str(&format!("GRANT SELECT ON {} TO {};", target.sql(), quote(reader)));
    }
    let comment =
        format!("Loaded by Sankofa, pipeline {}, from {}", publication.pipeline.name, job.plan.name);
    sql.push_str(&format!("COMMENT ON TABLE {} IS {};", target.sql(), literal(&comment)));
    sql
}

/// The name that the key's index would have had.
fn key_name(target: &str) -> String {
    let mut end = target.len().min(63 - "_pkey".len());
    while !target.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_pkey", &target[..end])
}

/// What ALTER DEFAULT PRIVILEGES would have granted, had the table been made here.
fn default_grants(schema: &str, table: &str) -> String {
    let body = format!(
        "DECLARE g record; BEGIN
         FOR g IN SELECT x.privilege_type, x.is_grantable, coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
             FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
             CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) x
             LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee
             WHERE n.nspname = {} AND d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole
         LOOP EXECUTE format('GRANT %s ON {} TO %s', g.privilege_type, g.grantee); END LOOP; END",
        literal(schema),
        table.replace('%', "%%").replace('\'', "''"),
    );
    format!("DO {};", literal(&body))
}
