//! A source, a warehouse and a project between them: what most tests of a run start with.
//!
//! In:    SQL for the source, the text of one pipeline called `p`, which fills schema `w`.
//! Out:   runs of the binary; rows of both sides as text.

use crate::support::*;

/// One source database `src`, one warehouse `wh`, one pipeline `p` into schema `w`.
pub struct Pair {
    /// Connection `src`.
    pub source: Database,
    /// Connection `wh`.
    pub warehouse: Database,
    /// The project.
    pub sankofa: Sankofa,
}

/// The operator's file.
pub const PROJECT: &str = "version: 1\nsecrets: [environment]\nstores: {local: {directory: ./stage}}\n\
                           stage: {store: local}\nwarehouse: {connection: wh}\n";

impl Pair {
    /// Both on the shared server of 17.
    pub async fn new(sql: &str, pipeline: &str) -> Pair {
        let server = Server::major(17);
        Pair::on(&server, &server, sql, pipeline).await
    }

    /// On two servers.
    pub async fn on(source: &Server, warehouse: &Server, sql: &str, pipeline: &str) -> Pair {
        let source = source.fresh_database("sem_src").await;
        let warehouse = warehouse.fresh_database("sem_wh").await;
        if !sql.is_empty() {
            source.sql(sql).await;
        }
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", PROJECT)
            .connection("src", &source)
            .connection("wh", &warehouse);
        let pair = Pair { source, warehouse, sankofa };
        pair.pipeline(pipeline);
        pair
    }

    /// Replaces the pipeline; `source` and `schema` are given.
    pub fn pipeline(&self, text: &str) {
        self.sankofa.write("pipelines/p.yaml", format!("source: src\nschema: w\n{text}\n"));
    }

    /// Replaces the operator's file: `more` is added to it.
    pub fn project(&self, more: &str) {
        self.sankofa.write("sankofa.yaml", format!("{PROJECT}{more}\n"));
    }

    /// `sankofa sync p`, under a new id unless `more` names one.
    pub async fn sync(&self, more: &[&str]) -> Finished {
        self.command("sync", more).await
    }

    /// `sankofa <command> p`.
    pub async fn command(&self, command: &str, more: &[&str]) -> Finished {
        let mut args = vec![command, "p"];
        args.extend(more);
        self.sankofa.run(&args).await
    }

    /// The three steps under one id; the first that fails is returned.
    pub async fn steps(&self, id: &str, more: &[&str]) -> Finished {
        let mut extract = vec!["--run", id];
        extract.extend(more);
        let mut done = self.command("extract", &extract).await;
        for step in ["validate", "load"] {
            if done.code() == Some(0) {
                done = self.command(step, &["--run", id]).await;
            }
        }
        done
    }

    /// Rows of the warehouse, a line each, columns parted by `|`.
    pub async fn there(&self, sql: &str) -> String {
        lines(&self.warehouse, sql).await
    }

    /// What tells whether rows of `w.t` were written: place and writer of each.
    pub async fn versions(&self) -> String {
        self.there("SELECT ctid, xmin, id FROM w.t ORDER BY id").await
    }
}

/// Rows of one query, a line each, columns parted by `|`, NULL as `-`.
pub async fn lines(database: &Database, sql: &str) -> String {
    let rows = database.query_text(sql).await;
    let line = |row: &Row| {
        row.iter().map(|value| value.clone().unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join("|")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One figure of `public.t` in a result.
#[track_caller]
pub fn figure(done: &Finished, name: &str) -> u64 {
    figure_of(done, "public.t", name)
}

/// One figure of a table in a result.
#[track_caller]
pub fn figure_of(done: &Finished, table: &str, name: &str) -> u64 {
    let result = done.json();
    let tables = result["tables"].as_array().unwrap_or_else(|| panic!("no tables: {}", done.told()));
    let found = tables.iter().find(|found| found["table"] == table);
    found.and_then(|found| found[name].as_u64()).unwrap_or_else(|| panic!("no {name}: {}", done.told()))
}

/// Why every row of `public.t` was read; empty when only new ones were.
#[track_caller]
pub fn reason(done: &Finished) -> String {
    let result = done.json();
    let found = result["tables"].as_array().and_then(|all| all.iter().find(|t| t["table"] == "public.t"));
    found.and_then(|t| t["reason"].as_str()).unwrap_or_default().to_owned()
}

/// Asserts that what it said holds every word.
#[track_caller]
pub fn says(done: &Finished, words: &[&str]) {
    let stdout = done.stdout.replace("\\\"", "\"");
    for word in words {
        assert!(done.stderr.contains(word) || stdout.contains(word), "no {word:?} in: {}", done.told());
    }
}
