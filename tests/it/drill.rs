//! Drills: proven, timed, recorded, and nothing left on the drill server.

use crate::stored::*;
use crate::support::*;
use std::fs;
use std::time::Duration;

/// A project with one database `db`, backed up by the command itself.
struct Drills {
    project: Sankofa,
    source: Database,
    server: Server,
}

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500) g;
    CREATE SEQUENCE s; SELECT setval('s', 42); SELECT lo_from_bytea(0, 'ab')";

impl Drills {
    async fn of(sql: &str) -> Drills {
        Drills::on(&Server::major(16), sql).await
    }

    /// With a source on `from`.
    async fn on(from: &Server, sql: &str) -> Drills {
        let source = from.fresh_database("drilled").await;
        source.sql(sql).await;
        let server = Server::new(17).start();
        let (identity, recipient) = key_pair();
        let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port());
        let programs = client_program(from.number(), "pg_dump").parent().unwrap().display().to_string();
        let project = Sankofa::new()
            .connection("source", &source)
            .connection_uri("drill_server", &uri)
            .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
            .env("SANKOFA_PG_BIN", &programs)
            .file("pipelines/.keep", "")
            .file(
                "sankofa.yaml",
                format!(
                    "version: 1\nsecrets: [environment]\nwarehouse: {{connection: warehouse}}\n\
                     stores: {{here: {{directory: store}}}}\ndrill: {{connection: drill_server}}\n\
                     backups: {{databases: {{db: {{connection: source, store: here, encrypt_to: [{recipient}]}}}}}}\n"
                ),
            );
        project.run(&["backup", "db", "--run", "first"]).await.succeeds();
        Drills { project, source, server }
    }

    async fn drill(&self, args: &[&str]) -> Finished {
        self.project.run(&[&["drill", "db", "--json"], args].concat()).await
    }

    /// Databases of drills that are on the server now.
    async fn left(&self) -> String {
        let sql = "SELECT count(*)::text FROM pg_database WHERE datname LIKE '%restoring%'";
        self.server.connect().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    fn records(&self) -> Vec<serde_json::Value> {
        let folder = self.project.folder().join("store/drills");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap()).collect()
    }
}

#[tokio::test]
async fn a_drill_proves_a_backup_records_its_time_and_leaves_no_database() {
    let drills = Drills::of(ROWS).await;
    let done = drills.drill(&["--run", "one"]).await.succeeds();
    let told = done.json();
    assert_eq!((told["proven"].as_bool(), told["rows"].as_u64()), (Some(true), Some(500)), "{}", done.told());
    assert_eq!(drills.left().await, "0");
    let records = drills.records();
    assert_eq!(
        (records.len(), &records[0]["proven"], &records[0]["run_id"]),
        (1, &true.into(), &"one".into())
    );
    assert!(!records[0].to_string().contains("public"), "no name of a table");
    let again = drills.drill(&["--run", "one"]).await.succeeds();
    assert_eq!(again.json()["status"], "already_done");
    drills.drill(&["--run", "two"]).await.succeeds();
    assert_eq!(drills.records().len(), 2);
    let list = drills.project.run(&["backups", "list", "--json"]).await.succeeds();
    assert!(list.stdout.contains("\"proven\":true"), "{}", list.told());
}

#[tokio::test]
async fn a_restore_that_changes_rows_by_itself_fails_its_drill_and_names_the_table() {
    // A materialised view whose function writes: each restore refreshes it, and changes a row.
    let sql = format!(
        "{ROWS}; CREATE FUNCTION public.touch() RETURNS int LANGUAGE plpgsql AS
         'BEGIN UPDATE public.t SET v = v || ''x'' WHERE id = 7; RETURN 1; END';
         CREATE MATERIALIZED VIEW m AS SELECT public.touch() AS n"
    );
    let drills = Drills::of(&sql).await;
    let done = drills.drill(&[]).await.exits(65);
    assert!(done.stderr.contains("public.t") && !done.stderr.contains("public.s"), "{}", done.told());
    assert_eq!(drills.left().await, "0");
    let records = drills.records();
    assert_eq!((&records[0]["proven"], &records[0]["different"]), (&false.into(), &1.into()));
    // The same at a restore: the database keeps its temporary name.
    let args = ["restore", "db", "--into", "drill_server", "--database", "wrong"];
    let restored = drills.project.run(&args).await.exits(65);
    assert!(restored.stderr.contains("public.t"), "{}", restored.told());
    assert_eq!(drills.left().await, "1");
    let named = "SELECT count(*)::text FROM pg_database WHERE datname = 'wrong'";
    let count: String = drills.server.connect().await.query_one(named, &[]).await.unwrap().get(0);
    assert_eq!(count, "0");
}

#[tokio::test]
async fn what_a_killed_drill_left_is_dropped_by_the_next() {
    let drills = Drills::of(ROWS).await;
    let mut running = drills.project.spawn(&["drill", "db", "-v"]);
    running.says("under a temporary name").await;
    let killed = running.kill_after(Duration::ZERO).await;
    assert_eq!(killed.code(), None);
    let swept = drills.drill(&[]).await.succeeds();
    assert!(swept.stderr.contains("what earlier restores left was dropped"), "{}", swept.told());
    assert_eq!(drills.left().await, "0");
}

#[tokio::test]
async fn a_drill_whose_record_cannot_be_written_is_a_drill_all_the_same() {
    let drills = Drills::of(ROWS).await;
    fs::write(drills.project.folder().join("store/drills"), "in the way").unwrap();
    let done = drills.drill(&[]).await.succeeds();
    assert!(done.stdout.contains("the drill is not recorded"), "{}", done.told());
    assert_eq!(drills.left().await, "0");
}

#[tokio::test]
async fn a_change_at_the_source_after_the_backup_changes_nothing_about_its_drill() {
    let drills = Drills::of(ROWS).await;
    drills.source.sql("DELETE FROM t").await;
    let done = drills.drill(&[]).await.succeeds();
    assert_eq!(done.json()["rows"], 500);
}

#[tokio::test]
async fn roles_come_back_with_the_globals_and_those_that_are_there_stay_as_they_are() {
    let from = Server::new(16).start();
    from.sql("CREATE ROLE app LOGIN PASSWORD 'not-a-secret'; CREATE ROLE reader; GRANT reader TO app; CREATE ROLE kept CREATEDB").await;
    let drills =
        Drills::on(&from, &format!("{ROWS}; ALTER TABLE t OWNER TO app; GRANT SELECT ON t TO kept")).await;
    drills.server.sql("CREATE ROLE kept NOCREATEDB").await;
    let args = ["restore", "db", "--into", "drill_server", "--database", "back", "--json"];
    let refused = drills.project.run(&args).await.exits(78);
    assert!(refused.stderr.contains("the server lacks role app"), "{}", refused.told());
    let done = drills.project.run(&[&args[..], &["--with-globals"]].concat()).await.succeeds();
    assert_eq!(
        (&done.json()["proven"], done.json()["roles_made"].as_u64()),
        (&true.into(), Some(2)),
        "{}",
        done.told()
    );
    let back = drills.server.existing("back");
    let facts = "SELECT (SELECT tableowner FROM pg_tables WHERE tablename = 't') || ' '
        || (SELECT rolcreatedb FROM pg_roles WHERE rolname = 'kept') || ' ' || pg_has_role('app', 'reader', 'member')";
    assert_eq!(back.value(facts).await, "app false true");
}

#[tokio::test]
async fn doctor_tells_of_a_restore_that_was_left_half_done() {
    let drills = Drills::of(ROWS).await;
    drills.server.sql("CREATE DATABASE db__restoring_0123abcd").await;
    let told = drills.project.run(&["doctor", "--json"]).await;
    assert!(
        told.stdout.contains("db__restoring_0123abcd is a restore or drill that is not finished"),
        "{}",
        told.told()
    );
    drills.drill(&[]).await.succeeds();
    assert_eq!(drills.left().await, "0");
    let told = drills.project.run(&["doctor", "--json"]).await;
    assert!(told.stdout.contains("no restore or drill was left half done"), "{}", told.told());
}

#[tokio::test]
async fn ctrl_c_at_the_question_for_an_identity_is_130_and_the_question_names_the_flag() {
    let Drills { project, source: _source, server: _server } = Drills::of(ROWS).await;
    let project = project.without("AIRFLOW_VAR_AGE_IDENTITY");
    let binary = env!("CARGO_BIN_EXE_sankofa");
    let typed =
        format!("(sleep 3; printf '\\003'; sleep 3) | script -qec '{binary} drill db --run asked' /dev/null");
    let done = project.start("/bin/sh", &["-c", &typed]).wait().await.exits(130);
    assert!(done.stdout.contains("a file goes by --identity-file"), "{}", done.told());
}
