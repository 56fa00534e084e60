//! What comes back of an archive, and whether the server can take it.
//!
//! In:    a verified archive; what a person asked for; the server.
//! Out:   [`Plan`]; a failure that names everything that stands in the way.
//! Holds: nothing is written.
//! Not here: each question (`needs`, `select`, `check`), doing it (`fill`).

use super::fill::{Wish, list};
use super::guard::Entry;
use super::needs::Needs;
use super::select::Selection;
use super::target::Target;
use super::{check, properties};
use crate::backup::archive::{Item, items};
use crate::backup::proof::Proof;
use crate::error::Failure;
use crate::table::TableName;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs::File;

/// What comes, and what that needs.
pub struct Plan {
    /// The table of contents.
    pub items: Vec<Item>,
    /// Which of it; `None`: all.
    pub selection: Option<Selection>,
    /// What the rows are compared with.
    pub proof: Proof,
    needs: Needs,
    /// Options of `CREATE DATABASE`.
    pub options: String,
}

impl Plan {
    /// What `wish` wants of `archive`, whose rows are those of `proof`. Reads the table of contents.
    ///
    /// # Errors
    /// 2 for a table or schema that the archive does not hold.
    pub fn of(wish: &Wish, archive: File, proof: &Proof) -> Result<Plan> {
        let items = items(archive)?;
        let selection = match wish.wanted.is_all() {
            true => None,
            false => Some(wish.wanted.select(&items)?),
        };
        let comes =
            |item: &&Item| selection.as_ref().is_none_or(|selection| selection.ids.contains(&item.id));
        let mut needs = Needs::of(items.iter().filter(comes), !wish.manner.without_owners);
        if wish.manner.without_tablespaces {
            needs.tablespaces.clear();
        }
        let proof = proof_of(proof, selection.as_ref());
        let options = properties::options(&items, false);
        Ok(Plan { items, selection, proof, needs, options })
    }

    /// The same, with the roles that the database as such needs, where one is made to stay.
    #[must_use]
    pub fn with_database(mut self, wish: &Wish, entry: Entry) -> Plan {
        if entry == Entry::Make && !wish.scratch && self.selection.is_none() && !wish.manner.without_owners {
            self.needs.roles.extend(Needs::of_database(&self.items).roles);
        }
        self
    }

    /// What is run about the database as such when it is given its name: nothing for a part of one.
    pub fn statements(&self, name: &str, with_roles: bool) -> Vec<String> {
        match self.selection {
            Some(_) => Vec::new(),
            None => properties::statements(&self.items, name, with_roles),
        }
    }

    /// The numbers of what comes, in the archive's order: `pg_restore` keeps to the list's.
    pub fn ids(&self) -> Option<Vec<i64>> {
        let selection = self.selection.as_ref()?;
        Some(self.items.iter().map(|item| item.id).filter(|id| selection.ids.contains(id)).collect())
    }

    /// Whether the server has all that is needed; roles only `with_roles`.
    ///
    /// # Errors
    /// 78 that names everything that is missing.
    pub async fn check(&self, target: &Target, with_roles: bool) -> Result<()> {
        let mut needs = self.needs.clone();
        if !with_roles {
            needs.roles.clear();
        }
        let missing = check::missing(target, &needs).await?;
        Ok(check::refuse(target, &missing)?)
    }

    /// Whether a table that comes is there already: its rows would be doubled.
    ///
    /// # Errors
    /// 78 that names the tables.
    pub async fn refuse_what_is_there(&self, target: &Target) -> Result<()> {
        let there = relations(target).await?;
        let names = self.proof.tables.iter().map(|table| format!("{}.{}", table.schema, table.table));
        let both: Vec<String> = names.filter(|name| there.contains(name)).collect();
        if both.is_empty() {
            return Ok(());
        }
        let what = format!("cannot restore into {}: there already: {}", target.place(), list(&both));
        let hint = "Rename or drop them first, or restore into another database; `--table` chooses tables.";
        Err(Failure::config(what).hint(hint).into())
    }
}

/// The part of `proof` that a selection of tables has to meet.
fn proof_of(proof: &Proof, selection: Option<&Selection>) -> Proof {
    let Some(selection) = selection else { return proof.clone() };
    let comes = |schema: &str, table: &str| selection.tables.contains(&TableName::new(schema, table));
    let mut part = proof.clone();
    part.tables.retain(|table| comes(&table.schema, &table.table));
    let names: Vec<String> =
        selection.tables.iter().map(|name| format!("{}.{}", name.schema, name.name)).collect();
    part.sequences.retain(|name, _| names.contains(name));
    part.large_objects = Default::default();
    part
}

/// Every relation of the database, as `schema.name`.
async fn relations(target: &Target) -> Result<BTreeSet<String>> {
    let inside = target.session_in(&target.name).await?;
    let sql = "SELECT pg_catalog.format('%s.%s', n.nspname, c.relname) FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";
    let rows = inside.client.query(sql, &[]).await;
    let rows = rows.map_err(|error| inside.failure(error, &format!("cannot look at {}", target.place())))?;
    inside.close().await;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
