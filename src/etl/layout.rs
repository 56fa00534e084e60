//! Which columns of a table travel, in which form, and under which masks.
//!
//! In:    the source's table, its settings, the guard, what each type becomes.
//! Out:   a [`Layout`]: the SELECT list, the fields of the stream, the columns of staging and target.
//! Holds: pure. A column that the guard names `never` is not in any SELECT; a mask of the guard
//!        applies whatever the pipeline says.
//! Not here: which rows (`etl::window`), what a change against last time means (`etl::contract`).

use crate::config::guard::strictest;
use crate::config::model::{Guard, Mask, Mode, TableSpec};
use crate::error::{Failure, nearest_hint};
use crate::etl::types::{self, Carried, Sides};
use crate::pg::copy::Field;
use crate::table::{Column, SourceTable, TableName, quote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Our columns, with their types and constraints.
pub const METADATA: [(&str, &str); 3] = [
    ("_sankofa_run", "bigint NOT NULL"),
    ("_sankofa_loaded_at", "timestamp with time zone NOT NULL"),
    ("_sankofa_deleted_at", "timestamp with time zone"),
];

/// One column on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutColumn {
    /// Name on both sides.
    pub name: String,
    /// The source column, as its catalog describes it.
    pub source: Column,
    /// How it is carried.
    pub carried: Carried,
    /// What is done to its values in the client.
    pub mask: Option<Mask>,
}

/// What travels of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The columns, in the order of the source.
    pub columns: Vec<LayoutColumn>,
    /// Key columns by which rows are merged; empty: the table has no key.
    pub key: Vec<String>,
    /// The source proves the key: primary key or unique index over NOT NULL columns.
    pub key_proven: bool,
    /// The replication key travels beside the columns, since it is not one of them.
    pub extra_key: Option<String>,
}

/// Settings that are not the table's own.
pub struct Surroundings<'a> {
    /// The two servers.
    pub sides: &'a Sides,
    /// The operator's guard.
    pub guard: &'a Guard,
    /// Name of the source database, for the guard's patterns.
    pub database: &'a str,
}

/// Longest identifier, bytes (`NAMEDATALEN` - 1).
const IDENTIFIER_BYTES: usize = 63;
/// Columns a table can have, less our three.
const COLUMNS: usize = 1597;

/// Lays out `table`.
///
/// # Errors
/// 78 when a setting names a column that is not there, the guard forbids the table, a mask would
/// destroy the key, or nothing is left to read.
pub fn lay_out(table: &SourceTable, spec: &TableSpec, around: &Surroundings) -> Result<Layout, Failure> {
    refuse_guarded(table, spec, around)?;
    check_names(table, spec)?;
    let all: Vec<&Column> = table.columns.iter().collect();
    let (never, masks) = covered(&all, around.guard, (around.database, &table.name), &spec.mask);
    let columns: Vec<LayoutColumn> = table
        .columns
        .iter()
        .filter(|column| selected(&column.name, spec) && !never.contains(&column.name))
        .map(|column| lay_column(column, masks.get(&column.name).copied(), around.sides))
        .collect();
    if columns.len() > COLUMNS {
        return Err(Failure::config(format!(
            "cannot load {}: it has more than {COLUMNS} columns",
            table.name
        ))
        .hint("Exclude some with `columns: {exclude: [...]}`."));
    }
    let (key, key_proven) = choose_key(table, spec, &columns)?;
    let travels = |name: &String| columns.iter().any(|column| column.name == *name);
    let extra_key = spec.replication_key.clone().filter(|name| name != "xmin" && !travels(name));
    if let Some(name) = extra_key.as_ref().filter(|name| never.contains(name)) {
        let what = format!(
            "cannot read {}: the operator's guard says never of its replication key {name}",
            table.name
        );
        return Err(Failure::config(what).hint("Name another `replication_key:`, or read the table whole."));
    }
    let read_by = spec.replication_key.as_ref().filter(|_| spec.mode != Mode::FullRefresh);
    if let Some(name) = read_by.filter(|name| masks.contains_key(*name)) {
        let what = format!(
            "cannot read {}: its replication key {name} is masked, and a watermark would tell its values",
            table.name
        );
        return Err(Failure::config(what).hint("Name another `replication_key:`, or read the table whole."));
    }
    Ok(Layout { columns, key, key_proven, extra_key })
}

/// The columns that never leave, and the mask of each that has one: the stricter of pipeline's and
/// guard's. A generated column is covered by what covers the columns that it is made of.
fn covered(
    columns: &[&Column],
    guard: &Guard,
    (database, table): (&str, &TableName),
    own: &BTreeMap<String, Mask>,
) -> (Vec<String>, BTreeMap<String, Mask>) {
    let parts = columns.iter().flat_map(|column| column.made_of.iter().chain([&column.name]));
    let names: Vec<String> = parts.cloned().collect();
    let mut never = guard.never_columns(database, table, &names);
    let mut masks = strictest(own, &guard.masks(database, table, &names));
    for column in columns {
        if column.made_of.iter().any(|part| never.contains(part)) {
            never.push(column.name.clone());
        }
        if let Some(mask) = column.made_of.iter().filter_map(|part| masks.get(part).copied()).max() {
            let stricter = masks.get(&column.name).copied().max(Some(mask));
            masks.extend(stricter.map(|mask| (column.name.clone(), mask)));
        }
    }
    (never, masks)
}

fn selected(name: &str, spec: &TableSpec) -> bool {
    let named = |list: &[String]| list.iter().any(|listed| listed == name);
    spec.include.as_deref().is_none_or(named) && !named(&spec.exclude)
}

fn lay_column(column: &Column, mask: Option<Mask>, sides: &Sides) -> LayoutColumn {
    let carried = match mask {
        Some(Mask::Hmac | Mask::Redact) => Carried::text(),
        Some(Mask::Nullify) | None => types::carry(&column.column_type, sides),
    };
    LayoutColumn { name: column.name.clone(), source: column.clone(), carried, mask }
}

/// Refuses a table that must never be read, and a filter that could tell what must never be.
fn refuse_guarded(table: &SourceTable, spec: &TableSpec, around: &Surroundings) -> Result<(), Failure> {
    let names: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    if let Some(pattern) = around.guard.never_table(around.database, &table.name) {
        let what = format!("cannot read {}: the operator's guard says never ({})", table.name, pattern.text);
        return Err(Failure::config(what)
            .hint("Take the table out of the pipeline: only the operator can change `guard:`."));
    }
    let told =
        spec.filter.as_ref().and_then(|sql| around.guard.told_by(around.database, &table.name, &names, sql));
    match told {
        Some(pattern) => Err(Failure::config(format!(
            "cannot read {}: its filter looks at what the operator's guard covers ({})",
            table.name, pattern.text
        ))
        .hint("Filter by other columns.")),
        None => Ok(()),
    }
}

fn check_names(table: &SourceTable, spec: &TableSpec) -> Result<(), Failure> {
    let settings = [
        ("columns.include", spec.include.clone().unwrap_or_default()),
        ("columns.exclude", spec.exclude.clone()),
        ("mask", spec.mask.keys().cloned().collect()),
        ("key", spec.key.clone().unwrap_or_default()),
        ("replication_key", spec.replication_key.iter().filter(|key| *key != "xmin").cloned().collect()),
    ];
    for (setting, names) in settings {
        if let Some(name) = names.iter().find(|name| table.column(name).is_none()) {
            let known = table.columns.iter().map(|column| column.name.as_str());
            return Err(Failure::config(format!(
                "cannot read {}: {setting} names column {name:?}, which is not there",
                table.name
            ))
            .hint(nearest_hint(name, known)));
        }
    }
    for name in table.columns.iter().map(|column| &column.name).chain([&spec.target]) {
        if name.len() > IDENTIFIER_BYTES || name.starts_with("_sankofa_") {
            return Err(Failure::config(format!("cannot load {}: {name:?} is a name of ours", table.name)));
        }
    }
    Ok(())
}

/// The key's columns, and whether the source proves them.
fn choose_key(
    table: &SourceTable,
    spec: &TableSpec,
    columns: &[LayoutColumn],
) -> Result<(Vec<String>, bool), Failure> {
    let key = match &spec.key {
        Some(key) => key.clone(),
        None if table.primary_key.is_empty() => alternative_key(table, columns).unwrap_or_default(),
        None => table.primary_key.clone(),
    };
    for name in &key {
        let Some(column) = columns.iter().find(|column| column.name == *name) else {
            return Err(Failure::config(format!(
                "cannot load {}: its key column {name} is left out",
                table.name
            ))
            .hint("Keep the column, or name another `key:`."));
        };
        if matches!(column.mask, Some(Mask::Nullify | Mask::Redact)) {
            return Err(Failure::config(format!(
                "cannot load {}: the mask of its key column {name} makes all keys equal",
                table.name
            ))
            .hint("Use `hmac` for a key column, or name another `key:`."));
        }
    }
    let same = |other: &[String]| other.len() == key.len() && other.iter().all(|name| key.contains(name));
    let not_null = key.iter().all(|name| table.column(name).is_some_and(|column| column.not_null));
    let proven = !key.is_empty()
        && not_null
        && (same(&table.primary_key) || table.unique_keys.iter().any(|k| same(k)));
    Ok((key, proven))
}

/// A unique index over NOT NULL columns that all travel serves where there is no primary key.
fn alternative_key(table: &SourceTable, columns: &[LayoutColumn]) -> Option<Vec<String>> {
    let travels = |name: &String| columns.iter().any(|column| column.name == *name && column.mask.is_none());
    let not_null = |name: &String| table.column(name).is_some_and(|column| column.not_null);
    let mut usable: Vec<&Vec<String>> = table
        .unique_keys
        .iter()
        .filter(|key| key.iter().all(|name| travels(name) && not_null(name)))
        .collect();
    usable.sort_by_key(|key| key.len());
    usable.first().map(|key| (*key).clone())
}

impl Layout {
    /// The SELECT list that yields the stream: one expression a column, then the extra key.
    pub fn select_list(&self) -> String {
        let mut list: Vec<String> = self.columns.iter().map(LayoutColumn::expression).collect();
        list.extend(self.extra_key.iter().map(|key| quote(key)));
        list.join(", ")
    }

    /// What becomes of each field of the stream; `hmac_key` serves the columns with that mask.
    pub fn fields(&self, hmac_key: &[u8]) -> Vec<Field> {
        let mask = |column: &LayoutColumn| match column.mask {
            None => Field::Pass,
            Some(Mask::Hmac) => Field::hmac(hmac_key),
            Some(Mask::Nullify) => Field::Nullify,
            Some(Mask::Redact) => Field::Redact,
        };
        self.columns.iter().map(mask).chain(self.extra_key.iter().map(|_| Field::Drop)).collect()
    }

    /// Number of the field that is the replication key `name`.
    pub fn field_of(&self, name: &str) -> Option<usize> {
        match &self.extra_key {
            Some(extra) if extra == name => Some(self.columns.len()),
            _ => self.columns.iter().position(|column| column.name == name),
        }
    }

    /// What of this layout `guard` would no longer let out, in words.
    pub fn offends(&self, guard: &Guard, database: &str, table: &TableName) -> Option<String> {
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        if let Some(pattern) = guard.never_table(database, table) {
            return Some(format!("never {}", pattern.text));
        }
        let sources: Vec<&Column> = self.columns.iter().map(|column| &column.source).collect();
        let (never, forced) = covered(&sources, guard, (database, table), &BTreeMap::new());
        if let Some(column) = names.iter().find(|name| never.contains(name)) {
            return Some(format!("never column {column:?}"));
        }
        let weaker =
            |column: &&LayoutColumn| forced.get(&column.name).is_some_and(|mask| column.mask < Some(*mask));
        self.columns.iter().find(weaker).map(|column| format!("a mask of column {:?}", column.name))
    }

    /// Whether any column is masked by HMAC.
    pub fn needs_hmac_key(&self) -> bool {
        self.columns.iter().any(|column| column.mask == Some(Mask::Hmac))
    }

    /// Whether the warehouse has to cast some column after COPY.
    pub fn casts(&self) -> bool {
        self.columns.iter().any(|column| column.carried.wire != column.carried.target)
    }

    /// The layout of the key columns alone, in key order: what a comparison of keys reads.
    pub fn key_only(&self) -> Layout {
        let columns = self.key_columns().cloned().collect();
        Layout { columns, key: self.key.clone(), key_proven: self.key_proven, extra_key: None }
    }

    /// The key's columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &LayoutColumn> {
        self.key.iter().filter_map(|name| self.columns.iter().find(|column| column.name == *name))
    }
}

impl LayoutColumn {
    fn expression(&self) -> String {
        match &self.carried.source_cast {
            Some(cast) => format!("{}::pg_catalog.{cast}", quote(&self.name)),
            None => quote(&self.name),
        }
    }
}
