//! The SQL that turns staged rows into the warehouse's: pure text, one function a statement.
//!
//! In:    a table's layout, its target, its staging table, the run.
//! Out:   statements for the publishing transaction.
//! Holds: every name is quoted; a row is written only if its image differs (`*<>`, not `=`, where the
//!        two may disagree: 1.0 and 1.00 differ), so a second run over unchanged data writes nothing;
//!        rows are never locked to find that out, as ON CONFLICT would do.
//! Not here: running it (`etl::publish`).

use crate::etl::layout::{Layout, LayoutColumn};
use crate::table::{TableName, quote, quote_list, split_identifiers};

/// What one table's statements are made from.
#[derive(Clone, Copy, Debug)]
pub struct Merge<'a> {
    /// The columns and the key.
    pub layout: &'a Layout,
    /// The warehouse table.
    pub target: &'a TableName,
    /// The staged rows: columns `c1` to `cn` of the wire's types.
    pub staging: &'a TableName,
    /// Columns of the target that the source no longer has.
    pub extinct: &'a [String],
    /// Number of the run.
    pub run: i64,
}

/// What becomes of a row that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is marked.
    Mark,
    /// It goes.
    Remove,
}

/// Our columns, with their types and constraints.
pub const METADATA: [(&str, &str); 3] = [
    ("_sankofa_run", "bigint NOT NULL"),
    ("_sankofa_loaded_at", "timestamp with time zone NOT NULL"),
    ("_sankofa_deleted_at", "timestamp with time zone"),
];

/// How a staging table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StagedIn {
    /// As any table: its rows go through the log, but it has half the files.
    Logged,
    /// Without the log.
    Unlogged,
}

/// `CREATE TABLE` for staged rows.
pub fn create_staging(staging: &TableName, layout: &Layout, kept: StagedIn) -> String {
    let columns =
        layout.columns.iter().enumerate().map(|(at, column)| format!("c{} {}", at + 1, column.carried.wire));
    format!(
        "CREATE {}TABLE {} ({}) WITH (autovacuum_enabled = off)",
        if kept == StagedIn::Unlogged { "UNLOGGED " } else { "" },
        staging.sql(),
        columns.collect::<Vec<_>>().join(", ")
    )
}

/// `CREATE TABLE` for a new target, before it has our columns and its key.
pub fn create_target(hidden: &TableName, layout: &Layout) -> String {
    let columns = layout.columns.iter().map(|column| {
        // A key that nobody has proven gets it with the primary key, where a NULL is told as one.
        let proven = layout.key_proven && layout.key.contains(&column.name);
        let not_null = if proven { " NOT NULL" } else { "" };
        format!("{} {}{not_null}", quote(&column.name), column.carried.target)
    });
    format!("CREATE TABLE {} ({})", hidden.sql(), columns.collect::<Vec<_>>().join(", "))
}

/// Gives a filled new target our columns and its key. Defaults of new columns that are not volatile
/// are kept in the catalog, not in the rows (PostgreSQL 11+), so this rewrites nothing.
pub fn complete_target(hidden: &TableName, key: &[String], run: i64) -> String {
    let table = hidden.sql();
    let [run_column, at_column, deleted_column] = METADATA.map(|(name, _)| name);
    let key = if key.is_empty() { String::new() } else { format!(", ADD PRIMARY KEY ({})", quote_list(key)) };
    format!(
        "ALTER TABLE {table} ADD COLUMN {run_column} bigint NOT NULL DEFAULT {run},
            ADD COLUMN {at_column} timestamp with time zone NOT NULL DEFAULT pg_catalog.now(),
            ADD COLUMN {deleted_column} timestamp with time zone{key};
         ALTER TABLE {table} ALTER COLUMN {run_column} DROP DEFAULT, ALTER COLUMN {at_column} DROP DEFAULT;"
    )
}

/// Fills a new target from staging, where COPY could not go straight into it.
pub fn fill_target(hidden: &TableName, staging: &TableName, layout: &Layout) -> String {
    format!("INSERT INTO {} SELECT {} FROM {} s", hidden.sql(), values(layout, "s"), staging.sql())
}

/// Counts keys that stand more than once in the staged rows, and rows whose key is NULL.
pub fn count_bad_keys(staging: &TableName, layout: &Layout) -> String {
    let key = staged_key(layout).join(", ");
    let nulls: Vec<String> = staged_key(layout).iter().map(|column| format!("{column} IS NULL")).collect();
    format!(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM {0} s GROUP BY {key} HAVING count(*) > 1) AS d),
                (SELECT count(*) FROM {0} s WHERE {1})",
        staging.sql(),
        nulls.join(" OR ")
    )
}

/// Casts every staged value that has to be cast, one column or all; fails where one cannot be.
pub fn try_casts(staging: &TableName, layout: &Layout, only: Option<&str>) -> Option<String> {
    let casts = |c: &LayoutColumn| c.carried.wire != c.carried.target && only.is_none_or(|n| c.name == n);
    let columns = layout.columns.iter().enumerate().filter(|(_, column)| casts(column));
    let list: Vec<String> = columns.map(|(at, c)| format!("count({})", value(c, at, "s"))).collect();
    (!list.is_empty()).then(|| format!("SELECT {} FROM {} s", list.join(", "), staging.sql()))
}

impl Merge<'_> {
    /// Writes the staged rows that changed over those of the same key: (written, of them revived).
    ///
    /// The rows are found once through the key's index and written by their place.
    pub fn update(&self) -> String {
        format!(
            "WITH written AS ({})
             SELECT count(*), count(*) FILTER (WHERE dead) FROM written",
            self.updating()
        )
    }

    fn updating(&self) -> String {
        format!(
            "UPDATE {target} AS t SET {set}
             FROM (SELECT s.*, o.ctid AS place, o._sankofa_deleted_at IS NOT NULL AS dead
                   FROM {staging} s JOIN {target} o ON {keys} WHERE {differs}) AS s
             WHERE t.ctid = s.place RETURNING s.dead",
            target = self.target.sql(),
            staging = self.staging.sql(),
            set = self.assignments("s"),
            keys = same_key(self.layout, "o", "s"),
            differs = self.differs("o", "s"),
        )
    }

    /// Adds the staged rows whose key is not there. Run after [`Merge::update`].
    pub fn insert(&self) -> String {
        format!(
            "INSERT INTO {target} ({columns}) SELECT {values} FROM {staging} s
             WHERE NOT EXISTS (SELECT FROM {target} t WHERE {keys})",
            target = self.target.sql(),
            staging = self.staging.sql(),
            columns = self.columns(),
            values = self.row("s"),
            keys = same_key(self.layout, "t", "s"),
        )
    }

    /// Makes a small table equal to the staged rows in one statement, whose parts see the same rows
    /// and write different ones: (written, of them revived, added, gone).
    pub fn replace(&self, gone: Option<Gone>) -> String {
        let going = match gone {
            Some(gone) => format!("{} RETURNING 1", self.deleting(self.staging, self.layout, gone)),
            None => "SELECT WHERE false".to_owned(),
        };
        format!(
            "WITH written AS ({}), added AS ({} RETURNING 1), gone AS ({going})
             SELECT (SELECT count(*) FROM written), (SELECT count(*) FROM written WHERE dead),
                    (SELECT count(*) FROM added), (SELECT count(*) FROM gone)",
            self.updating(),
            self.insert(),
        )
    }

    /// Finds the difference between the staged rows and the target in one pass over both.
    ///
    /// A row of `delta` with no `place` is new, one with no `staged` is gone.
    pub fn difference(&self, delta: &TableName) -> String {
        format!(
            "CREATE UNLOGGED TABLE {delta} WITH (autovacuum_enabled = off) AS
             SELECT s.*, s.ctid IS NOT NULL AS staged, t.ctid AS place, t._sankofa_deleted_at IS NOT NULL AS dead
             FROM {staging} s FULL JOIN {target} t ON {keys}
             WHERE t.ctid IS NULL OR (s.ctid IS NULL AND t._sankofa_deleted_at IS NULL)
                OR (s.ctid IS NOT NULL AND ({differs}))",
            delta = delta.sql(),
            staging = self.staging.sql(),
            target = self.target.sql(),
            keys = same_key(self.layout, "t", "s"),
            differs = self.differs("t", "s"),
        )
    }

    /// Writes the changed rows of a difference: (written, of them revived).
    pub fn update_from(&self, delta: &TableName) -> String {
        format!(
            "WITH written AS (
                UPDATE {target} AS t SET {set} FROM {delta} s
                WHERE t.ctid = s.place AND s.staged RETURNING s.dead)
             SELECT count(*), count(*) FILTER (WHERE dead) FROM written",
            target = self.target.sql(),
            set = self.assignments("s"),
            delta = delta.sql(),
        )
    }

    /// Adds the new rows of a difference.
    pub fn insert_from(&self, delta: &TableName) -> String {
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s WHERE s.place IS NULL",
            self.target.sql(),
            self.columns(),
            self.row("s"),
            delta.sql()
        )
    }

    /// Marks or removes the rows that are gone, by a difference.
    pub fn delete_from(&self, delta: &TableName, gone: Gone) -> String {
        format!("{} {} s WHERE t.ctid = s.place AND NOT s.staged", self.going(gone), delta.sql())
    }

    /// Marks or removes the live rows whose key is not among the staged keys.
    pub fn delete_absent(&self, keys: &TableName, gone: Gone) -> String {
        self.deleting(keys, &self.layout.key_only(), gone)
    }

    fn deleting(&self, present: &TableName, layout: &Layout, gone: Gone) -> String {
        let absent = format!(
            "SELECT o.ctid AS place FROM {} o WHERE o._sankofa_deleted_at IS NULL
             AND NOT EXISTS (SELECT FROM {} s WHERE {})",
            self.target.sql(),
            present.sql(),
            same_key(layout, "o", "s")
        );
        format!("{} ({absent}) AS s WHERE t.ctid = s.place", self.going(gone))
    }

    /// Revives the marked rows whose key is among the staged keys.
    pub fn revive_present(&self, keys: &TableName) -> String {
        format!(
            "UPDATE {} AS t SET _sankofa_deleted_at = NULL, _sankofa_loaded_at = now(), _sankofa_run = {}
             FROM {} s WHERE t._sankofa_deleted_at IS NOT NULL AND {}",
            self.target.sql(),
            self.run,
            keys.sql(),
            same_key(&self.layout.key_only(), "t", "s")
        )
    }

    /// The live rows of the target that stay as they are, in the layout's columns and types; of `added`
    /// columns the target has none yet, and of `keys`, where given, are those that are still there.
    pub fn kept(&self, added: &[&str], keys: Option<&TableName>) -> String {
        let column = |column: &LayoutColumn| match added.contains(&column.name.as_str()) {
            true => format!("NULL::{}", column.carried.target),
            false => format!("t.{}::{}", quote(&column.name), column.carried.target),
        };
        let columns: Vec<String> = self.layout.columns.iter().map(column).collect();
        let key_only = self.layout.key_only();
        let present = keys.map(|keys| {
            format!(" AND EXISTS (SELECT FROM {} s WHERE {})", keys.sql(), same_key(&key_only, "t", "s"))
        });
        format!(
            "SELECT {} FROM {} t WHERE t._sankofa_deleted_at IS NULL
             AND NOT EXISTS (SELECT FROM {} s WHERE {}){}",
            columns.join(", "),
            self.target.sql(),
            self.staging.sql(),
            same_key(self.layout, "t", "s"),
            present.unwrap_or_default()
        )
    }

    /// Makes a table without a key equal to the staged rows, as multisets of row texts: first the
    /// rows of which there are too many go.
    pub fn delete_surplus(&self, gone: Gone) -> String {
        format!(
            "{going} (
                SELECT t.place FROM ({there}) AS t LEFT JOIN ({staged}) AS s USING (hash, nth)
                WHERE s.hash IS NULL) AS s
             WHERE t.ctid = s.place",
            going = self.going(gone),
            there = self.numbered_target(),
            staged = self.numbered_staging(),
        )
    }

    /// ... then those of which there are too few come.
    pub fn insert_missing(&self) -> String {
        format!(
            "INSERT INTO {target} ({columns}) SELECT {values} FROM {staging} s JOIN (
                SELECT s.place FROM ({staged}) AS s LEFT JOIN ({there}) AS t USING (hash, nth)
                WHERE t.hash IS NULL) AS missing ON s.ctid = missing.place",
            target = self.target.sql(),
            columns = self.columns(),
            values = self.row("s"),
            staging = self.staging.sql(),
            there = self.numbered_target(),
            staged = self.numbered_staging(),
        )
    }

    fn going(&self, gone: Gone) -> String {
        let target = self.target.sql();
        match gone {
            Gone::Mark => {
                format!(
                    "UPDATE {target} AS t SET _sankofa_deleted_at = now(), _sankofa_run = {} FROM",
                    self.run
                )
            }
            Gone::Remove => format!("DELETE FROM {target} AS t USING"),
        }
    }

    fn numbered_target(&self) -> String {
        let names: Vec<String> =
            self.layout.columns.iter().map(|column| format!("o.{}", quote(&column.name))).collect();
        numbered(&names, &format!("{} o WHERE o._sankofa_deleted_at IS NULL", self.target.sql()), "o")
    }

    fn numbered_staging(&self) -> String {
        let names: Vec<String> =
            self.layout.columns.iter().enumerate().map(|(at, c)| value(c, at, "o")).collect();
        numbered(&names, &format!("{} o", self.staging.sql()), "o")
    }

    fn columns(&self) -> String {
        let names = self.layout.columns.iter().map(|column| column.name.as_str());
        quote_list(&names.chain(METADATA.map(|(name, _)| name)).collect::<Vec<_>>())
    }

    fn row(&self, staged: &str) -> String {
        let ours = format!("{}, now(), NULL", self.run);
        if self.layout.columns.is_empty() { ours } else { format!("{}, {ours}", values(self.layout, staged)) }
    }

    fn assignments(&self, staged: &str) -> String {
        let mut set: Vec<String> = self
            .layout
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| format!("{} = {}", quote(&column.name), value(column, at, staged)))
            .collect();
        set.extend(self.extinct.iter().map(|name| format!("{} = NULL", quote(name))));
        set.push(format!("_sankofa_run = {}", self.run));
        set.push("_sankofa_loaded_at = now(), _sankofa_deleted_at = NULL".to_owned());
        set.join(", ")
    }

    /// Whether a row differs from its staged image, or is marked as deleted.
    fn differs(&self, there: &str, staged: &str) -> String {
        let mut any = Vec::new();
        let (mut names, mut images) = (Vec::new(), Vec::new());
        for (at, column) in self.layout.columns.iter().enumerate() {
            let (name, image) = (format!("{there}.{}", quote(&column.name)), value(column, at, staged));
            match equality(&column.carried.target) {
                Some(how) => any.push(format!("{name}{how} IS DISTINCT FROM {image}{how}")),
                None => {
                    names.push(name);
                    images.push(image);
                }
            }
        }
        if !names.is_empty() {
            any.push(format!(
                "ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record",
                names.join(", "),
                images.join(", ")
            ));
        }
        any.push(format!("{there}._sankofa_deleted_at IS NOT NULL"));
        any.extend(self.extinct.iter().map(|name| format!("{there}.{} IS NOT NULL", quote(name))));
        any.join(" OR ")
    }
}

/// For types whose equal values have one image: the cast and collation under which that is so.
/// `IS DISTINCT FROM` is faster than building two records to compare their images.
fn equality(sql: &str) -> Option<&'static str> {
    let name = sql.split('(').next().unwrap_or(sql);
    match name {
        "smallint" | "integer" | "bigint" | "oid" | "boolean" | "date" | "uuid" | "bytea" => Some(""),
        "timestamp without time zone" | "timestamp" | "timestamp with time zone" => Some(""),
        "text" | "character varying" => Some("::text COLLATE pg_catalog.\"C\""),
        _ => None,
    }
}

/// Each row's place, the hash of its text, and which one of equal rows it is.
fn numbered(columns: &[String], from: &str, alias: &str) -> String {
    format!(
        "SELECT place, hash, row_number() OVER (PARTITION BY hash) AS nth FROM (
            SELECT {alias}.ctid AS place,
                   pg_catalog.sha256(pg_catalog.convert_to(ROW({})::text, 'UTF8')) AS hash FROM {from}) AS h",
        columns.join(", ")
    )
}

fn same_key(layout: &Layout, there: &str, staged: &str) -> String {
    let pairs = layout.key.iter().filter_map(|name| {
        let at = layout.columns.iter().position(|column| column.name == *name)?;
        let column = &layout.columns[at];
        Some(format!("{there}.{} {} {}", quote(name), equals(column), value(column, at, staged)))
    });
    pairs.collect::<Vec<_>>().join(" AND ")
}

/// `=` of the column's type. An extension's lies in the schema of its type: by `=` alone, two
/// citext would be compared as text, unlike the key's own index.
fn equals(column: &LayoutColumn) -> String {
    match split_identifiers(&column.carried.target).as_deref() {
        Ok([schema, _]) => format!("OPERATOR({}.=)", quote(schema)),
        _ => "=".to_owned(),
    }
}

fn staged_key(layout: &Layout) -> Vec<String> {
    let position = |name: &String| layout.columns.iter().position(|column| column.name == *name);
    layout.key.iter().filter_map(position).map(|at| value(&layout.columns[at], at, "s")).collect()
}

/// The staged columns as the target's types, comma-separated.
pub fn values(layout: &Layout, staged: &str) -> String {
    layout.columns.iter().enumerate().map(|(at, c)| value(c, at, staged)).collect::<Vec<_>>().join(", ")
}

fn value(column: &LayoutColumn, at: usize, staged: &str) -> String {
    if column.carried.wire == column.carried.target {
        format!("{staged}.c{}", at + 1)
    } else {
        format!("{staged}.c{}::{}", at + 1, column.carried.target)
    }
}
