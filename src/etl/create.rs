//! The SQL that makes tables for a run's rows: staging, and new targets.
//!
//! In:    a layout, names, the run.
//! Out:   statements.
//! Holds: pure; a new target gets our columns without being written again, and its key only when it
//!        is filled.
//! Not here: rows of a target that is there (`etl::merge`), when all this happens (`etl::staging`).

use crate::etl::layout::{Layout, METADATA};
use crate::etl::merge::values;
use crate::table::{TableName, quote, quote_list};

/// How a staging table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedIn {
    /// As any table: its rows go through the log, but it has half the files.
    Logged,
    /// Without the log.
    Unlogged,
}

/// `CREATE TABLE` for staged rows.
pub fn staging_table(staging: &TableName, layout: &Layout, kept: StagedIn) -> String {
    let columns =
        layout.columns.iter().enumerate().map(|(at, column)| format!("c{} {}", at + 1, column.carried.wire));
    format!(
        "CREATE {}TABLE {} ({}) WITH (autovacuum_enabled = off)",
        if kept == StagedIn::Unlogged { "UNLOGGED " } else { "" },
        staging.sql(),
        columns.collect::<Vec<_>>().join(", ")
    )
}

/// `CREATE TABLE` for a new target, before it has our columns and its key.
pub fn target_table(hidden: &TableName, layout: &Layout) -> String {
    format!("CREATE TABLE {} ({})", hidden.sql(), columns(layout))
}

/// `CREATE TABLE` for a small new target, with our columns and its key: filling the key's index row by row
/// costs less there than a second change of the table. Only for a key that the source has proven.
pub fn whole_target(hidden: &TableName, layout: &Layout, run: i64) -> String {
    let [run_column, at_column, deleted_column] = METADATA.map(|(name, _)| name);
    let key = match layout.key.is_empty() {
        true => String::new(),
        false => format!(", PRIMARY KEY ({})", quote_list(&layout.key)),
    };
    format!(
        "CREATE TABLE {} ({}, {run_column} bigint NOT NULL DEFAULT {run},
            {at_column} timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
            {deleted_column} timestamp with time zone{key})",
        hidden.sql(),
        columns(layout)
    )
}

fn columns(layout: &Layout) -> String {
    let columns = layout.columns.iter().map(|column| {
        // A key that nobody has proven gets it with the primary key, where a NULL is told as one.
        let proven = layout.key_proven && layout.key.contains(&column.name);
        let not_null = if proven { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quote(&column.name), column.carried.target)
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// Gives a filled new target our columns and its key. Defaults of new columns that are not volatile
/// are kept in the catalog, not in the rows (PostgreSQL 11+), so this rewrites nothing.
pub fn complete_target(hidden: &TableName, key: &[String], run: i64) -> String {
    let table = hidden.sql();
    let [run_column, at_column, deleted_column] = METADATA.map(|(name, _)| name);
    let key = if key.is_empty() { String::new() } else { format!(", ADD PRIMARY KEY ({})", quote_list(key)) };
    format!(
        "ALTER TABLE {table} ADD COLUMN {run_column} bigint NOT NULL DEFAULT {run},
            ADD COLUMN {at_column} timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
            ADD COLUMN {deleted_column} timestamp with time zone{key};
         {}",
        drop_defaults(hidden)
    )
}

/// Our columns are written by runs alone.
pub fn drop_defaults(table: &TableName) -> String {
    let [run_column, at_column, _] = METADATA.map(|(name, _)| name);
    format!(
        "ALTER TABLE {} ALTER COLUMN {run_column} DROP DEFAULT, ALTER COLUMN {at_column} DROP DEFAULT;",
        table.sql()
    )
}

/// Fills a new target from staging, where COPY could not go straight into it.
pub fn fill_target(hidden: &TableName, staging: &TableName, layout: &Layout) -> String {
    format!("INSERT INTO {} SELECT {} FROM {} s", hidden.sql(), values(layout, "s"), staging.sql())
}
