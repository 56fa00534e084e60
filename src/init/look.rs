//! What the catalog and the statistics of a source say of its tables.
//!
//! In:    a session; the schemas asked for, or none for all.
//! Out:   [`Seen`]. Holds: no row is read, but at most 10,000 of a table that was never analysed.
//! Not here: what is made of it (`propose`).

use crate::error::{Failure, nearest_hint};
use crate::init::propose;
use crate::pg::introspect::Partitions;
use crate::pg::{Session, introspect};
use crate::table::{SourceTable, TableName, quote};
use anyhow::Result;
use std::collections::{BTreeSet, HashMap};

/// Rows that are read at most to learn how many values of a column are NULL.
const SAMPLE_ROWS: u64 = 10_000;

/// What the role of the connection may do with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read all of it.
    Whole,
    /// Read some columns of it.
    Partly,
    /// Not read it.
    Denied,
    /// Row security would hide rows from it.
    Filtered,
}

/// One table of the source.
#[derive(Clone, Debug)]
pub struct SeenTable {
    /// Its catalog.
    pub table: SourceTable,
    /// What the role may do with it.
    pub access: Access,
    /// Share of NULLs by column, as far as known.
    pub null_shares: HashMap<String, f64>,
    /// Rows inserted and updated since the server's counters were reset.
    pub written: Option<(i64, i64)>,
}

/// A source as far as a proposal needs to know it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Name of the database.
    pub database: String,
    /// Its time zone.
    pub timezone: String,
    /// Major version of the server.
    pub major: u32,
    /// Whether the role sees the start of other sessions' transactions (`pg_read_all_stats`).
    pub sees_transactions: bool,
    /// Its tables, by name.
    pub tables: Vec<SeenTable>,
}

/// Looks at the tables of `schemas`; of all schemas when there is none.
///
/// # Errors
/// 78 when a schema is not there or holds no table; those of the server.
pub async fn look(session: &Session, schemas: &[String]) -> Result<Seen> {
    let names = wanted(introspect::names(&session.client, Partitions::LeftOut).await?, schemas)?;
    let tables = introspect::tables(&session.client, &names).await?;
    let failed = |error| session.failure(error, "cannot look at the source");
    let query = "SELECT pg_catalog.current_database()::text,
        (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'),
        pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')";
    let row = session.client.query_one(query, &[]).await.map_err(failed)?;
    let mut seen = Seen {
        database: row.get(0),
        timezone: row.get(1),
        sees_transactions: row.get(2),
        major: session.major(),
        tables: Vec::new(),
    };
    let mut rights = rights(session, &names).await?;
    let mut nulls = null_shares(session, &names).await?;
    for table in tables {
        let (access, written) = rights.remove(&table.name).unwrap_or((Access::Denied, None));
        let null_shares = nulls.remove(&table.name).unwrap_or_default();
        let mut table = SeenTable { table, access, null_shares, written };
        if access == Access::Whole {
            sample(session, &mut table).await?;
        }
        seen.tables.push(table);
    }
    Ok(seen)
}

/// The tables of the schemas asked for.
fn wanted(found: Vec<TableName>, schemas: &[String]) -> Result<Vec<TableName>, Failure> {
    let known: BTreeSet<&str> = found.iter().map(|name| name.schema.as_str()).collect();
    if let Some(missing) = schemas.iter().find(|schema| !known.contains(schema.as_str())) {
        return Err(Failure::config(format!(
            "cannot propose a pipeline: the source has no table in a schema called {missing}"
        ))
        .hint(nearest_hint(missing, known.iter().copied())));
    }
    if found.is_empty() {
        return Err(Failure::config("cannot propose a pipeline: the source has no table")
            .hint("Does the connection name the right database in its field `schema`?"));
    }
    let asked = |name: &TableName| schemas.is_empty() || schemas.contains(&name.schema);
    Ok(found.into_iter().filter(asked).collect())
}

fn split(names: &[TableName]) -> (Vec<&str>, Vec<&str>) {
    names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip()
}

type Rights = (Access, Option<(i64, i64)>);

async fn rights(session: &Session, names: &[TableName]) -> Result<HashMap<TableName, Rights>> {
    let query = "SELECT n.nspname::text, c.relname::text,
            pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
            pg_catalog.row_security_active(c.oid), s.n_tup_ins, s.n_tup_upd,
            pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
        FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS wanted(schema, name)
        JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
        LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = c.oid AND c.relkind = 'r'";
    let (schemas, tables) = split(names);
    let rows = session.client.query(query, &[&schemas, &tables]).await;
    let rows = rows.map_err(|error| session.failure(error, "cannot look at the source's rights"))?;
    let right = |row: &tokio_postgres::Row| {
        let access = match (row.get(2), row.get::<_, bool>(3)) {
            (false, _) if row.get(6) => Access::Partly,
            (false, _) => Access::Denied,
            (true, true) => Access::Filtered,
            (true, false) => Access::Whole,
        };
        let written = row.get::<_, Option<i64>>(4).zip(row.get(5));
        (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), (access, written))
    };
    Ok(rows.iter().map(right).collect())
}

async fn null_shares(
    session: &Session,
    names: &[TableName],
) -> Result<HashMap<TableName, HashMap<String, f64>>> {
    // Of a parent the figures with its children count: `inherited` sorts last and wins.
    let query = "SELECT s.schemaname::text, s.tablename::text, s.attname::text, s.null_frac::float8
        FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) AS wanted(schema, name)
        JOIN pg_catalog.pg_stats s ON s.schemaname = wanted.schema AND s.tablename = wanted.name
        ORDER BY s.inherited";
    let (schemas, tables) = split(names);
    let rows = session.client.query(query, &[&schemas, &tables]).await;
    let rows = rows.map_err(|error| session.failure(error, "cannot look at the source's statistics"))?;
    let mut found: HashMap<TableName, HashMap<String, f64>> = HashMap::new();
    for row in &rows {
        let name = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        found.entry(name).or_default().insert(row.get(2), row.get(3));
    }
    Ok(found)
}

/// Counts NULLs among the first rows, where a replication key could be chosen and nothing is known.
async fn sample(session: &Session, seen: &mut SeenTable) -> Result<()> {
    for column in propose::time_columns(&seen.table) {
        if column.not_null || seen.null_shares.contains_key(&column.name) {
            continue;
        }
        let (name, table) = (quote(&column.name), seen.table.name.sql());
        let query = format!(
            "SELECT coalesce(avg(CASE WHEN c IS NULL THEN 1.0 ELSE 0 END), 0)::float8
             FROM (SELECT {name} AS c FROM {table} LIMIT {SAMPLE_ROWS}) AS some_rows"
        );
        let row = session.client.query_one(&query, &[]).await;
        let row =
            row.map_err(|error| session.failure(error, &format!("cannot look at {}", seen.table.name)))?;
        seen.null_shares.insert(column.name.clone(), row.get(0));
    }
    Ok(())
}
