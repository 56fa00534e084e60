//! Which entries of an archive come back when only some tables or schemas are asked for.
//!
//! In:    the table of contents; names of tables and schemas.
//! Out:   the numbers of the entries, for `pg_restore --use-list`; the tables whose rows are proven.
//! Holds: pure. `pg_restore --table` leaves out indexes, keys, defaults, triggers and grants; here all
//!        that hangs on a table comes with it, and what it hangs on (types, sequences, functions,
//!        schemas) too. A foreign key to a table that does not come stays out, and is said.
//! Not here: running it (`apply`).

use crate::backup::archive::Item;
use crate::error::{Failure, nearest_hint};
use crate::table::TableName;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for; nothing at all means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Tables, as the catalog spells them.
    pub tables: Vec<TableName>,
    /// Whole schemas.
    pub schemas: Vec<String>,
}

/// What comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Numbers of entries.
    pub ids: BTreeSet<i64>,
    /// Names of the tables (and sequences) among them.
    pub tables: BTreeSet<TableName>,
    /// What hangs on the tables and stays out, in words.
    pub left_out: Vec<String>,
}

/// Kinds that come with a table that they need.
const HANGING: &[&str] = &[
    "TABLE DATA",
    "DEFAULT",
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TRIGGER",
    "RULE",
    "POLICY",
    "ROW SECURITY",
    "ACL",
    "COMMENT",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "STATISTICS DATA",
    "TABLE ATTACH",
    "MATERIALIZED VIEW DATA",
];

/// Kinds that can be asked for by name.
const RELATIONS: &[&str] = &["TABLE", "FOREIGN TABLE", "SEQUENCE", "VIEW", "MATERIALIZED VIEW"];

/// Kinds that set up every session, and so always come.
const SETTINGS: &[&str] = &["ENCODING", "STDSTRINGS", "SEARCHPATH"];

impl Wanted {
    /// Whether everything is asked for.
    pub fn is_all(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty()
    }

    /// What of `items` comes.
    ///
    /// # Errors
    /// A usage failure for a table or schema that the archive does not hold, with the nearest name.
    pub fn select(&self, items: &[Item]) -> Result<Selection, Failure> {
        let by_id: BTreeMap<i64, &Item> = items.iter().map(|item| (item.id, item)).collect();
        let mut ids = self.asked_for(items)?;
        ids.extend(items.iter().filter(|item| SETTINGS.contains(&item.kind.as_str())).map(|item| item.id));
        let left_out = loop {
            let before = ids.len();
            add_needed(&mut ids, &by_id);
            let left_out = add_hanging(&mut ids, items, &by_id);
            if ids.len() == before {
                break left_out;
            }
        };
        let tables = items.iter().filter(|item| ids.contains(&item.id) && is_relation(item));
        let tables = tables.map(|item| TableName::new(&item.schema, &item.tag)).collect();
        Ok(Selection { ids, tables, left_out })
    }

    fn asked_for(&self, items: &[Item]) -> Result<BTreeSet<i64>, Failure> {
        let mut ids = BTreeSet::new();
        for schema in &self.schemas {
            let inside = items.iter().filter(|item| item.schema == *schema || is_schema(item, schema));
            let inside: Vec<i64> =
                inside.filter(|item| is_relation(item) || !is_hanging(item)).map(|item| item.id).collect();
            if inside.is_empty() {
                let known = items.iter().filter(|item| item.kind == "SCHEMA").map(|item| item.tag.as_str());
                let what = format!("cannot restore schema {schema}: the backup holds none of this name");
                return Err(Failure::usage(what).hint(nearest_hint(schema, known)));
            }
            ids.extend(inside);
        }
        for table in &self.tables {
            let found = items
                .iter()
                .find(|item| is_relation(item) && item.schema == table.schema && item.tag == table.name);
            let Some(found) = found else {
                let known: Vec<String> = items.iter().filter(|item| is_relation(item)).map(name).collect();
                let what = format!("cannot restore table {table}: the backup holds none of this name");
                let hint = nearest_hint(&table.to_string(), known.iter().map(String::as_str));
                return Err(Failure::usage(what).hint(hint));
            };
            ids.insert(found.id);
        }
        Ok(ids)
    }
}

fn is_hanging(item: &Item) -> bool {
    HANGING.contains(&item.kind.as_str())
}

fn is_relation(item: &Item) -> bool {
    RELATIONS.contains(&item.kind.as_str())
}

fn is_schema(item: &Item, schema: &str) -> bool {
    item.kind == "SCHEMA" && item.tag == schema
}

fn name(item: &Item) -> String {
    TableName::new(&item.schema, &item.tag).to_string()
}

/// What the entries need themselves: types, functions, sequences, partitioned parents.
fn add_needed(ids: &mut BTreeSet<i64>, by_id: &BTreeMap<i64, &Item>) {
    let mut open: Vec<i64> = ids.iter().copied().collect();
    while let Some(item) = open.pop().and_then(|id| by_id.get(&id)) {
        let needed = item.needs.iter().filter(|need| by_id.contains_key(need));
        let new: Vec<i64> = needed.copied().filter(|need| ids.insert(*need)).collect();
        open.extend(new);
    }
    // Schemas are not among the dependencies that pg_dump writes.
    let spaces: BTreeSet<&str> =
        ids.iter().filter_map(|id| by_id.get(id)).map(|item| item.schema.as_str()).collect();
    let schemas: Vec<i64> = by_id
        .values()
        .filter(|item| item.kind == "SCHEMA" && spaces.contains(item.tag.as_str()))
        .map(|item| item.id)
        .collect();
    ids.extend(schemas);
}

/// What hangs on the entries; what needs something else that does not come is told instead.
fn add_hanging(ids: &mut BTreeSet<i64>, items: &[Item], by_id: &BTreeMap<i64, &Item>) -> Vec<String> {
    let mut left_out = Vec::new();
    for item in items.iter().filter(|item| is_hanging(item)) {
        if ids.contains(&item.id) || !item.needs.iter().any(|need| hangs_on(*need, ids, by_id)) {
            continue;
        }
        let is_lone =
            |need: &&i64| !ids.contains(need) && by_id.get(need).is_some_and(|other| is_relation(other));
        match item.needs.iter().find(is_lone) {
            Some(need) if item.kind == "FK CONSTRAINT" => {
                let other = by_id.get(need).map(|other| name(other)).unwrap_or_default();
                left_out.push(format!("foreign key {} ({other} does not come)", item.tag));
            }
            _ => drop(ids.insert(item.id)),
        }
    }
    left_out
}

/// A grant on a schema does not bring the schema's other grants, and so on: only relations and what
/// hangs on them carry others.
fn hangs_on(need: i64, ids: &BTreeSet<i64>, by_id: &BTreeMap<i64, &Item>) -> bool {
    let carries = |item: &&Item| is_relation(item) || is_hanging(item);
    ids.contains(&need) && by_id.get(&need).is_some_and(carries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: i64, kind: &str, tag: &str, needs: &[i64]) -> Item {
        let schema = if ["SCHEMA", "ENCODING"].contains(&kind) { "" } else { "s" };
        Item {
            id,
            kind: kind.into(),
            tag: tag.into(),
            schema: schema.into(),
            needs: needs.into(),
            ..Item::default()
        }
    }

    fn items() -> Vec<Item> {
        vec![
            item(1, "ENCODING", "ENCODING", &[]),
            item(2, "SCHEMA", "s", &[]),
            item(3, "TYPE", "mood", &[]),
            item(4, "TABLE", "a", &[3]),
            item(5, "TABLE", "b", &[]),
            item(6, "TABLE DATA", "a", &[4]),
            item(7, "TABLE DATA", "b", &[5]),
            item(8, "CONSTRAINT", "a a_pkey", &[4]),
            item(9, "CONSTRAINT", "b b_pkey", &[5]),
            item(10, "FK CONSTRAINT", "b b_a_fkey", &[4, 5, 8]),
            item(11, "INDEX", "a_index", &[4]),
            item(12, "VIEW", "v", &[4]),
            item(13, "ACL", "TABLE a", &[4]),
            item(14, "SEQUENCE", "a_seq", &[4]),
        ]
    }

    fn select(tables: &[&str], schemas: &[&str]) -> Result<Selection, Failure> {
        let tables = tables.iter().map(|name| TableName::parse(name).unwrap()).collect();
        Wanted { tables, schemas: schemas.iter().map(|&name| name.into()).collect() }.select(&items())
    }

    #[test]
    fn a_table_comes_with_what_hangs_on_it_and_what_it_needs_and_nothing_else() {
        let selection = select(&["s.a"], &[]).unwrap();
        assert_eq!(selection.ids, [1, 2, 3, 4, 6, 8, 11, 13, 14].into());
        assert_eq!(selection.left_out, ["foreign key b b_a_fkey (s.b does not come)"]);
        let both = select(&["s.a", "s.b"], &[]).unwrap();
        assert!(both.ids.contains(&10) && both.left_out.is_empty());
    }

    #[test]
    fn a_schema_comes_whole_and_a_name_that_is_not_there_is_refused_with_the_nearest() {
        assert_eq!(select(&[], &["s"]).unwrap().ids.len(), items().len());
        let failure = select(&["s.aa"], &[]).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("Did you mean s.a?"));
        assert!(select(&[], &["t"]).is_err());
    }
}
