//! What can differ between a proof and a database, or between two proofs.
//!
//! In:    sums on both sides.
//! Out:   differences, each a sentence with counts.
//! Holds: no cell's value is in them; pure.
//! Not here: reading the database (`reading`, `catalog`).

use crate::backup::proof::{Proof, SetSum, TableProof};
use crate::table::TableName;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// One difference; `expected` is what was dumped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// A table of the proof is not there.
    MissingTable { table: String, rows: u64 },
    /// A table is there that the proof does not know.
    AdditionalTable { table: String },
    /// Columns are not there; the rows were not compared.
    MissingColumns { table: String, columns: Vec<String> },
    /// Columns are there that the dump did not have.
    AdditionalColumns { table: String, columns: Vec<String> },
    /// The rows differ; `table` may be a partitioned one whose partitions were compared together.
    Rows { table: String, expected: Figures, found: Figures },
    /// The large objects differ.
    LargeObjects { expected: Figures, found: Figures },
    /// A sequence of the proof is not there.
    MissingSequence { sequence: String },
    /// A sequence stands elsewhere.
    Sequence { sequence: String, expected: Position, found: Position },
    /// The definitions differ. Found by [`compare`] only.
    Definitions { expected: u64, found: u64 },
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Rows or large objects.
    pub count: u64,
    /// Their bytes, rows in COPY's text.
    pub bytes: u64,
}

/// Where a sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The value it gave last, or gives first.
    pub last_value: i64,
    /// Whether it has been given.
    pub is_called: bool,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::MissingTable { table, rows } => write!(f, "table {table} is missing ({rows} rows)"),
            Difference::AdditionalTable { table } => write!(f, "table {table} is not in the backup"),
            Difference::MissingColumns { table, columns } => {
                write!(f, "table {table} lacks columns: {}", columns.join(", "))
            }
            Difference::AdditionalColumns { table, columns } => {
                write!(f, "table {table} has columns that are not in the backup: {}", columns.join(", "))
            }
            Difference::Rows { table, expected, found } => {
                write!(f, "table {table} has {}", Contrast("rows", expected, found))
            }
            Difference::LargeObjects { expected, found } => {
                write!(f, "the database has {}", Contrast("large objects", expected, found))
            }
            Difference::MissingSequence { sequence } => write!(f, "sequence {sequence} is missing"),
            Difference::Sequence { sequence, expected, found } => {
                write!(f, "sequence {sequence} stands {found} instead of {expected}")
            }
            Difference::Definitions { expected, found } if expected == found => {
                write!(f, "some of the {expected} definitions differ")
            }
            Difference::Definitions { expected, found } => {
                write!(f, "there are {found} definitions instead of {expected}")
            }
        }
    }
}

/// Says in how far two sets of things differ.
struct Contrast<'a>(&'static str, &'a Figures, &'a Figures);

impl fmt::Display for Contrast<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contrast(things, expected, found) = self;
        let bytes = format!("{} bytes instead of {}", found.bytes, expected.bytes);
        match (expected.count == found.count, expected.bytes == found.bytes) {
            (false, _) => write!(f, "{} {things} instead of {}", found.count, expected.count),
            (true, false) => write!(f, "the same number of {things} ({}), of {bytes}", found.count),
            (true, true) => write!(f, "the same number of {things} ({}), but not the same ones", found.count),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.is_called { "at" } else { "before" }, self.last_value)
    }
}

fn figures(sum: &SetSum) -> Figures {
    let proof = sum.proof();
    Figures { count: proof.count, bytes: proof.bytes }
}

/// What differs between two dumps: that of the source, and that of what was restored from it.
///
/// Definitions are compared too, owners included: dumped by the same `pg_dump`, and restored with its
/// owners, they are equal.
pub fn compare(expected: &Proof, found: &Proof) -> Vec<Difference> {
    let name = |table: &TableProof| TableName::new(&table.schema, &table.table);
    let sums: HashMap<_, _> = found.tables.iter().map(|table| (name(table), table.set.sum())).collect();
    let mut differences = of_columns(expected, found);
    differences.extend(of_tables(&expected.tables, &sums));
    let known: HashSet<TableName> = expected.tables.iter().map(name).collect();
    let additional = found.tables.iter().map(name).filter(|name| !known.contains(name));
    differences.extend(additional.map(|name| Difference::AdditionalTable { table: name.to_string() }));
    if let (Some(expected), Some(found)) = (expected.large_objects.sum(), found.large_objects.sum()) {
        differences.extend(of_large_objects(&expected, &found));
    }
    differences.extend(of_sequences(&expected.sequences, &found.sequences));
    if expected.definition_sha256 != found.definition_sha256 {
        let (expected, found) = (expected.definitions, found.definitions);
        differences.push(Difference::Definitions { expected, found });
    }
    differences
}

fn of_columns(expected: &Proof, found: &Proof) -> Vec<Difference> {
    let find = |one: &TableProof| {
        found.tables.iter().find(|other| (&other.schema, &other.table) == (&one.schema, &one.table))
    };
    let pairs = expected.tables.iter().filter_map(|one| Some((one, find(one)?)));
    let differ = pairs.flat_map(|(one, other)| {
        let name = TableName::new(&one.schema, &one.table);
        columns_of(&name, &one.columns, &other.columns)
    });
    differ.collect()
}

/// Which columns are missing, and which are additional.
pub(super) fn columns_of(table: &TableName, expected: &[String], found: &[String]) -> Vec<Difference> {
    let without = |all: &[String], others: &[String]| -> Vec<String> {
        all.iter().filter(|column| !others.contains(column)).cloned().collect()
    };
    let (missing, additional) = (without(expected, found), without(found, expected));
    let table = table.to_string();
    let missing =
        (!missing.is_empty()).then(|| Difference::MissingColumns { table: table.clone(), columns: missing });
    let additional = (!additional.is_empty())
        .then(|| Difference::AdditionalColumns { table: table.clone(), columns: additional });
    missing.into_iter().chain(additional).collect()
}

/// Tables by name; those without a sum are there, but could not be compared.
pub(super) fn of_tables(
    expected: &[TableProof],
    found: &HashMap<TableName, Option<SetSum>>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut roots: BTreeMap<TableName, (SetSum, SetSum)> = BTreeMap::new();
    for table in expected {
        let name = TableName::new(&table.schema, &table.table);
        let Some(sum) = found.get(&name) else {
            differences.push(Difference::MissingTable { table: name.to_string(), rows: table.set.count });
            continue;
        };
        let Some(sum) = sum else { continue };
        let expected = table.set.sum().unwrap_or_default();
        match &table.root {
            Some((schema, root)) => {
                let sums = roots.entry(TableName::new(schema, root)).or_default();
                sums.0.add_sum(&expected);
                sums.1.add_sum(sum);
            }
            None => differences.extend(of_rows(&name, &expected, sum)),
        }
    }
    differences.extend(roots.iter().filter_map(|(name, (expected, found))| of_rows(name, expected, found)));
    differences
}

fn of_rows(table: &TableName, expected: &SetSum, found: &SetSum) -> Option<Difference> {
    let differ =
        || Difference::Rows { table: table.to_string(), expected: figures(expected), found: figures(found) };
    (expected != found).then(differ)
}

pub(super) fn of_large_objects(expected: &SetSum, found: &SetSum) -> Option<Difference> {
    let differ = || Difference::LargeObjects { expected: figures(expected), found: figures(found) };
    (expected != found).then(differ)
}

fn of_sequences(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Vec<Difference> {
    let differ = expected.iter().filter(|(name, sql)| found.get(*name) != Some(sql));
    let tell = |(name, sql): (&String, &String)| {
        let sequence = name.clone();
        let positions = (position(sql), found.get(name).and_then(|sql| position(sql)));
        match positions {
            (Some((_, expected)), Some((_, found))) => Difference::Sequence { sequence, expected, found },
            _ => Difference::MissingSequence { sequence },
        }
    };
    differ.map(tell).collect()
}

/// Name and position in `SELECT pg_catalog.setval('s.q', 6, true);`, as pg_dump writes it.
pub(super) fn position(sql: &str) -> Option<(TableName, Position)> {
    let call = sql.trim_end().strip_prefix("SELECT pg_catalog.setval(")?.strip_suffix(");")?;
    let (name, position) = call.rsplit_once("', ")?;
    let (last_value, is_called) = position.split_once(", ")?;
    let name = match name.trim_start().strip_prefix("E'") {
        Some(escaped) => escaped.replace("\\\\", "\\"),
        None => name.strip_prefix('\'')?.to_owned(),
    };
    let name = TableName::parse(&name.replace("''", "'")).ok()?;
    let position = Position { last_value: last_value.parse().ok()?, is_called: is_called.parse().ok()? };
    Some((name, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, root: Option<&str>, rows: &[&str]) -> TableProof {
        let mut set = SetSum::default();
        rows.iter().for_each(|row| set.add(row.as_bytes()));
        let root = root.map(|root| ("public".into(), root.into()));
        TableProof {
            schema: "public".into(),
            table: name.into(),
            columns: vec!["a".into()],
            root,
            set: set.proof(),
        }
    }

    fn proof(tables: Vec<TableProof>) -> Proof {
        Proof { tables, large_objects: SetSum::default().proof(), ..Proof::default() }
    }

    fn told(expected: &Proof, found: &Proof) -> Vec<String> {
        compare(expected, found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_difference_is_told_with_counts() {
        let expected =
            proof(vec![table("a", None, &["1", "2"]), table("b", None, &["x"]), table("c", None, &[])]);
        let mut found =
            proof(vec![table("a", None, &["1"]), table("b", None, &["y"]), table("d", None, &[])]);
        assert!(told(&expected, &expected).is_empty());
        let words = [
            "table public.a has 1 rows instead of 2",
            "table public.b has the same number of rows (1), but not the same ones",
            "table public.c is missing (0 rows)",
            "table public.d is not in the backup",
        ];
        assert_eq!(told(&expected, &found), words);
        found.tables = expected.tables.clone();
        found.tables[0] = TableProof { columns: vec!["b".into()], ..table("a", None, &["1", "22"]) };
        found.definition_sha256 = "other".into();
        found.large_objects = SetSum::default().proof();
        let words = [
            "table public.a lacks columns: a",
            "table public.a has columns that are not in the backup: b",
            "table public.a has the same number of rows (2), of 3 bytes instead of 2",
            "some of the 0 definitions differ",
        ];
        assert_eq!(told(&expected, &found), words);
    }

    #[test]
    fn partitions_of_a_root_are_compared_together() {
        let expected = proof(vec![table("a", Some("r"), &["1", "2"]), table("b", Some("r"), &["3"])]);
        let moved = proof(vec![table("a", None, &["1"]), table("b", None, &["2", "3"])]);
        assert!(told(&expected, &moved).is_empty());
        let changed = proof(vec![table("a", None, &["1"]), table("b", None, &["2", "4"])]);
        assert_eq!(
            told(&expected, &changed),
            ["table public.r has the same number of rows (3), but not the same ones"]
        );
    }

    #[test]
    fn a_sequence_is_read_whatever_its_name() {
        let sql = "SELECT pg_catalog.setval('\"Odd '', x\".\"Se\"\"q\"', -3, false);\n";
        let expected = (TableName::new("Odd ', x", "Se\"q"), Position { last_value: -3, is_called: false });
        assert_eq!(position(sql), Some(expected));
        let sql = "SELECT pg_catalog.setval(E'public.\"a\\\\b\"', 9223372036854775807, true);\n";
        let expected = (TableName::new("public", "a\\b"), Position { last_value: i64::MAX, is_called: true });
        assert_eq!(position(sql), Some(expected));
        assert_eq!(position("SELECT 1;"), None);
    }
}
