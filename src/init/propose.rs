//! Chooses mode, key and replication key of a table, with the reasons in words.
//!
//! In:    a [`SeenTable`]. Out: a [`Choice`]. Holds: pure; a mode that could miss rows is not chosen:
//!        a time of creation, or of one kind of change, is no replication key.
//! Not here: how it is written down (`text`), what looks personal (`personal`).

use crate::config::model::Mode;
use crate::init::look::{Access, SeenTable};
use crate::init::personal::words;
use crate::table::{Column, RelationKind, SourceTable};

/// Up to here a table is read whole when no column tells what has changed: it takes a second or so,
/// and sees deletes too.
const SMALL_BYTES: u64 = 16 << 20;
/// Rows whose key is NULL are read each time; from this share on another way is better.
const MANY_NULLS: f64 = 0.5;

/// Words for "changed" in names of columns; English, French, Spanish, German.
const CHANGED: &[&str] = &[
    "updated",
    "update",
    "modified",
    "modification",
    "modify",
    "changed",
    "change",
    "touched",
    "mtime",
    "lastmod",
    "upd",
    "modtime",
    "updatedat",
    "modifiedat",
    "lastupdate",
    "lastupdated",
    "lastmodified",
    "maj",
    "modifie",
    "modifiee",
    "misajour",
    "actualizado",
    "actualizada",
    "actualizacion",
    "modificado",
    "modificada",
    "modificacion",
    "geaendert",
    "geändert",
    "aktualisiert",
    "aenderung",
    "änderung",
    "änderungsdatum",
    "aenderungsdatum",
];
/// Words that may stand beside them; any other word names one kind of change only, as in
/// `password_changed_at`.
const AROUND: &[&str] = &[
    "at",
    "on",
    "last",
    "date",
    "time",
    "timestamp",
    "datetime",
    "ts",
    "dt",
    "row",
    "record",
    "sys",
    "utc",
    "le",
    "la",
    "de",
    "en",
    "el",
    "am",
    "um",
    "zuletzt",
    "letzte",
    "letzter",
    "fecha",
    "hora",
    "derniere",
    "dernier",
    "ultima",
    "heure",
    "datum",
    "zeit",
    "was",
    "is",
];

/// What is proposed for one table.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// It is loaded.
    Load(Load),
    /// It stands in the file as a comment, for this reason.
    Leave(String),
}

/// How a table is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Mode.
    pub mode: Mode,
    /// `key:`, where the primary key does not say it.
    pub key: Option<Vec<String>>,
    /// `replication_key:`.
    pub replication_key: Option<String>,
    /// Whether the key is a time without a zone.
    pub zoneless: bool,
    /// Why the key.
    pub key_reason: String,
    /// Why the mode and the replication key.
    pub mode_reason: String,
    /// What a person should consider.
    pub advice: Vec<String>,
}

/// Columns that may say when a row was last changed.
pub fn time_columns(table: &SourceTable) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| is_time(column) && names_change(&column.name) && !column.generated)
}

fn is_time(column: &Column) -> bool {
    column.column_type.is_builtin() && matches!(column.column_type.name.as_str(), "timestamptz" | "timestamp")
}

/// Whether a name says "last changed", and nothing narrower.
fn names_change(name: &str) -> bool {
    let words = words(name);
    let is_change = |word: &String| CHANGED.contains(&word.as_str());
    words.iter().any(is_change) && words.iter().all(|word| is_change(word) || AROUND.contains(&word.as_str()))
}

/// Chooses for one table.
pub fn choose(seen: &SeenTable) -> Choice {
    let table = &seen.table;
    if let Some(why) = left_out(seen) {
        return Choice::Leave(why);
    }
    let mut load = Load {
        mode: Mode::FullRefresh,
        key: None,
        replication_key: None,
        zoneless: false,
        key_reason: String::new(),
        mode_reason: String::new(),
        advice: Vec::new(),
    };
    choose_key(table, &mut load);
    choose_mode(seen, &mut load);
    Choice::Load(load)
}

fn left_out(seen: &SeenTable) -> Option<String> {
    let kind = match seen.table.kind {
        RelationKind::View => "a view: its rows are in the tables below it; it would be read whole each time",
        RelationKind::MaterializedView => {
            "a materialised view: its rows come from tables; read whole each time"
        }
        RelationKind::Foreign => "a foreign table: read its own server as a source, or uncomment it",
        RelationKind::Table | RelationKind::Partitioned => "",
    };
    match seen.access {
        Access::Partly => Some(
            "the role may read some of its columns only: uncomment with `columns: {include: [...]}`".into(),
        ),
        Access::Denied => {
            Some("the role of the connection may not read it: GRANT SELECT, then uncomment".into())
        }
        Access::Filtered => {
            Some("row security hides rows from this role: needs BYPASSRLS, then uncomment".into())
        }
        Access::Whole if !kind.is_empty() => Some(kind.to_owned()),
        Access::Whole if seen.table.columns.is_empty() => Some("it has no columns".into()),
        Access::Whole => None,
    }
}

fn choose_key(table: &SourceTable, load: &mut Load) {
    let is_never_null = |columns: &&Vec<String>| {
        columns.iter().all(|name| table.column(name).is_some_and(|column| column.not_null))
    };
    if !table.primary_key.is_empty() {
        load.key_reason = format!("primary key ({})", table.primary_key.join(", "));
    } else if let Some(columns) = table.unique_keys.iter().filter(is_never_null).min_by_key(|key| key.len()) {
        load.key_reason =
            format!("unique index over NOT NULL columns ({}); no primary key", columns.join(", "));
        load.key = Some(columns.clone());
    } else {
        load.key_reason = "none: no primary key and no unique index over NOT NULL columns".to_owned();
    }
}

fn choose_mode(seen: &SeenTable, load: &mut Load) {
    let table = &seen.table;
    if table.primary_key.is_empty() && load.key.is_none() {
        load.mode_reason = "full_refresh: without a key rows cannot be told apart".to_owned();
        if table.bytes > SMALL_BYTES {
            load.advice.push("a primary key at the source would make this incremental".to_owned());
        }
        return;
    }
    let nulls = |column: &Column| null_share(seen, column);
    let mut candidates: Vec<&Column> = time_columns(table).collect();
    candidates.sort_by(|a, b| {
        let rank = |c: &Column| (c.column_type.name != "timestamptz", !table.indexed.contains(&c.name));
        rank(a).cmp(&rank(b)).then(nulls(a).total_cmp(&nulls(b)))
    });
    match candidates.iter().find(|column| nulls(column) < MANY_NULLS) {
        Some(column) => by_column(seen, column, load),
        None => without_column(seen, &candidates, load),
    }
}

fn null_share(seen: &SeenTable, column: &Column) -> f64 {
    if column.not_null { 0.0 } else { seen.null_shares.get(&column.name).copied().unwrap_or(0.0) }
}

fn by_column(seen: &SeenTable, column: &Column, load: &mut Load) {
    let indexed = seen.table.indexed.contains(&column.name);
    let nulls = match null_share(seen, column) {
        _ if column.not_null => "NOT NULL".to_owned(),
        share if share <= 0.0 => "no NULL seen".to_owned(),
        share => format!("{:.1} % NULL: those rows are read each time", share * 100.0),
    };
    load.mode = Mode::Incremental;
    load.replication_key = Some(column.name.clone());
    load.zoneless = column.column_type.name == "timestamp";
    load.mode_reason = format!(
        "incremental by {}: {}, {nulls}, named like the time of the last change, {}",
        column.name,
        column.column_type.sql,
        if indexed { "indexed" } else { "no index begins with it" }
    );
    if !indexed && seen.table.bytes > SMALL_BYTES {
        load.advice.push(
            "every run reads the whole table until an index begins with the replication key".to_owned(),
        );
    }
}

fn without_column(seen: &SeenTable, candidates: &[&Column], load: &mut Load) {
    let table = &seen.table;
    let why = match candidates.first() {
        Some(column) => format!("{} is mostly NULL", column.name),
        None => "no column tells when a row was last changed".to_owned(),
    };
    if table.bytes > SMALL_BYTES && table.kind == RelationKind::Table {
        load.mode = Mode::Incremental;
        load.replication_key = Some("xmin".to_owned());
        load.mode_reason = format!(
            "incremental by xmin, the number of the transaction that wrote a row: {why}; no index helps, so the table is scanned"
        );
    } else {
        load.mode_reason = format!("full_refresh: {why}, and reading it whole is quick");
        if table.bytes > SMALL_BYTES {
            load.mode_reason = format!("full_refresh: {why}, and a partitioned table is not read by xmin");
        }
    }
    let single = table.primary_key.first().filter(|_| table.primary_key.len() == 1);
    let integer = single.and_then(|name| table.column(name)).filter(|column| {
        column.column_type.is_builtin()
            && matches!(column.column_type.name.as_str(), "int2" | "int4" | "int8")
    });
    if let (Some(column), Some((inserted @ 1.., 0))) = (integer, seen.written) {
        load.advice.push(format!(
            "no update was counted among {inserted} inserts: if that is how it is meant, `mode: append` with `replication_key: {}` reads new rows only",
            column.name
        ));
    }
}
