//! Schema `sankofa` as a platform: what bytes leave in it, how it is upgraded, who reads it.

use crate::stored::key_pair;
use crate::support::*;
use serde_json::Value;

const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500) g";
const VIEWS: [&str; 9] =
    ["runs", "tables", "watermarks", "contracts", "checks", "freshness", "backups", "drills", "coverage"];

/// A source, a warehouse, a server for drills, and a project that backs up one database `db`.
pub struct Platform {
    pub project: Sankofa,
    pub source: Database,
    pub warehouse: Database,
    pub recipient: String,
}

impl Platform {
    pub async fn new(majors: (u16, u16)) -> Platform {
        let source = Server::major(majors.0).fresh_database("platform_src").await;
        source.sql(ROWS).await;
        let drills = Server::major(majors.0.max(17));
        let warehouse = Server::major(majors.1).fresh_database("platform_wh").await;
        let (identity, recipient) = key_pair();
        let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", drills.port());
        let programs = client_program(majors.0, "pg_dump").parent().unwrap().display().to_string();
        let project = Sankofa::new()
            .connection("source", &source)
            .connection("wh", &warehouse)
            .connection_uri("drill_server", &uri)
            .env("AIRFLOW_VAR_AGE_IDENTITY", &identity)
            .env("SANKOFA_PG_BIN", &programs);
        let platform = Platform { project, source, warehouse, recipient };
        platform.write("warehouse: {connection: wh}\n");
        platform
    }

    /// Writes the operator's file with `more` keys.
    pub fn write(&self, more: &str) {
        self.write_with("servers: [source]", more);
    }

    /// As [`Platform::write`], with `backups` as the first keys of `backups:`.
    pub fn write_with(&self, backups: &str, more: &str) {
        let recipient = &self.recipient;
        self.project.write(
            "sankofa.yaml",
            format!(
                "version: 1\nsecrets: [environment]\nstores: {{here: {{directory: store}}}}\n\
                 drill: {{connection: drill_server}}\nbackups:\n  {backups}\n  databases: {{db: {{connection: source, \
                 store: here, encrypt_to: [{recipient}]}}}}\n{more}"
            ),
        );
    }

    pub async fn run(&self, args: &[&str]) -> Finished {
        self.project.run(args).await
    }

    pub async fn there(&self, sql: &str) -> String {
        self.warehouse.value(sql).await
    }
}

fn warnings(done: &Finished) -> String {
    done.json()["warnings"].to_string()
}

#[tokio::test]
async fn what_is_backed_up_verified_drilled_and_covered_is_in_the_views_that_the_reader_sees() {
    let bed = Platform::new((16, 13)).await;
    let reader = Server::major(13).role("platform_reader", "").await;
    bed.write(&format!("warehouse: {{connection: wh, reader_role: {reader}}}\n"));
    let stored = bed.run(&["backup", "db", "--run", "one"]).await.succeeds();
    assert_eq!(warnings(&stored), "[]", "{}", stored.told());
    bed.run(&["backups", "verify"]).await.succeeds();
    bed.run(&["drill", "db", "--run", "first"]).await.succeeds();
    bed.run(&["backups", "coverage"]).await.exits(65); // other tests' databases are on that server
    let client = bed.warehouse.connect_as(&reader).await;
    let row = client
        .query_one(
            "SELECT backup_id, status, row_count, verified, opened, proven, stored_bytes, run_id FROM sankofa.backups",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), stored.json()["backup"].as_str().unwrap());
    assert_eq!((row.get::<_, &str>(1), row.get::<_, i64>(2)), ("stored", 500));
    let yes: [Option<bool>; 3] = [row.get(3), row.get(4), row.get(5)];
    assert_eq!(yes, [Some(true); 3]);
    assert_eq!(Some(row.get::<_, i64>(6)), stored.json()["stored_bytes"].as_i64());
    let drilled = "SELECT status || ' ' || table_count || ' ' || row_count || ' ' || in_time || ' ' || (took_ms > 0) FROM sankofa.drills";
    assert_eq!(client.query_one(drilled, &[]).await.unwrap().get::<_, String>(0), "proven 1 500 true true");
    let covered =
        "SELECT verdict || ' ' || (newest_at IS NOT NULL) FROM sankofa.coverage WHERE backed_up_as = 'db'";
    assert_eq!(client.query_one(covered, &[]).await.unwrap().get::<_, String>(0), "covered true");
    for view in VIEWS {
        client.batch_execute(&format!("SELECT * FROM sankofa.{view}")).await.unwrap();
    }
    for table in ["backup", "verification", "drill", "coverage_look", "run", "meta"] {
        assert!(client.batch_execute(&format!("SELECT * FROM sankofa.{table}")).await.is_err(), "{table}");
    }
    let silent =
        "SELECT count(*)::text FROM pg_class WHERE relnamespace = 'sankofa'::regnamespace AND relkind = 'v'
        AND obj_description(oid, 'pg_class') IS NULL";
    assert_eq!(bed.there(silent).await, "0", "every view says what it is");
    let personal = "SELECT coalesce(string_agg(column_name, ' '), '') FROM information_schema.columns
        WHERE table_schema = 'sankofa' AND table_name = ANY ($$%$$::text[]) AND column_name ~ 'message|report|user|login|person'";
    let personal = personal.replace("$$%$$", &format!("'{{{}}}'", VIEWS.join(",")));
    assert_eq!(bed.there(&personal).await, "", "a view that may name people");
}

#[tokio::test]
async fn a_warehouse_that_is_away_or_not_ours_is_warned_of_and_the_backup_is_stored_all_the_same() {
    let bed = Platform::new((16, 17)).await;
    bed.run(&["warehouse", "init"]).await.succeeds();
    bed.warehouse.sql("UPDATE sankofa.meta SET environment = 'prod'").await;
    let done = bed.run(&["backup", "db"]).await.succeeds();
    assert!(warnings(&done).contains("belongs to environment"), "{}", done.told());
    let away = Platform { project: bed.project.connection_uri("wh", "postgres://a:b@127.0.0.1:1/x"), ..bed };
    let done = away.run(&["backup", "db"]).await.succeeds();
    assert!(warnings(&done).contains("not noted in the warehouse"), "{}", done.told());
    let done = away.run(&["drill", "db"]).await.succeeds();
    assert!(warnings(&done).contains("not noted in the warehouse"), "{}", done.told());
    assert_eq!(away.there("SELECT count(*)::text FROM sankofa.backup").await, "0");
    // Nobody has asked for a record: nothing is said.
    away.write("");
    let done = away.run(&["backup", "db"]).await.succeeds();
    assert_eq!(warnings(&done), "[]", "{}", done.told());
    away.run(&["sync", "p"]).await.exits(78);
    let told = away.run(&["warehouse", "init"]).await.exits(78);
    assert!(told.stderr.contains("key \"warehouse\" is missing"), "{}", told.told());
    assert_eq!(away.run(&["prune"]).await.succeeds().json()["drill_records"], serde_json::json!([]));
    away.run(&["doctor"]).await.succeeds();
}

#[tokio::test]
async fn a_backup_that_failed_is_noted_and_the_same_run_takes_its_row_when_it_is_stored() {
    let bed = Platform::new((16, 17)).await;
    let down =
        Platform { project: bed.project.connection_uri("source", "postgres://a:b@127.0.0.1:1/x"), ..bed };
    down.run(&["backup", "db", "--run", "one"]).await.exits(75);
    let rows = "SELECT status || ' ' || attempt || ' ' || coalesce(error_code, '-') FROM sankofa.backups";
    assert_eq!(down.there(rows).await, "failed 1 temporary");
    let uri = down.source.connection_uri();
    let bed = Platform { project: down.project.connection_uri("source", &uri), ..down };
    for _ in 0..2 {
        bed.run(&["backup", "db", "--run", "one"]).await.succeeds();
        assert_eq!(bed.there(rows).await, "stored 2 -");
    }
    bed.run(&["backup", "db", "--run", "two", "--dry-run"]).await.succeeds();
    assert_eq!(bed.there("SELECT count(*)::text FROM sankofa.backup").await, "1");
    bed.warehouse.sql("INSERT INTO sankofa.backup (database_name, run_id, store, status, started_at, ended_at, binary_version)
        SELECT 'old', n::text, 'here', 'failed', now() - interval '2 years', now() - interval '2 years', '' FROM generate_series(1, 30) n").await;
    for args in [&["prune", "--dry-run"][..], &["prune"]] {
        assert_eq!(bed.run(args).await.succeeds().json()["records_forgotten"], 10);
    }
    assert_eq!(bed.there("SELECT count(*)::text FROM sankofa.backup").await, "21");
}

/// A warehouse as the first version has left it, with one run in it.
async fn of_version_1(major: u16) -> Database {
    let warehouse = Server::major(major).fresh_database("version_1").await;
    crate::upgrades::left_by(1, &warehouse, "hr").await;
    warehouse
}

fn project(warehouse: &Database, keys: &str) -> Sankofa {
    Sankofa::new()
        .file("sankofa.yaml", format!("version: 1\nwarehouse: {{connection: wh{keys}}}\n"))
        .file("pipelines/hr.yaml", "source: wh\nschema: w\ntables: {public.t: {mode: full_refresh}}\n")
        .connection("wh", warehouse)
}

#[tokio::test]
async fn an_older_schema_is_refused_until_it_is_upgraded_which_keeps_its_runs_and_happens_once() {
    for major in [13, 18] {
        let warehouse = of_version_1(major).await;
        let reader = Server::major(major).role("upgrade_reader", "").await;
        let sankofa = project(&warehouse, &format!(", reader_role: {reader}"));
        for command in [&["sync", "hr"][..], &["state", "show", "hr"]] {
            let done = sankofa.run(command).await.exits(78);
            assert!(done.stderr.contains("warehouse upgrade"), "{}", done.told());
        }
        let dry = sankofa.run(&["warehouse", "upgrade", "--dry-run"]).await.succeeds().json();
        assert_eq!(
            (&dry["version_before"], &dry["version"]),
            (&1.into(), &sankofa::ledger::version().into())
        );
        assert_eq!(warehouse.value("SELECT schema_version::text FROM sankofa.meta").await, "1");
        let all = (0..3).map(|_| sankofa.run(&["warehouse", "upgrade"]));
        for done in futures_util::future::join_all(all).await {
            done.succeeds();
        }
        let client = warehouse.connect_as(&reader).await;
        let row = client.query_one("SELECT run_id FROM sankofa.runs", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "kept");
        client.batch_execute("SELECT * FROM sankofa.backups").await.unwrap();
        sankofa.run(&["state", "show", "hr"]).await.succeeds();
    }
}

#[tokio::test]
async fn an_upgrade_that_fails_half_way_leaves_the_schema_as_it_was() {
    let warehouse = of_version_1(17).await;
    warehouse.sql("CREATE TABLE sankofa.drill (somebody_elses int)").await;
    let sankofa = project(&warehouse, "");
    let done = sankofa.run(&["warehouse", "upgrade"]).await;
    assert_ne!(done.code(), Some(0), "{}", done.told());
    let there =
        "SELECT (SELECT schema_version FROM sankofa.meta) || ' ' || (to_regclass('sankofa.backup') IS NULL)";
    assert_eq!(warehouse.value(there).await, "1 true");
    warehouse.sql("DROP TABLE sankofa.drill").await;
    sankofa.run(&["warehouse", "upgrade"]).await.succeeds();
}

#[tokio::test]
async fn a_run_of_one_environment_finds_nothing_in_the_warehouse_or_the_backups_of_another() {
    let bed = Platform::new((16, 17)).await;
    bed.write("warehouse: {connection: wh}\nenvironments: {dev: {guard: {}}}\n");
    bed.run(&["backup", "db"]).await.succeeds();
    for command in [&["backup", "db"][..], &["warehouse", "upgrade"], &["prune"]] {
        let done = bed.run(&[command, &["--env", "dev"]].concat()).await.exits(78);
        assert!(done.stderr.contains("environment"), "{}", done.told());
    }
    let drill = bed.run(&["drill", "db", "--env", "dev"]).await;
    assert_ne!(drill.code(), Some(0), "{}", drill.told());
    let listed: Value = bed.run(&["backups", "list", "--env", "dev", "--json"]).await.json();
    assert_eq!(listed["databases"][0]["good"], 0);
}
