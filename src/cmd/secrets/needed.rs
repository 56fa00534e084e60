//! Every id that a project and its pipelines name, and what for.
//!
//! In:    the resolved files. Out: ids in the order of use, each once.
//! Holds: pure; asks nobody.

use crate::config::model::{Pipeline, Project, StorePlace};
use crate::config::needs::{HMAC_KEY, masks_by_hmac};
use crate::secret::Asked;
use crate::table::TableName;

/// What an id is for, as far as it matters to what it may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reads these tables of a source.
    Source(Vec<TableName>),
    /// Loads the warehouse.
    Warehouse,
    /// Dumps a whole database, or lists those of a server.
    Backup,
    /// Restores on a server, to prove.
    Drill,
    /// Writes a bucket, or prunes it.
    Bucket(StorePlace),
    /// Is a key, used by this program alone.
    Key,
}

/// One id.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    /// The id of the connection or the key of the variable.
    pub id: String,
    /// Which of the two.
    pub is_connection: bool,
    /// What for, in words and otherwise.
    pub uses: Vec<(String, Purpose)>,
}

impl Needed {
    /// The question.
    pub fn asked(&self) -> Asked<'_> {
        if self.is_connection { Asked::Connection(&self.id) } else { Asked::Variable(&self.id) }
    }
}

/// Every id of `project` and `pipelines`.
pub(super) fn all(project: &Project, pipelines: &[(String, Pipeline)]) -> Vec<Needed> {
    let mut list = List(Vec::new());
    for (name, pipeline) in pipelines {
        let tables = pipeline.tables.iter().map(|table| table.name.clone()).collect();
        list.connection(&pipeline.source, format!("source of {name}"), Purpose::Source(tables));
    }
    if let Some(warehouse) = &project.warehouse {
        list.connection(&warehouse.connection, "warehouse".to_owned(), Purpose::Warehouse);
    }
    if masks_by_hmac(project, pipelines.iter().map(|(_, pipeline)| pipeline)) {
        list.variable(HMAC_KEY, "masks".to_owned());
    }
    let stage = project.stage.as_ref().filter(|stage| !stage.encrypt_to.is_empty());
    if let Some(identity) = stage.and_then(|stage| stage.identity.as_ref()) {
        list.variable(identity, "identity of the stage".to_owned());
    }
    backups(project, &mut list);
    list.0
}

fn backups(project: &Project, list: &mut List) {
    for database in &project.backups.databases {
        list.connection(&database.connection, format!("backup of {}", database.name), Purpose::Backup);
        if let StorePlace::B2(bucket) | StorePlace::S3(bucket) = &database.place {
            let purpose = Purpose::Bucket(database.place.clone());
            list.connection(&bucket.connection, format!("store {}", database.store), purpose.clone());
            if let Some(prune) = &database.prune_connection {
                list.connection(prune, format!("prune of store {}", database.store), purpose);
            }
        }
        for identity in &database.identities {
            list.variable(identity, format!("identity of backups of {}", database.name));
        }
    }
    for server in &project.backups.servers {
        list.connection(server, "coverage".to_owned(), Purpose::Backup);
    }
    if let Some(drill) = &project.drill {
        list.connection(drill, "drill".to_owned(), Purpose::Drill);
    }
}

struct List(Vec<Needed>);

impl List {
    fn connection(&mut self, id: &str, what: String, purpose: Purpose) {
        self.add(id, true, (what, purpose));
    }

    fn variable(&mut self, id: &str, what: String) {
        self.add(id, false, (what, Purpose::Key));
    }

    fn add(&mut self, id: &str, is_connection: bool, what: (String, Purpose)) {
        let known = self.0.iter_mut().find(|one| one.id == id && one.is_connection == is_connection);
        match known {
            Some(known) if known.uses.contains(&what) => {}
            Some(known) => known.uses.push(what),
            None => self.0.push(Needed { id: id.to_owned(), is_connection, uses: vec![what] }),
        }
    }
}
