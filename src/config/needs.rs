//! Which connections and variables a class of privileges asks for.
//!
//! In:    the resolved project and its pipelines.
//! Out:   ids, by class.
//! Holds: pure; what one class needs is not given to another: who moves rows cannot decrypt a backup,
//!        who backs up cannot read the stage.
//! Not here: where they are asked for (`secret`), what may be done with them (grants).

use super::model::{Database, Mask, Pipeline, Project, StorePlace};
use std::collections::BTreeSet;

/// The variable with the key of `mask: hmac`.
pub const HMAC_KEY: &str = "hmac_key";
/// The variable with the identity that opens backups, where no other is named.
const AGE_IDENTITY: &str = "age_identity";

/// A class of privileges, as DESIGN.md section 6 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Class {
    /// extract, validate, load, sync: no backup, no identity of one.
    Rows,
    /// backup and its inventory: cannot decrypt.
    Backup,
    /// restore and drill: holds the identities.
    Drill,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 3] = [Class::Rows, Class::Backup, Class::Drill];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Class::Rows => "rows",
            Class::Backup => "backup",
            Class::Drill => "drill",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Ids of connections.
    pub connections: BTreeSet<String>,
    /// Keys of variables.
    pub variables: BTreeSet<String>,
}

/// What `class` needs of this project.
pub fn needs(project: &Project, pipelines: &[Pipeline], class: Class) -> Needs {
    let mut needs = Needs::default();
    match class {
        Class::Rows => rows(&mut needs, project, pipelines),
        Class::Backup => project.backups.databases.iter().for_each(|one| {
            needs.connections.insert(one.connection.clone());
            needs.connections.extend(one.prune_connection.clone());
            store(&mut needs, one);
        }),
        Class::Drill => project.backups.databases.iter().for_each(|one| {
            store(&mut needs, one);
            needs.connections.extend(project.drill.clone());
            needs.variables.extend(one.identities.iter().cloned());
            if one.identities.is_empty() {
                needs.variables.insert(AGE_IDENTITY.to_owned());
            }
        }),
    }
    if class == Class::Backup {
        needs.connections.extend(project.backups.servers.iter().cloned());
    }
    // Whatever fails, it is told of.
    needs.connections.extend(project.notify.iter().map(|receiver| receiver.connection.clone()));
    needs
}

fn rows(needs: &mut Needs, project: &Project, pipelines: &[Pipeline]) {
    needs.connections.extend(project.warehouse.iter().map(|warehouse| warehouse.connection.clone()));
    needs.connections.extend(pipelines.iter().map(|pipeline| pipeline.source.clone()));
    needs.variables.extend(project.stage.iter().filter_map(|stage| stage.identity.clone()));
    if masks_by_hmac(project, pipelines) {
        needs.variables.insert(HMAC_KEY.to_owned());
    }
}

/// Whether anything of these pipelines is masked with the key of [`HMAC_KEY`], the guard's masks among it.
pub fn masks_by_hmac<'a>(project: &Project, pipelines: impl IntoIterator<Item = &'a Pipeline>) -> bool {
    let of_tables =
        pipelines.into_iter().flat_map(|pipeline| &pipeline.tables).flat_map(|table| table.mask.values());
    let mut masks = of_tables.chain(project.guard.mask.iter().map(|(_, mask)| mask));
    masks.any(|mask| *mask == Mask::Hmac)
}

fn store(needs: &mut Needs, database: &Database) {
    if let StorePlace::B2(bucket) | StorePlace::S3(bucket) = &database.place {
        needs.connections.insert(bucket.connection.clone());
    }
}
