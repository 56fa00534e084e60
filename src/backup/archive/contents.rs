//! The table of contents, entry by entry, as it goes by.
//!
//! In:    the entries, in the archive's order.
//! Out:   the data entries; hashes of the definitions; what the dump leaves out or a restore computes.
//! Holds: of an entry without data a hash is kept, so that a million of them fit in memory.
//! Not here: the blocks of the data entries (`blocks`).

use super::copy::{self, Target};
use super::header::Header;
use super::wire::{Cursor, NO_DATA, OFFSET_SET, Parsed, bad, text};
use crate::backup::proof::LeftOut;
use crate::pg::copy::hex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One entry as it stands in the archive.
pub(super) struct Entry<'a> {
    pub id: i64,
    has_dumper: i64,
    pub tag: Option<&'a [u8]>,
    pub desc: &'a [u8],
    pub definition: Option<&'a [u8]>,
    copy: Option<&'a [u8]>,
    pub namespace: Option<&'a [u8]>,
    pub owner: Option<&'a [u8]>,
    pub tablespace: Option<&'a [u8]>,
    /// Numbers of the entries that it depends on, decimal.
    pub needs: Vec<&'a [u8]>,
    relkind: Option<i64>,
    /// Where its offset field begins, counted from the entry's first byte.
    pub offset_at: usize,
    pub flag: u8,
    pub offset: u64,
}

impl<'a> Entry<'a> {
    pub fn read(cursor: &mut Cursor<'a>, header: &Header) -> Parsed<Entry<'a>> {
        let (id, has_dumper) = (cursor.int()?, cursor.int()?);
        let (_table_oid, _oid) = (cursor.string()?, cursor.string()?);
        let (tag, desc, section) = (cursor.string()?, cursor.string()?, cursor.int()?);
        let (definition, _drop, copy) = (cursor.string()?, cursor.string()?, cursor.string()?);
        let (namespace, tablespace, _access) = (cursor.string()?, cursor.string()?, cursor.string()?);
        let relkind = if header.has_relkind() { Some(cursor.int()?) } else { None };
        let (owner, with_oids) = (cursor.string()?, cursor.string()?);
        let mut needs = Vec::new();
        while let Some(need) = cursor.string()? {
            needs.push(need);
        }
        let offset_at = cursor.used();
        let (flag, offset) = cursor.offset()?;
        let desc = desc.unwrap_or_default();
        let has_block = flag != NO_DATA;
        if id < 1 || has_dumper != i64::from(has_block) || !(1..=4).contains(&section) {
            return bad(format!("an entry that contradicts itself (number {id})"));
        }
        if with_oids != Some(b"false") || desc.is_empty() {
            return bad(format!("an entry without what every entry has (number {id})"));
        }
        #[rustfmt::skip]
        let entry = Entry { id, has_dumper, tag, desc, definition, copy, namespace, owner, tablespace, needs, relkind, offset_at, flag, offset };
        Ok(entry)
    }

    fn has_block(&self) -> bool {
        self.has_dumper == 1
    }

    fn name(&self) -> String {
        let tag = text(self.tag.unwrap_or_default());
        match self.namespace {
            Some(namespace) if !namespace.is_empty() => format!("{}.{tag}", text(namespace)),
            _ => tag,
        }
    }

    fn definition(&self) -> String {
        text(self.definition.unwrap_or_default())
    }

    /// Each field with its length, so that no two entries read alike.
    fn hash(&self) -> [u8; 32] {
        let fields = [Some(self.desc), self.namespace, self.tag, self.owner, self.definition, self.copy];
        let mut hash = Sha256::new();
        for field in fields {
            hash.update(field.map_or(-1, |field| field.len() as i64).to_le_bytes());
            hash.update(field.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

/// An entry that has a block.
#[derive(Clone)]
pub(super) struct DataEntry {
    pub id: i64,
    pub kind: DataKind,
    /// Where its offset field is in the archive.
    pub offset_at: u64,
    /// Where the archive says that the block is, if it does.
    pub said: Option<u64>,
}

#[derive(Clone)]
pub(super) enum DataKind {
    /// Rows of a table, in COPY text.
    Rows { schema: String, table: String, target: Target },
    /// Large objects.
    LargeObjects,
}

impl DataEntry {
    /// How messages call it.
    pub fn name(&self) -> String {
        match &self.kind {
            DataKind::Rows { schema, table, .. } => format!("{schema}.{table}"),
            DataKind::LargeObjects => format!("large objects (entry {})", self.id),
        }
    }
}

/// What is kept of the table of contents.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub data: Vec<DataEntry>,
    /// Place in `data` by number of the entry.
    pub by_id: HashMap<i64, usize>,
    pub sequences: BTreeMap<String, String>,
    pub recomputed: Vec<String>,
    pub client_encoding: Option<String>,
    definitions: Vec<[u8; 32]>,
    ids: HashSet<i64>,
    relations: Vec<Relation>,
    subscriptions: Vec<String>,
    has_statistics: bool,
}

/// Something that could have rows.
#[derive(Clone)]
struct Relation {
    class: &'static str,
    schema: String,
    name: String,
}

impl Contents {
    /// Takes the next entry; its first byte is at `start` of the archive.
    pub fn add(&mut self, entry: &Entry, start: u64) -> Parsed<()> {
        if !self.ids.insert(entry.id) {
            return bad(format!("two entries with number {}", entry.id));
        }
        if entry.has_block() {
            return self.add_data(entry, start);
        }
        match entry.desc {
            // These are what a restore is compared on by themselves, or what it may not keep.
            b"SEQUENCE SET" => drop(self.sequences.insert(entry.name(), entry.definition())),
            b"STATISTICS DATA" => self.has_statistics = true,
            b"DATABASE" | b"DATABASE PROPERTIES" => {}
            _ => self.definitions.push(entry.hash()),
        }
        self.note(entry);
        Ok(())
    }

    fn add_data(&mut self, entry: &Entry, start: u64) -> Parsed<()> {
        let kind = match entry.desc {
            b"BLOBS" => DataKind::LargeObjects,
            b"TABLE DATA" => rows_of(entry)?,
            _ => return bad(format!("data of an unknown kind (entry {})", entry.id)),
        };
        let said = (entry.flag == OFFSET_SET).then_some(entry.offset);
        let offset_at = start + entry.offset_at as u64;
        self.by_id.insert(entry.id, self.data.len());
        self.data.push(DataEntry { id: entry.id, kind, offset_at, said });
        Ok(())
    }

    fn note(&mut self, entry: &Entry) {
        match entry.desc {
            b"ENCODING" => self.client_encoding = encoding_of(&entry.definition()),
            b"MATERIALIZED VIEW DATA" => self.recomputed.push(entry.name()),
            b"SUBSCRIPTION" => self.subscriptions.push(entry.name()),
            b"FOREIGN TABLE" => self.add_relation(entry, "foreign_table"),
            b"TABLE" => {
                let definition = entry.definition();
                let columns = generated_columns(&definition);
                self.recomputed.extend(columns.iter().map(|column| format!("{}.{column}", entry.name())));
                if !is_partitioned(entry.relkind, &definition) {
                    let unlogged = definition.starts_with("CREATE UNLOGGED TABLE ");
                    self.add_relation(entry, if unlogged { "unlogged_table" } else { "table_data" });
                }
            }
            _ => {}
        }
    }

    fn add_relation(&mut self, entry: &Entry, class: &'static str) {
        let (schema, name) = (text(entry.namespace.unwrap_or_default()), text(entry.tag.unwrap_or_default()));
        self.relations.push(Relation { class, schema, name });
    }

    /// (SHA-256 over the sorted hashes of the definitions, how many there are).
    pub fn definitions(&mut self) -> (String, u64) {
        self.definitions.sort_unstable();
        (hex(&Sha256::digest(self.definitions.as_flattened())), self.definitions.len() as u64)
    }

    /// What the table of contents names and no block holds.
    pub fn left_out(&self) -> Vec<LeftOut> {
        let with_data: HashSet<(&str, &str)> = self.data.iter().filter_map(DataEntry::table).collect();
        let without_data = self
            .relations
            .iter()
            .filter(|one| !with_data.contains(&(one.schema.as_str(), one.name.as_str())));
        let mut left_out: Vec<LeftOut> = without_data
            .map(|one| LeftOut { class: one.class.into(), name: format!("{}.{}", one.schema, one.name) })
            .chain(
                self.subscriptions
                    .iter()
                    .map(|name| LeftOut { class: "subscription".into(), name: name.clone() }),
            )
            .collect();
        if !self.has_statistics {
            left_out.push(LeftOut { class: "planner_statistics".into(), name: "all".into() });
        }
        left_out
    }
}

impl DataEntry {
    fn table(&self) -> Option<(&str, &str)> {
        match &self.kind {
            DataKind::Rows { schema, table, .. } => Some((schema, table)),
            DataKind::LargeObjects => None,
        }
    }
}

fn rows_of(entry: &Entry) -> Parsed<DataKind> {
    let (schema, table) = (text(entry.namespace.unwrap_or_default()), text(entry.tag.unwrap_or_default()));
    match entry.copy.and_then(|statement| copy::target(&text(statement))) {
        Some(target) => Ok(DataKind::Rows { schema, table, target }),
        None => bad(format!("data of {schema}.{table} that is not COPY text")),
    }
}

/// `SET client_encoding = 'UTF8';`
fn encoding_of(definition: &str) -> Option<String> {
    definition.split('\'').nth(1).map(str::to_owned)
}

// Archives tell the kind of relation since 1.16; before that its definition does.
fn is_partitioned(relkind: Option<i64>, definition: &str) -> bool {
    match relkind {
        Some(kind) => kind == i64::from(b'p'),
        None => definition.contains(")\nPARTITION BY "),
    }
}

/// Columns that a restore computes; as pg_dump writes them, one a line.
fn generated_columns(definition: &str) -> Vec<String> {
    let is_generated = |line: &&str| line.contains(" GENERATED ALWAYS AS (");
    let lines = definition.lines().filter(is_generated);
    lines.filter_map(|line| copy::name(line.strip_prefix("    ")?)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_columns_are_told_from_identity_and_from_others() {
        let definition = "CREATE TABLE a.b (\n    id integer NOT NULL,\n    \"x y\" text GENERATED ALWAYS AS \
                          (lower(id::text)) STORED,\n    CONSTRAINT c CHECK ((id > 0))\n);\n";
        assert_eq!(generated_columns(definition), ["x y"]);
        assert_eq!(
            generated_columns("ALTER TABLE a ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY ("),
            [""; 0]
        );
    }

    #[test]
    fn a_partitioned_table_is_known_by_its_kind_or_by_its_definition() {
        let definition = "CREATE TABLE a.b (\n    id integer\n)\nPARTITION BY RANGE (id);\n";
        assert!(is_partitioned(Some(i64::from(b'p')), ""));
        assert!(!is_partitioned(Some(i64::from(b'r')), definition));
        assert!(is_partitioned(None, definition));
    }
}
