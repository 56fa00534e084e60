//! Every connection and variable that a project and its pipelines name: what for, and who asks for it.
//!
//! In:    the resolved project and its pipelines.
//! Out:   ids in the order of use, each once; all, or those of one class of privileges.
//! Holds: pure, and the only list; what one class needs is not given to another: who moves rows cannot
//!        decrypt a backup, who backs up cannot read the stage.
//! Not here: where they are asked for (`secret`), what may be done with them (grants).

use super::model::{Mask, Pipeline, Project, StorePlace};
use crate::secret::Asked;
use crate::table::TableName;
use serde::Serialize;

/// The variable with the key of `mask: hmac`.
pub const HMAC_KEY: &str = "hmac_key";

/// A class of privileges, as DESIGN.md section 6 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// What an id is for, as far as it matters to what it may open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reads these tables of a source.
    Source(Vec<TableName>),
    /// Loads the warehouse.
    Warehouse,
    /// Dumps a whole database, or lists those of a server.
    Backup,
    /// Restores on a server, to prove.
    Drill,
    /// Writes a bucket, and reads it.
    Bucket(StorePlace),
    /// Deletes what a bucket need not keep.
    Prune(StorePlace),
    /// Is told how runs end.
    Receiver,
    /// Is a key, used by this class of this program alone.
    Key(Class),
}

impl Purpose {
    /// Who asks for it.
    pub fn classes(&self) -> &[Class] {
        match self {
            Purpose::Source(_) | Purpose::Warehouse => &[Class::Rows],
            Purpose::Backup | Purpose::Prune(_) => &[Class::Backup],
            Purpose::Drill => &[Class::Drill],
            Purpose::Bucket(_) => &[Class::Backup, Class::Drill],
            Purpose::Receiver => &Class::ALL, // whatever fails, it is told of
            Purpose::Key(class) => std::slice::from_ref(class),
        }
    }
}

/// One id.
#[derive(Clone, Debug)]
pub struct Needed {
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

    /// Whether it has a use that is one of those.
    pub fn is_for(&self, wanted: impl Fn(&Purpose) -> bool) -> bool {
        self.uses.iter().any(|(_, purpose)| wanted(purpose))
    }
}

/// Every id of `project` and `pipelines`.
pub fn all<'a>(project: &Project, pipelines: impl IntoIterator<Item = &'a Pipeline> + Clone) -> Vec<Needed> {
    let mut list = List(Vec::new());
    for pipeline in pipelines.clone() {
        let tables = pipeline.tables.iter().map(|table| table.name.clone()).collect();
        list.connection(&pipeline.source, format!("source of {}", pipeline.name), Purpose::Source(tables));
    }
    if let Some(warehouse) = &project.warehouse {
        list.connection(&warehouse.connection, "warehouse".to_owned(), Purpose::Warehouse);
    }
    if masks_by_hmac(project, pipelines) {
        list.variable(HMAC_KEY, "masks".to_owned(), Class::Rows);
    }
    let stage = project.stage.as_ref().filter(|stage| !stage.encrypt_to.is_empty());
    if let Some(identity) = stage.and_then(|stage| stage.identity.as_ref()) {
        list.variable(identity, "identity of the stage".to_owned(), Class::Rows);
    }
    backups(project, &mut list);
    for receiver in &project.notify {
        let what = if receiver.mail_to.is_empty() { "webhook" } else { "mail" };
        list.connection(&receiver.connection, format!("notify by {what}"), Purpose::Receiver);
    }
    list.0
}

/// Those that `class` asks for, with their uses in it.
pub fn of_class<'a>(
    project: &Project,
    pipelines: impl IntoIterator<Item = &'a Pipeline> + Clone,
    class: Class,
) -> Vec<Needed> {
    let mut needed = all(project, pipelines);
    needed.iter_mut().for_each(|one| one.uses.retain(|(_, purpose)| purpose.classes().contains(&class)));
    needed.retain(|one| !one.uses.is_empty());
    needed
}

/// Whether anything of these pipelines is masked with the key of [`HMAC_KEY`], the guard's masks among it.
pub fn masks_by_hmac<'a>(project: &Project, pipelines: impl IntoIterator<Item = &'a Pipeline>) -> bool {
    let of_tables =
        pipelines.into_iter().flat_map(|pipeline| &pipeline.tables).flat_map(|table| table.mask.values());
    let mut masks = of_tables.chain(project.guard.mask.iter().map(|(_, mask)| mask));
    masks.any(|mask| *mask == Mask::Hmac)
}

fn backups(project: &Project, list: &mut List) {
    for database in &project.backups.databases {
        let (name, store) = (&database.name, &database.store);
        list.connection(&database.connection, format!("backup of {name}"), Purpose::Backup);
        if let Some(id) = database.place.connection() {
            list.connection(id, format!("store {store}"), Purpose::Bucket(database.place.clone()));
            if let Some(prune) = &database.prune_connection {
                let purpose = Purpose::Prune(database.place.clone());
                list.connection(prune, format!("prune of store {store}"), purpose);
            }
        }
        for identity in &database.identities {
            list.variable(identity, format!("identity of backups of {name}"), Class::Drill);
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

    fn variable(&mut self, id: &str, what: String, class: Class) {
        self.add(id, false, (what, Purpose::Key(class)));
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
