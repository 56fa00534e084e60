//! What each type of a source becomes on its way, so that every value arrives with equal text.
//!
//! In:    a source type, the two majors, and what the warehouse has.
//! Out:   the type of the wire (COPY binary), of the warehouse column, and what must be said.
//! Holds: pure. Binary only where the same bytes mean the same on both sides; text otherwise.
//! Not here: masks (`etl::layout`).
//!
//! Source: PostgreSQL's `*send`/`*recv` functions of majors 13 to 18. Binary of a built-in type is
//! the same in all of them, but `interval` from 17 on may be infinite, which an older server would
//! read as a finite value; OIDs inside reg*, aclitem and arrays of user types mean nothing elsewhere.

use crate::table::{ColumnType, TypeKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the two servers can do.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// Major of the source.
    pub source_major: u32,
    /// Major of the warehouse.
    pub warehouse_major: u32,
    /// Whether the warehouse was built with libxml.
    pub warehouse_xml: bool,
    /// Types of extensions in the warehouse: (extension, type name) -> qualified, quoted name.
    pub warehouse_types: BTreeMap<(String, String), String>,
}

/// How one type is carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Cast applied to the column at the source, if any.
    pub source_cast: Option<String>,
    /// Type of the staging column: what COPY binary carries.
    pub wire: String,
    /// Type of the column in the warehouse; where it differs from `wire` the merge casts.
    pub target: String,
    /// What a person should know, if the warehouse cannot hold the type itself.
    pub told: Option<String>,
}

impl Carried {
    fn same(sql: &str) -> Self {
        Carried { source_cast: None, wire: sql.to_owned(), target: sql.to_owned(), told: None }
    }

    /// As text, staying text.
    pub fn text() -> Self {
        Self::text_then("text", None)
    }

    fn text_then(target: &str, told: Option<String>) -> Self {
        let wire = if target == "text[]" { "text[]" } else { "text" }.to_owned();
        Carried { source_cast: Some(wire.clone()), wire, target: target.to_owned(), told }
    }
}

/// Built-in types whose text is portable and whose bytes are not, or which no table may be declared with.
const TEXT_ONLY: &[&str] = &[
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regclass",
    "regcollation",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regdatabase",
    "aclitem",
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "gtsvector",
];

/// How a column of type `from` is carried.
pub fn carry(from: &ColumnType, sides: &Sides) -> Carried {
    match &from.kind {
        TypeKind::Enum(_) | TypeKind::Composite | TypeKind::Other => Carried::text(),
        TypeKind::Array(element) => carry_array(from, element, sides),
        TypeKind::Range(_) if !from.is_builtin() => Carried::text(),
        TypeKind::Multirange(_) if !from.is_builtin() => Carried::text(),
        TypeKind::Multirange(_) if sides.warehouse_major < 14 => Carried::text_then(
            "text",
            Some(format!("{} does not exist before PostgreSQL 14: it arrives as text", from.sql)),
        ),
        TypeKind::Base if from.extension.is_some() => carry_extension(from, sides),
        TypeKind::Base | TypeKind::Range(_) | TypeKind::Multirange(_) => carry_builtin(from, sides),
    }
}

/// How a column goes on being carried that has been `before` in the warehouse: a table made when the
/// warehouse lacked the type stays as it is when an extension, or an upgrade, brings it.
pub fn keep(from: &ColumnType, carried: Carried, before: &str) -> Carried {
    let part = match &from.kind {
        TypeKind::Array(element) => element,
        _ => from,
    };
    let may_have_lacked =
        part.extension.is_some() || matches!(part.kind, TypeKind::Multirange(_)) || part.name == "xml";
    let (was, is) = (split_modifier(before), split_modifier(&carried.target));
    match before {
        _ if before == carried.target => carried,
        "text" | "text[]" if may_have_lacked => Carried::text_then(before, None),
        _ if was.0 == is.0 && part.name == "numeric" && was.1.is_empty() && odd_scale(&is.1) => {
            Carried::same(before)
        }
        _ => carried,
    }
}

/// Scales of `numeric` that are new in 15.
fn odd_scale(numbers: &[i32]) -> bool {
    matches!(numbers, [precision, scale] if !(0..=*precision).contains(scale))
}

fn carry_builtin(from: &ColumnType, sides: &Sides) -> Carried {
    match from.name.as_str() {
        _ if !from.is_builtin() => Carried::text(),
        name if TEXT_ONLY.contains(&name) => Carried::text(),
        "interval" if sides.source_major >= 17 && sides.warehouse_major < 17 => {
            Carried::text_then(&from.sql, None)
        }
        // `tsqueryrecv` refuses the empty query that `tsquerysend` has written (13 to 18).
        "tsquery" => Carried::text_then("tsquery", None),
        "numeric" => carry_numeric(from, sides),
        "xml" if sides.warehouse_xml => Carried::text_then("xml", None),
        "xml" => Carried::text_then(
            "text",
            Some("this warehouse was built without libxml: xml arrives as text".into()),
        ),
        _ => Carried::same(&from.sql),
    }
}

/// Before 15 a scale was at least 0 and at most the precision; the value fits without it.
fn carry_numeric(from: &ColumnType, sides: &Sides) -> Carried {
    let (name, numbers) = split_modifier(&from.sql);
    if sides.warehouse_major >= 15 || !odd_scale(&numbers) {
        return Carried::same(&from.sql);
    }
    let told = format!("{} does not exist before PostgreSQL 15: it arrives as {name}", from.sql);
    Carried { told: Some(told), ..Carried::same(&name) }
}

fn carry_extension(from: &ColumnType, sides: &Sides) -> Carried {
    let extension = from.extension.clone().unwrap_or_default();
    match sides.warehouse_types.get(&(extension.clone(), from.name.clone())) {
        Some(there) => Carried::same(&format!("{there}{}", modifier(&from.sql))),
        None => Carried::text_then(
            "text",
            Some(format!(
                "the warehouse lacks the extension {extension}: {} arrives as text",
                crate::table::quote_if_needed(&from.name)
            )),
        ),
    }
}

fn carry_array(from: &ColumnType, element: &ColumnType, sides: &Sides) -> Carried {
    if matches!(from.name.as_str(), "int2vector" | "oidvector") && from.is_builtin() {
        // `int2vectorrecv` refuses the empty vector that `int2vectorsend` has written (13 to 18).
        return Carried::text_then(&from.sql, None);
    }
    let part = carry(element, sides);
    let portable = part.source_cast.is_none() && element.domain.is_none();
    match (portable, from.is_builtin()) {
        (true, true) if element.name == "numeric" => carry_numeric(from, sides),
        (true, true) => Carried::same(&from.sql),
        // An array of a domain over arrays is no array of arrays.
        _ if element.domain.is_some() && matches!(element.kind, TypeKind::Array(_)) => {
            Carried::text_then("text[]", part.told)
        }
        // An array of an extension's type carries the element's OID, which differs on each server.
        _ if part.target == "text" || !element.is_builtin() => Carried::text_then("text[]", part.told),
        _ => Carried::text_then(&format!("{}[]", strip_array(&from.sql, &part.target)), part.told),
    }
}

/// The element's type with its modifier, out of the array's own spelling where that is built in.
fn strip_array<'a>(array: &'a str, element: &'a str) -> &'a str {
    array.strip_suffix("[]").filter(|sql| sql.starts_with(element)).unwrap_or(element)
}

/// `(12,2)` of `numeric(12,2)`, or nothing.
fn modifier(sql: &str) -> &str {
    sql.find('(').map_or("", |at| &sql[at..])
}

/// Whether `ALTER COLUMN ... TYPE` from `old` to `new` keeps every value and rewrites nothing.
///
/// Source: PostgreSQL manual, ALTER TABLE, Notes; `varchar_support`, `numeric_support`, `temporal` transforms.
pub fn widens_in_place(old: &str, new: &str) -> bool {
    let ((old_name, old_mod), (new_name, new_mod)) = (split_modifier(old), split_modifier(new));
    let string = |name: &str| matches!(name, "character varying" | "text");
    match (old_name.as_str(), new_name.as_str()) {
        ("character varying" | "text", "text") => true,
        ("text", "character varying") => new_mod.is_empty(),
        (a, b) if a == b && (string(a) || a == "bit varying" || is_temporal(a)) => {
            new_mod.is_empty() || (!old_mod.is_empty() && new_mod[0] >= old_mod[0])
        }
        ("numeric", "numeric") => {
            new_mod.is_empty()
                || (old_mod.len() == 2
                    && new_mod.len() == 2
                    && new_mod[0] >= old_mod[0]
                    && new_mod[1] == old_mod[1])
        }
        _ => false,
    }
}

/// Whether every value of `old` has the same meaning in `new`, though the table is rewritten.
pub fn widens_by_rewrite(old: &str, new: &str) -> bool {
    let rank = |name: &str| ["smallint", "integer", "bigint", "numeric"].iter().position(|n| *n == name);
    let ((old_name, _), (new_name, new_mod)) = (split_modifier(old), split_modifier(new));
    match (rank(&old_name), rank(&new_name)) {
        (Some(old), Some(new)) => old < new && new_mod.is_empty(),
        _ => {
            matches!(
                (old_name.as_str(), new_name.as_str()),
                ("real", "double precision") | ("character", "text" | "character varying")
            ) && new_mod.is_empty()
        }
    }
}

fn is_temporal(name: &str) -> bool {
    name.starts_with("timestamp") || name.starts_with("time ") || name == "interval"
}

/// `numeric(12,2)` -> (`numeric`, [12, 2]); `timestamp(3) with time zone` keeps its words.
fn split_modifier(sql: &str) -> (String, Vec<i32>) {
    match (sql.find('('), sql.find(')')) {
        (Some(open), Some(close)) if open < close => {
            let numbers = sql[open + 1..close].split(',').filter_map(|n| n.trim().parse().ok()).collect();
            (format!("{}{}", &sql[..open], &sql[close + 1..]), numbers)
        }
        _ => (sql.to_owned(), Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, sql: &str) -> ColumnType {
        ColumnType {
            oid: 1,
            schema: "pg_catalog".into(),
            name: name.into(),
            sql: sql.into(),
            extension: None,
            domain: None,
            kind: TypeKind::Base,
        }
    }

    fn sides(source: u32, warehouse: u32) -> Sides {
        Sides { source_major: source, warehouse_major: warehouse, warehouse_xml: true, ..Sides::default() }
    }

    #[test]
    fn an_interval_goes_as_text_only_from_17_or_newer_to_an_older_server() {
        let interval = base("interval", "interval");
        assert_eq!(carry(&interval, &sides(16, 13)), Carried::same("interval"));
        assert_eq!(carry(&interval, &sides(17, 18)), Carried::same("interval"));
        let carried = carry(&interval, &sides(18, 16));
        assert_eq!((carried.wire.as_str(), carried.target.as_str()), ("text", "interval"));
    }

    #[test]
    fn an_array_of_an_enum_becomes_an_array_of_text() {
        let label =
            ColumnType { oid: 20_000, kind: TypeKind::Enum(vec!["a".into()]), ..base("mood", "mood") };
        let array =
            ColumnType { oid: 20_001, kind: TypeKind::Array(Box::new(label)), ..base("_mood", "mood[]") };
        assert_eq!(carry(&array, &sides(15, 15)).target, "text[]");
        let numbers = ColumnType {
            kind: TypeKind::Array(Box::new(base("numeric", "numeric"))),
            ..base("_numeric", "numeric(12,2)[]")
        };
        assert_eq!(carry(&numbers, &sides(15, 15)), Carried::same("numeric(12,2)[]"));
    }

    #[test]
    fn a_type_that_the_warehouse_lacks_is_said() {
        let hstore = ColumnType { oid: 30_000, extension: Some("hstore".into()), ..base("hstore", "hstore") };
        assert!(carry(&hstore, &sides(15, 15)).told.unwrap().contains("hstore"));
        let mut there = sides(15, 15);
        there.warehouse_types.insert(("hstore".into(), "hstore".into()), "\"x\".\"hstore\"".into());
        assert_eq!(carry(&hstore, &there), Carried::same("\"x\".\"hstore\""));
    }

    #[test]
    fn a_column_stays_text_when_its_type_comes_to_the_warehouse_but_not_when_its_mask_goes() {
        let citext = ColumnType { oid: 30_000, extension: Some("citext".into()), ..base("citext", "citext") };
        assert_eq!(keep(&citext, Carried::same("ext.citext"), "text").target, "text");
        let number = base("int4", "integer");
        assert_eq!(keep(&number, Carried::same("integer"), "text").target, "integer");
        let odd = base("numeric", "numeric(3,-2)");
        assert_eq!(keep(&odd, Carried::same("numeric(3,-2)"), "numeric").target, "numeric");
        let retyped = base("numeric", "numeric(3,2)");
        assert_eq!(keep(&retyped, Carried::same("numeric(3,2)"), "numeric").target, "numeric(3,2)");
    }

    #[test]
    fn widening_is_told_from_rewriting() {
        for (old, new) in [
            ("character varying(20)", "character varying(30)"),
            ("character varying(20)", "text"),
            ("numeric(12,2)", "numeric(14,2)"),
            ("numeric(12,2)", "numeric"),
            ("timestamp(3) without time zone", "timestamp without time zone"),
        ] {
            assert!(widens_in_place(old, new), "{old} -> {new}");
            assert!(!widens_in_place(new, old) || old == "text", "{new} -> {old}");
        }
        assert!(!widens_in_place("numeric(12,2)", "numeric(14,3)"));
        assert!(widens_by_rewrite("integer", "bigint"));
        assert!(!widens_by_rewrite("bigint", "integer"));
        assert!(!widens_by_rewrite("integer", "text"));
    }
}
