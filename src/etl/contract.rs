//! What a changed source schema means: decided before a row is read, and said in words.
//!
//! In:    the [`Contract`] kept with the last published run; what the source looks like now.
//! Out:   a [`Decision`]: the changes in words, the SQL, whether all rows are read again.
//! Holds: pure. Nothing is decided from the warehouse table but whether a column is there.
//! Not here: running the SQL and the locks it takes (`etl::publish`).

use crate::config::model::SchemaPolicy;
use crate::etl::layout::Layout;
use crate::etl::types::{self, widens_by_rewrite, widens_in_place};
use crate::table::{TypeKind, quote};
use serde::{Deserialize, Serialize};

/// One column as it was agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Its name.
    pub name: String,
    /// `attnum` at the source.
    pub position: i16,
    /// Type at the source, as PostgreSQL spells it; an enum's is its name.
    pub source: String,
    /// Type in the warehouse.
    pub target: String,
    /// NOT NULL at the source.
    pub not_null: bool,
    /// An enum's labels in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// What the warehouse and the source agreed on when a table was last published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// The columns that travel.
    pub columns: Vec<Agreed>,
    /// The key.
    pub key: Vec<String>,
    /// Columns of the warehouse table that the source no longer has: NULL in every row written.
    #[serde(default)]
    pub extinct: Vec<String>,
}

/// One difference between a contract and the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A column is new; `from` names a column that it may be a new name of.
    Added { column: String, target: String, was: Option<String> },
    /// A column is gone.
    Dropped { column: String },
    /// A column has another type.
    Retyped { column: String, from: String, to: String, old_target: String, target: String },
    /// NULL is allowed now, or no longer.
    Nullability { column: String, not_null: bool },
    /// An enum has other labels, or in another order.
    Labels { column: String },
    /// The key has other columns.
    Key { from: Vec<String>, to: Vec<String> },
}

/// How a change is brought to the warehouse table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Nothing to do there.
    None,
    /// A short ACCESS EXCLUSIVE lock on the catalog alone.
    Short,
    /// The table is rewritten (or its key's index built) under ACCESS EXCLUSIVE.
    Rewrite,
}

/// What is to be done about the changes of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The changes.
    pub changes: Vec<Change>,
    /// Why the policy refuses them, if it does.
    pub refused: Option<String>,
    /// Every row has to be read again.
    pub reload: bool,
}

impl Contract {
    /// The contract that publishing `layout` keeps; `extinct` columns live on in the warehouse.
    pub fn of(layout: &Layout, extinct: Vec<String>) -> Self {
        let columns = layout.columns.iter().map(|column| Agreed {
            name: column.name.clone(),
            position: column.source.position,
            source: column.source.column_type.sql.clone(),
            target: column.carried.target.clone(),
            not_null: column.source.not_null,
            labels: match &column.source.column_type.kind {
                TypeKind::Enum(labels) => labels.clone(),
                _ => Vec::new(),
            },
        });
        Contract { columns: columns.collect(), key: layout.key.clone(), extinct }
    }

    /// `layout` with the warehouse types that were agreed on, where the source's have not changed.
    pub fn keep_types(&self, layout: &mut Layout) {
        for column in layout.columns.iter_mut().filter(|column| column.mask.is_none()) {
            let from = &column.source.column_type;
            let agreed = |old: &&Agreed| old.name == column.name && old.source == from.sql;
            if let Some(old) = self.columns.iter().find(agreed) {
                column.carried = types::keep(from, column.carried.clone(), &old.target);
            }
        }
    }

    /// What becomes of `extinct` when this contract follows `last`.
    pub fn after(mut self, last: Option<&Contract>, drop: bool) -> Self {
        let Some(last) = last else { return self };
        let here = |name: &String| self.columns.iter().any(|column| column.name == *name);
        let gone = last.columns.iter().map(|column| &column.name).filter(|_| !drop);
        let mut extinct: Vec<String> =
            last.extinct.iter().chain(gone).filter(|name| !here(name)).cloned().collect();
        extinct.dedup();
        self.extinct = extinct;
        self
    }
}

/// The differences between `last` and `now`, in the order of the columns.
pub fn differences(last: &Contract, now: &Contract) -> Vec<Change> {
    let find =
        |contract: &'_ Contract, name: &str| contract.columns.iter().position(|column| column.name == name);
    let mut changes = Vec::new();
    for column in &now.columns {
        match find(last, &column.name).map(|at| &last.columns[at]) {
            Some(old) => changes.extend(column_changes(old, column)),
            None => changes.push(Change::Added {
                column: column.name.clone(),
                target: column.target.clone(),
                was: renamed_from(column, last, now),
            }),
        }
    }
    for old in last.columns.iter().filter(|old| find(now, &old.name).is_none()) {
        changes.push(Change::Dropped { column: old.name.clone() });
    }
    if last.key != now.key {
        changes.push(Change::Key { from: last.key.clone(), to: now.key.clone() });
    }
    changes
}

fn column_changes(old: &Agreed, new: &Agreed) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.target != new.target || old.source != new.source {
        changes.push(Change::Retyped {
            column: new.name.clone(),
            from: old.source.clone(),
            to: new.source.clone(),
            old_target: old.target.clone(),
            target: new.target.clone(),
        });
    }
    if old.labels != new.labels && !old.labels.is_empty() {
        changes.push(Change::Labels { column: new.name.clone() });
    }
    if old.not_null != new.not_null {
        changes.push(Change::Nullability { column: new.name.clone(), not_null: new.not_null });
    }
    changes
}

/// The old name of a column that kept its place and type, and whose old name is gone.
fn renamed_from(column: &Agreed, last: &Contract, now: &Contract) -> Option<String> {
    let same = |old: &&Agreed| old.position == column.position && old.source == column.source;
    let gone = |old: &&Agreed| !now.columns.iter().any(|column| column.name == old.name);
    last.columns.iter().find(|old| same(old) && gone(old)).map(|old| old.name.clone())
}

/// What `policy` makes of the differences.
///
/// `accepted` is what `--table T --full-refresh` says: every change is taken and all rows are read.
pub fn decide(changes: Vec<Change>, policy: SchemaPolicy, accepted: bool) -> Decision {
    let matters = |change: &&Change| !matches!(change, Change::Nullability { .. } | Change::Labels { .. });
    let first = changes.iter().find(matters).map(Change::words);
    let refused = match (policy, &first) {
        (_, None) => None,
        _ if accepted => None,
        (SchemaPolicy::Fail, Some(words)) => Some(words.clone()),
        (SchemaPolicy::Evolve, Some(_)) => changes.iter().find(|c| c.breaks()).map(Change::words),
        (SchemaPolicy::FullRefresh, Some(_)) => None,
    };
    let reload = accepted || (policy == SchemaPolicy::FullRefresh && first.is_some());
    Decision { reload: reload && refused.is_none(), refused, changes }
}

impl Change {
    /// The change as a person would say it.
    pub fn words(&self) -> String {
        match self {
            Change::Added { column, target, was: Some(was) } => {
                format!("column {column:?} ({target}) is new; it may be {was:?} under another name")
            }
            Change::Added { column, target, was: None } => format!("column {column:?} ({target}) is new"),
            Change::Dropped { column } => format!("column {column:?} is gone"),
            Change::Retyped { column, from, to, old_target, target } if from == to => {
                format!("column {column:?} was carried as {old_target}, is carried as {target}")
            }
            Change::Retyped { column, from, to, .. } => format!("column {column:?} was {from}, is {to}"),
            Change::Nullability { column, not_null: true } => format!("column {column:?} is NOT NULL now"),
            Change::Nullability { column, not_null: false } => format!("column {column:?} may be NULL now"),
            Change::Labels { column } => format!("the labels of column {column:?} have changed"),
            Change::Key { from, to } => format!("the key was ({}), is ({})", from.join(", "), to.join(", ")),
        }
    }

    /// The same, but a new column that the warehouse has kept under another type, which `misfit`
    /// tells, is a retyped one.
    pub fn returned(self, misfit: impl Fn(&str, &str) -> Option<String>) -> Change {
        match self {
            Change::Added { column, target, was } => match misfit(&column, &target) {
                Some(kept) => Change::Retyped {
                    column,
                    from: kept.clone(),
                    to: target.clone(),
                    old_target: kept,
                    target,
                },
                None => Change::Added { column, target, was },
            },
            other => other,
        }
    }

    /// The column that is new, if one is.
    pub fn added(&self) -> Option<&str> {
        match self {
            Change::Added { column, .. } => Some(column),
            _ => None,
        }
    }

    /// How heavy it is for the warehouse table.
    pub fn weight(&self) -> Weight {
        match self {
            Change::Added { .. } => Weight::Short,
            Change::Retyped { old_target, target, .. } if old_target == target => Weight::None,
            Change::Retyped { old_target, target, .. } if widens_in_place(old_target, target) => {
                Weight::Short
            }
            Change::Retyped { .. } | Change::Key { .. } => Weight::Rewrite,
            Change::Dropped { .. } | Change::Nullability { .. } | Change::Labels { .. } => Weight::None,
        }
    }

    /// Whether rows that are not read again would be wrong under it.
    fn breaks(&self) -> bool {
        match self {
            Change::Key { .. } => true,
            Change::Retyped { old_target, target, .. } => {
                old_target != target
                    && !widens_in_place(old_target, target)
                    && !widens_by_rewrite(old_target, target)
            }
            _ => false,
        }
    }

    /// The clause of `ALTER TABLE` that brings it about, if any; `drop` drops what is gone.
    pub fn clause(&self, key: &[String], drop: bool) -> Option<String> {
        match self {
            Change::Added { column, target, .. } => Some(format!("ADD COLUMN {} {target}", quote(column))),
            Change::Dropped { column } if drop => Some(format!("DROP COLUMN {}", quote(column))),
            Change::Retyped { column, old_target, target, .. } if old_target != target => {
                let name = quote(column);
                let using = if widens_in_place(old_target, target) || widens_by_rewrite(old_target, target) {
                    String::new()
                } else if key.contains(column) {
                    format!(" USING {name}::text::{target}")
                } else {
                    // The values come anew with the rows; what is there may not fit the new type.
                    format!(" USING NULL::{target}")
                };
                Some(format!("ALTER COLUMN {name} TYPE {target}{using}"))
            }
            _ => None,
        }
    }
}

impl Decision {
    /// The heaviest change; a dropped column counts only where it is dropped in the warehouse too.
    pub fn weight(&self, drop: bool) -> Weight {
        let dropped = drop && self.changes.iter().any(|change| matches!(change, Change::Dropped { .. }));
        let heaviest = self.changes.iter().map(Change::weight).max().unwrap_or(Weight::None);
        if dropped { heaviest.max(Weight::Short) } else { heaviest }
    }

    /// All changes in words, or nothing.
    pub fn words(&self) -> Option<String> {
        let words: Vec<String> = self.changes.iter().map(Change::words).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, position: i16, sql: &str) -> Agreed {
        Agreed {
            name: name.into(),
            position,
            source: sql.into(),
            target: sql.into(),
            not_null: false,
            labels: vec![],
        }
    }

    fn contract(columns: &[(&str, i16, &str)]) -> Contract {
        Contract {
            columns: columns.iter().map(|(name, at, sql)| column(name, *at, sql)).collect(),
            key: vec!["id".into()],
            extinct: vec![],
        }
    }

    #[test]
    fn an_unchanged_source_changes_nothing() {
        let same = contract(&[("id", 1, "integer")]);
        assert_eq!(differences(&same, &same), []);
        assert_eq!(decide(vec![], SchemaPolicy::Fail, false), Decision::default());
    }

    #[test]
    fn a_column_in_the_place_of_a_lost_one_is_told_as_its_new_name() {
        let last = contract(&[("id", 1, "integer"), ("grade", 2, "text")]);
        let now = contract(&[("id", 1, "integer"), ("level", 2, "text")]);
        let changes = differences(&last, &now);
        assert_eq!(
            changes[0].words(),
            "column \"level\" (text) is new; it may be \"grade\" under another name"
        );
        assert_eq!(changes[1].words(), "column \"grade\" is gone");
    }

    #[test]
    fn each_policy_decides_as_it_says() {
        let last = contract(&[("id", 1, "integer"), ("grade", 2, "integer")]);
        let retyped = differences(&last, &contract(&[("id", 1, "integer"), ("grade", 2, "text")]));
        let widened = differences(&last, &contract(&[("id", 1, "integer"), ("grade", 2, "bigint")]));
        let added =
            differences(&last, &contract(&[("id", 1, "integer"), ("grade", 2, "integer"), ("x", 3, "text")]));
        assert!(decide(retyped.clone(), SchemaPolicy::Fail, false).refused.is_some());
        assert!(decide(retyped.clone(), SchemaPolicy::Evolve, false).refused.is_some());
        assert!(decide(retyped.clone(), SchemaPolicy::FullRefresh, false).reload);
        assert!(decide(retyped.clone(), SchemaPolicy::Fail, true).reload);
        let evolved = decide(added, SchemaPolicy::Evolve, false);
        assert!(evolved.refused.is_none() && !evolved.reload && evolved.weight(false) == Weight::Short);
        assert_eq!(decide(widened, SchemaPolicy::Evolve, false).weight(false), Weight::Rewrite);
    }

    #[test]
    fn a_dropped_column_stays_extinct_until_it_comes_back() {
        let last = contract(&[("id", 1, "integer"), ("grade", 2, "text")]);
        let without = contract(&[("id", 1, "integer")]).after(Some(&last), false);
        assert_eq!(without.extinct, ["grade"]);
        let still = contract(&[("id", 1, "integer")]).after(Some(&without), false);
        assert_eq!(still.extinct, ["grade"]);
        assert!(
            contract(&[("id", 1, "integer"), ("grade", 5, "text")])
                .after(Some(&still), false)
                .extinct
                .is_empty()
        );
        assert!(contract(&[("id", 1, "integer")]).after(Some(&last), true).extinct.is_empty());
    }

    #[test]
    fn not_null_at_the_source_is_noted_and_breaks_nothing() {
        let last = contract(&[("id", 1, "integer")]);
        let mut now = last.clone();
        now.columns[0].not_null = true;
        let decision = decide(differences(&last, &now), SchemaPolicy::Fail, false);
        assert_eq!((decision.refused, decision.reload), (None, false));
        assert_eq!(decision.changes[0].words(), "column \"id\" is NOT NULL now");
    }
}
