//! What relations a database has.
//!
//! In:    a session.
//! Out:   tables with their columns and sizes; where sequences stand.
//! Holds: what belongs to an extension is not taken for a stranger.
//! Not here: their rows (`reading`).

use super::difference::{self, Difference, Position, columns_of};
use crate::backup::proof::{Proof, TableProof};
use crate::error::Failure;
use crate::pg::Session;
use crate::table::TableName;
use anyhow::Result;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The relations of a database, but for PostgreSQL's own and temporary ones.
pub(super) struct Catalog {
    pub relations: BTreeMap<TableName, Relation>,
    sequences: HashSet<TableName>,
}

/// One table.
pub(super) struct Relation {
    pub is_foreign: bool,
    /// Whether its rows have places by which it can be cut.
    pub is_heap: bool,
    /// Size of its heap.
    pub bytes: u64,
    /// Blocks of its heap.
    pub blocks: u64,
    /// Which of an extension's rows are the user's, as `WHERE ...`; `pg_dump` takes no others.
    pub filter: Option<String>,
    /// All but generated ones.
    columns: Vec<String>,
    is_of_extension: bool,
}

impl Relation {
    pub fn has_all(&self, columns: &[String]) -> bool {
        columns.iter().all(|column| self.columns.contains(column))
    }
}

const RELATIONS: &str = "
    SELECT n.nspname::text, c.relname::text, c.relkind::text, coalesce(a.amname = 'heap', false),
           CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END,
           pg_catalog.current_setting('block_size')::bigint,
           EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                   AND d.objid = c.oid AND d.deptype = 'e'),
           ARRAY(SELECT t.attname::text FROM pg_catalog.pg_attribute t WHERE t.attrelid = c.oid
                 AND t.attnum > 0 AND NOT t.attisdropped AND t.attgenerated = '' ORDER BY t.attnum),
           (SELECT nullif(e.extcondition[array_position(e.extconfig, c.oid)], '')
            FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig) LIMIT 1)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam
    WHERE c.relkind IN ('r', 'f', 'S') AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

impl Catalog {
    /// Asks for all of it, in one query.
    pub async fn read(session: &Session) -> Result<Catalog> {
        let rows = session.client.query(RELATIONS, &[]).await;
        let rows = rows.map_err(|error| session.failure(error, "cannot list the restored tables"))?;
        let mut catalog = Catalog { relations: BTreeMap::new(), sequences: HashSet::new() };
        for row in rows {
            let name = TableName { schema: row.try_get(0)?, name: row.try_get(1)? };
            let kind: String = row.try_get(2)?;
            if kind == "S" {
                catalog.sequences.insert(name);
                continue;
            }
            let (bytes, block): (i64, i64) = (row.try_get(4)?, row.try_get(5)?);
            let relation = Relation {
                is_foreign: kind == "f",
                is_heap: row.try_get(3)?,
                bytes: bytes.unsigned_abs(),
                blocks: bytes.unsigned_abs().div_ceil(block.unsigned_abs().max(1)),
                is_of_extension: row.try_get(6)?,
                columns: row.try_get(7)?,
                filter: row.try_get(8)?,
            };
            catalog.relations.insert(name, relation);
        }
        Ok(catalog)
    }
}

/// Columns that are missing or additional.
pub(super) fn columns(catalog: &Catalog, tables: &[TableProof]) -> Vec<Difference> {
    let differ = tables.iter().flat_map(|table| {
        let name = TableName::new(&table.schema, &table.table);
        let found = catalog.relations.get(&name);
        found.map(|found| columns_of(&name, &table.columns, &found.columns)).unwrap_or_default()
    });
    differ.collect()
}

/// Tables that the proof does not know.
pub(super) fn additional(catalog: &Catalog, proof: &Proof) -> Vec<Difference> {
    let dumped = proof.tables.iter().map(|table| (table.schema.as_str(), table.table.as_str()));
    let dumped: HashSet<(&str, &str)> = dumped.collect();
    let left_out: HashSet<&str> = proof.left_out.iter().map(|one| one.name.as_str()).collect();
    let is_known = |name: &TableName| {
        dumped.contains(&(name.schema.as_str(), name.name.as_str()))
            || left_out.contains(format!("{}.{}", name.schema, name.name).as_str())
    };
    let unknown = catalog
        .relations
        .iter()
        .filter(|(name, relation)| !relation.is_foreign && !relation.is_of_extension && !is_known(name));
    unknown.map(|(name, _)| Difference::AdditionalTable { table: name.to_string() }).collect()
}

/// Sequences that are asked for in one statement.
const BATCH: usize = 200;

/// Sequences that are missing or stand elsewhere.
pub(super) async fn sequences(
    session: &Session,
    catalog: &Catalog,
    proof: &Proof,
) -> Result<Vec<Difference>> {
    let mut expected = Vec::new();
    for (name, sql) in &proof.sequences {
        let known = difference::position(sql);
        expected.push(known.ok_or_else(|| {
            Failure::data(format!("cannot compare sequence {name}: its value is not understood"))
        })?);
    }
    let (there, missing): (Vec<_>, Vec<_>) =
        expected.into_iter().partition(|(name, _)| catalog.sequences.contains(name));
    let missing = missing.iter().map(|(name, _)| Difference::MissingSequence { sequence: name.to_string() });
    let mut differences: Vec<_> = missing.collect();
    for batch in there.chunks(BATCH) {
        let found = positions(session, batch.iter().map(|(name, _)| name)).await?;
        for (nth, (name, expected)) in batch.iter().enumerate() {
            match found.get(&nth) {
                Some(found) if found == expected => {}
                Some(found) => differences.push(Difference::Sequence {
                    sequence: name.to_string(),
                    expected: *expected,
                    found: *found,
                }),
                None => differences.push(Difference::MissingSequence { sequence: name.to_string() }),
            }
        }
    }
    Ok(differences)
}

async fn positions(
    session: &Session,
    names: impl Iterator<Item = &TableName>,
) -> Result<HashMap<usize, Position>> {
    let one = |(nth, name): (usize, &TableName)| {
        format!("SELECT {nth}::bigint, last_value, is_called FROM {}", name.sql())
    };
    let sql = names.enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ");
    let rows = session.client.query(&sql, &[]).await;
    let rows = rows.map_err(|error| session.failure(error, "cannot read the restored sequences"))?;
    let mut positions = HashMap::new();
    for row in rows {
        let nth: i64 = row.try_get(0)?;
        let position = Position { last_value: row.try_get(1)?, is_called: row.try_get(2)? };
        positions.insert(usize::try_from(nth)?, position);
    }
    Ok(positions)
}
