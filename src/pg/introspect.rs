//! Reads from the catalogs what tables look like, on either side.
//!
//! In:    a session, and table names (or a schema).
//! Out:   [`SourceTable`]s: columns with their types taken apart, keys, heaps and sizes.
//! Holds: three queries whatever the number of tables; every name in them is qualified.
//! Not here: what a type becomes in the warehouse (`etl::types`).

use crate::pg::public;
use crate::table::{Column, ColumnType, Leaf, RelationKind, SourceTable, TableName, TypeKind};
use anyhow::Result;
use std::collections::HashMap;
use tokio_postgres::{Client, Row};

/// One row of `pg_type`, not yet joined to the types it is made of.
struct RawType {
    name: String,
    schema: String,
    sql: String,
    class: char,
    element: u32,
    base: u32,
    base_typmod: i32,
    range_of: u32,
    extension: Option<String>,
    labels: Vec<String>,
    has_io: bool,
}

/// The tables called `names`, in that order; a name that is not there is left out.
///
/// # Errors
/// As [`public::failure`].
pub async fn tables(client: &Client, names: &[TableName]) -> Result<Vec<SourceTable>> {
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let cannot = "cannot read the catalog";
    let rows = client
        .query(include_str!("introspect_tables.sql"), &[&schemas, &relations])
        .await
        .map_err(|error| public::failure(error, cannot))?;
    let oids: Vec<u32> = rows.iter().map(|row| row.get("oid")).collect();
    let columns = client
        .query(include_str!("introspect_columns.sql"), &[&oids])
        .await
        .map_err(|error| public::failure(error, cannot))?;
    let catalog = types(client).await.map_err(|error| public::failure(error, cannot))?;
    let spelled = spell(client, &columns, &catalog).await.map_err(|error| public::failure(error, cannot))?;
    let mut by_table: HashMap<u32, Vec<Column>> = HashMap::new();
    for row in &columns {
        by_table.entry(row.get("table_oid")).or_default().push(column(row, &catalog, &spelled));
    }
    let mut found: Vec<SourceTable> = rows.iter().map(|row| table(row, &mut by_table)).collect();
    found.sort_by_key(|table| names.iter().position(|name| *name == table.name));
    Ok(found)
}

/// Whether a list of names has the partitions of partitioned tables too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// Each by its own name.
    Named,
    /// Only the tables that they are parts of.
    LeftOut,
}

/// Names of all relations that could be loaded, outside the system schemas.
///
/// # Errors
/// As [`public::failure`].
pub async fn names(client: &Client, partitions: Partitions) -> Result<Vec<TableName>> {
    let query = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND ($1 OR NOT c.relispartition)
          AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2";
    let named = partitions == Partitions::Named;
    let rows = client
        .query(query, &[&named])
        .await
        .map_err(|error| public::failure(error, "cannot read the catalog"))?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

fn table(row: &Row, columns: &mut HashMap<u32, Vec<Column>>) -> SourceTable {
    let kind = match row.get::<_, i8>("kind") as u8 as char {
        'p' => RelationKind::Partitioned,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::Foreign,
        _ => RelationKind::Table,
    };
    let schemas: Vec<String> = row.get("leaf_schemas");
    let names: Vec<String> = row.get("leaf_names");
    let pages: Vec<i64> = row.get("leaf_pages");
    let leaves = schemas.into_iter().zip(names).zip(pages);
    SourceTable {
        name: TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
        kind,
        columns: columns.remove(&row.get::<_, u32>("oid")).unwrap_or_default(),
        primary_key: row.get("primary_key"),
        unique_keys: row.get::<_, Vec<String>>("unique_keys").iter().map(|key| split_key(key)).collect(),
        indexed: row.get("indexed"),
        leaves: leaves
            .map(|((schema, name), pages)| Leaf {
                name: TableName { schema, name },
                pages: pages.unsigned_abs(),
            })
            .collect(),
        estimated_rows: row.get("estimated_rows"),
        bytes: row.get::<_, i64>("bytes").unsigned_abs(),
    }
}

/// Column names joined by U+001F in SQL, since arrays of arrays must be of one length.
fn split_key(joined: &str) -> Vec<String> {
    joined.split('\u{1f}').map(str::to_owned).collect()
}

fn column(row: &Row, catalog: &HashMap<u32, RawType>, spelled: &HashMap<(u32, i32), String>) -> Column {
    let oid: u32 = row.get("type_oid");
    let typmod: i32 = row.get("typmod");
    let (base, base_typmod, domain) = undomain(oid, typmod, catalog);
    let mut column_type = assemble(base, catalog, 0);
    if let Some(sql) = spelled.get(&(base, base_typmod)) {
        column_type.sql.clone_from(sql);
    }
    column_type.domain = domain;
    Column {
        name: row.get("name"),
        position: row.get("position"),
        column_type,
        not_null: row.get("not_null"),
        generated: row.get("generated"),
        made_of: row.get("made_of"),
    }
}

/// Follows domains down to the type that holds the value: (type, typmod, the outermost domain's name).
fn undomain(oid: u32, typmod: i32, catalog: &HashMap<u32, RawType>) -> (u32, i32, Option<String>) {
    let (mut oid, mut typmod, mut domain) = (oid, typmod, None);
    while let Some(raw) = catalog.get(&oid).filter(|raw| raw.class == 'd') {
        domain.get_or_insert_with(|| format!("{}.{}", raw.schema, raw.name));
        typmod = typmod.max(raw.base_typmod);
        oid = raw.base;
    }
    (oid, typmod, domain)
}

fn assemble(oid: u32, catalog: &HashMap<u32, RawType>, depth: u8) -> ColumnType {
    let Some(raw) = catalog.get(&oid).filter(|_| depth < 8) else {
        // A table's row type, or something made since: a composite as far as moving it goes.
        return ColumnType {
            oid,
            schema: String::new(),
            name: String::new(),
            sql: String::new(),
            extension: None,
            domain: None,
            kind: TypeKind::Composite,
        };
    };
    let part = |oid: u32| {
        let (base, _, domain) = undomain(oid, -1, catalog);
        Box::new(ColumnType { domain, ..assemble(base, catalog, depth + 1) })
    };
    let kind = match raw.class {
        'e' => TypeKind::Enum(raw.labels.clone()),
        'c' => TypeKind::Composite,
        'r' => TypeKind::Range(part(raw.range_of)),
        'm' => TypeKind::Multirange(part(raw.range_of)),
        _ if raw.element != 0 => TypeKind::Array(part(raw.element)),
        'b' if raw.has_io => TypeKind::Base,
        _ => TypeKind::Other,
    };
    ColumnType {
        oid,
        schema: raw.schema.clone(),
        name: raw.name.clone(),
        sql: raw.sql.clone(),
        extension: raw.extension.clone(),
        domain: None,
        kind,
    }
}

async fn types(client: &Client) -> Result<HashMap<u32, RawType>, tokio_postgres::Error> {
    let rows = client.query(include_str!("introspect_types.sql"), &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let raw = RawType {
                name: row.get("name"),
                schema: row.get("schema"),
                sql: row.get("sql"),
                class: row.get::<_, i8>("class") as u8 as char,
                element: row.get("element"),
                base: row.get("base"),
                base_typmod: row.get("base_typmod"),
                range_of: row.get("range_of"),
                extension: row.get("extension"),
                labels: row.get("labels"),
                has_io: row.get("has_io"),
            };
            (row.get("oid"), raw)
        })
        .collect())
}

/// `format_type` of every (base type, typmod) that a column has.
async fn spell(
    client: &Client,
    columns: &[Row],
    catalog: &HashMap<u32, RawType>,
) -> Result<HashMap<(u32, i32), String>, tokio_postgres::Error> {
    let mut pairs: Vec<(u32, i32)> = columns
        .iter()
        .map(|row| undomain(row.get("type_oid"), row.get("typmod"), catalog))
        .map(|(oid, typmod, _)| (oid, typmod))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    let (oids, typmods): (Vec<u32>, Vec<i32>) = pairs.iter().copied().unzip();
    let query = "SELECT t.o, t.m, pg_catalog.format_type(t.o, t.m)
        FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[])) AS t(o, m)";
    let rows = client.query(query, &[&oids, &typmods]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}
