//! What an operator runs beside the nightly runs: plan, state, warehouse, prune, doctor.

use crate::support::*;
use sankofa::ledger::version;
use serde_json::Value;

const PROJECT: &str = "version: 1\nsecrets: [environment]\nstores: {local: {directory: ./stage}}\n\
                       stage: {store: local}\nwarehouse: {connection: wh";

const TABLE: &str = "CREATE TABLE public.t (id int PRIMARY KEY, note text, email text, pin text,
        updated_at timestamptz NOT NULL DEFAULT '2026-01-01 00:00+00');
    INSERT INTO public.t SELECT n, 'n' || n, 'e', 'p' FROM generate_series(1, 10) n;";

const PIPELINE: &str = "source: src\nschema: w\ndefaults: {mode: incremental, replication_key: updated_at, \
                        deletes: {mode: soft, every: 1d}}\ntables:\n  public.t: {columns: {exclude: [note]}}\n";

/// A source, a warehouse, a project.
struct Bench {
    source: Database,
    warehouse: Database,
    sankofa: Sankofa,
}

impl Bench {
    async fn new(majors: (u16, u16)) -> Bench {
        let source = Server::major(majors.0).fresh_database("ops_src").await;
        let warehouse = Server::major(majors.1).fresh_database("ops_wh").await;
        source.sql(TABLE).await;
        let sankofa = Sankofa::new()
            .file("pipelines/p.yaml", PIPELINE)
            .connection("src", &source)
            .connection("wh", &warehouse)
            .env("AIRFLOW_VAR_HMAC_KEY", "0123456789abcdef0123456789abcdef");
        let bench = Bench { source, warehouse, sankofa };
        bench.project("", "");
        bench
    }

    /// The operator's file: more keys of `warehouse:`, and more text.
    fn project(&self, warehouse: &str, more: &str) {
        self.sankofa.write("sankofa.yaml", format!("{PROJECT}{warehouse}}}\n{more}\n"));
    }

    async fn run(&self, args: &[&str]) -> Finished {
        self.sankofa.run(args).await
    }

    async fn ledger_exists(&self) -> String {
        self.warehouse.value("SELECT (to_regnamespace('sankofa') IS NOT NULL)::text").await
    }
}

fn plan_of(done: &Finished) -> Value {
    done.json()["plans"][0].clone()
}

fn reads(done: &Finished) -> String {
    plan_of(done)["reads"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn plan_tells_what_would_be_read_and_why_and_touches_nothing() {
    for majors in [(13, 18), (18, 13)] {
        let bench = Bench::new(majors).await;
        bench.project("", "guard: {never: [\"*.*.*.pin\"], mask: {\"*.*.*.email\": hmac}}");
        let done = bench.run(&["plan", "p", "--check"]).await.succeeds();
        assert_eq!(reads(&done), "every row (first load)");
        let plan = plan_of(&done);
        assert_eq!(plan["left_out"], "pin (the operator's guard); note (the pipeline)");
        assert_eq!(plan["masks"], "email by hmac (the operator's guard)");
        assert!(plan["sql"][0]["sql"].as_str().unwrap().starts_with("CREATE TABLE \"w\".\"t\""));
        assert_eq!(bench.ledger_exists().await, "false");

        bench.run(&["sync", "p"]).await.succeeds();
        let runs = "SELECT count(*)::text || max(status) FROM sankofa.run";
        let before = bench.warehouse.value(runs).await;
        let done = bench.run(&["plan", "p", "--check"]).await.succeeds();
        assert_eq!(
            reads(&done),
            "rows with updated_at from 2026-01-01 00:00:00.000000+00 on (the watermark)"
        );
        assert!(plan_of(&done)["deletes"].as_str().unwrap().starts_with("not due"), "{}", done.told());
        assert_eq!(bench.warehouse.value(runs).await, before);
    }
}

#[tokio::test]
async fn plan_check_ends_with_65_when_the_schema_would_change_and_tells_sql_lock_and_views() {
    let bench = Bench::new((17, 17)).await;
    bench.run(&["sync", "p"]).await.succeeds();
    bench.warehouse.sql("CREATE VIEW w.v AS SELECT pin FROM w.t").await;
    bench.source.sql("ALTER TABLE t ADD COLUMN grade int; ALTER TABLE t DROP COLUMN pin").await;
    bench.run(&["plan", "p"]).await.succeeds();
    let done = bench.run(&["plan", "p", "--check"]).await.exits(65);
    assert!(done.stderr.contains("column \"grade\" (integer) is new"), "{}", done.told());
    let plan = plan_of(&done);
    let (sql, lock) = (plan["sql"][0]["sql"].as_str().unwrap(), plan["sql"][0]["lock"].as_str().unwrap());
    assert_eq!(sql, "ALTER TABLE \"w\".\"t\" ADD COLUMN IF NOT EXISTS \"grade\" integer");
    assert!(lock.contains("ACCESS EXCLUSIVE for a moment"), "{lock}");
    assert_eq!(plan["views"][0], "w.v");
}

#[tokio::test]
async fn a_table_that_would_be_refused_is_one_line_of_the_plan_and_the_others_are_told() {
    let bench = Bench::new((17, 17)).await;
    bench.source.sql("CREATE TABLE public.u (a int)").await;
    bench.sankofa.write("pipelines/p.yaml", format!("{PIPELINE}  public.nosuch: {{mode: full_refresh}}\n"));
    let done = bench.run(&["plan", "p"]).await.exits(78);
    let plans = done.json()["plans"].clone();
    assert_eq!(plans[0]["reads"], "every row (first load)");
    assert_eq!(plans[1]["refused"]["exit"], 78, "{}", done.told());
    assert!(plans[1]["refused"]["message"].as_str().unwrap().contains("no such table"));
}

#[tokio::test]
async fn plan_on_a_source_that_is_down_is_75_and_needs_a_known_table() {
    let bench = Bench::new((17, 17)).await;
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", format!("{PROJECT}}}\n"))
        .file("pipelines/p.yaml", PIPELINE)
        .connection_uri("src", "postgres://a:b@127.0.0.1:1/x")
        .connection("wh", &bench.warehouse);
    sankofa.run(&["plan", "p"]).await.exits(75);
    bench.run(&["plan", "p", "--table", "public.x"]).await.exits(2);
}

#[tokio::test]
async fn state_show_tells_watermarks_contracts_and_runs_and_that_nothing_was_loaded() {
    let bench = Bench::new((18, 13)).await;
    let done = bench.run(&["state", "show", "p"]).await.succeeds();
    assert_eq!(done.json()["ledger_version"], 0);
    bench.run(&["sync", "p", "--run", "one"]).await.succeeds();
    let done = bench.run(&["state", "show", "p"]).await.succeeds().json();
    let state = &done["states"][0];
    assert_eq!(state["watermark"], "2026-01-01 00:00:00.000000+00");
    assert_eq!((&state["live_rows"], &state["contract_version"]), (&10.into(), &1.into()));
    assert_eq!(
        (&done["runs"][0]["run_id"], &done["runs"][0]["status"]),
        (&"one".into(), &"published".into())
    );
}

#[tokio::test]
async fn a_reset_makes_the_next_run_read_everything_or_from_the_point_given() {
    let bench = Bench::new((13, 18)).await;
    let never = bench.run(&["state", "reset", "p", "--table", "t"]).await.succeeds();
    assert_eq!(
        (never.json()["known"].clone(), bench.ledger_exists().await.as_str()),
        (false.into(), "false")
    );
    bench.run(&["state", "reset", "p", "--table", "t", "--to", "2026-01-01"]).await.exits(65);
    bench.source.sql("UPDATE t SET updated_at = '2026-02-01 00:00+00' WHERE id > 5").await;
    bench.run(&["sync", "p"]).await.succeeds();
    bench.run(&["state", "reset", "p", "--table", "t", "--to", "7"]).await.exits(2);

    let dry = bench.run(&["state", "reset", "p", "--table", "t", "--dry-run"]).await.succeeds();
    assert_eq!(dry.json()["watermark_before"], "2026-02-01 00:00:00.000000+00");
    assert!(reads(&bench.run(&["plan", "p"]).await.succeeds()).contains("2026-02-01"));

    bench.run(&["state", "reset", "p", "--table", "t", "--to", "2026-01-15"]).await.succeeds();
    let planned = reads(&bench.run(&["plan", "p"]).await.succeeds());
    assert!(planned.contains("from 2026-01-15 00:00:00.000000+00 on"), "{planned}");
    let done = bench.run(&["sync", "p"]).await.succeeds();
    assert_eq!((&done.json()["tables"][0]["read"], &done.json()["rows"]), (&5.into(), &0.into()));

    bench.run(&["state", "reset", "p", "--table", "public.t"]).await.succeeds();
    assert_eq!(reads(&bench.run(&["plan", "p"]).await.succeeds()), "every row (its watermark was reset)");
    // A point can still be given: what kind of key it is has not been forgotten.
    bench.run(&["state", "reset", "p", "--table", "t", "--to", "2026-01-20"]).await.succeeds();
    bench.run(&["state", "reset", "p", "--table", "t"]).await.succeeds();
    let done = bench.run(&["sync", "p"]).await.succeeds();
    assert_eq!(done.json()["tables"][0]["read"], 10);
    assert!(reads(&bench.run(&["plan", "p"]).await.succeeds()).contains("2026-02-01"));
}

#[tokio::test]
async fn a_stage_extracted_before_a_reset_is_superseded_and_changes_nothing() {
    let bench = Bench::new((17, 17)).await;
    bench.run(&["sync", "p"]).await.succeeds();
    bench.run(&["extract", "p", "--run", "late"]).await.succeeds();
    bench.run(&["state", "reset", "p", "--table", "t"]).await.succeeds();
    let done = bench.run(&["load", "p", "--run", "late"]).await.exits(65);
    assert!(done.stderr.contains("superseded by run reset/"), "{}", done.told());
    assert_eq!(reads(&bench.run(&["plan", "p"]).await.succeeds()), "every row (its watermark was reset)");
}

#[tokio::test]
async fn a_reset_waits_for_no_run_it_is_75_while_one_holds_the_lock() {
    let bench = Bench::new((17, 17)).await;
    bench.run(&["sync", "p"]).await.succeeds();
    let holder = bench.warehouse.connect().await;
    let number = sankofa::ledger::lock::of("p").number();
    holder.execute("SELECT pg_advisory_lock($1)", &[&number]).await.unwrap();
    bench.run(&["state", "reset", "p", "--table", "t"]).await.exits(75);
    bench.run(&["state", "reset", "p", "--table", "t", "--dry-run"]).await.succeeds();
}

#[tokio::test]
async fn warehouse_init_makes_the_ledger_once_and_other_versions_and_environments_are_78() {
    for major in [13, 18] {
        let bench = Bench::new((major, major)).await;
        bench.run(&["warehouse", "upgrade"]).await.exits(78);
        let dry = bench.run(&["warehouse", "init", "--dry-run"]).await.succeeds();
        assert_eq!(
            (dry.json()["version"].clone(), bench.ledger_exists().await.as_str()),
            (version().into(), "false")
        );
        let done = bench.run(&["warehouse", "init"]).await.succeeds().json();
        assert_eq!((&done["version_before"], &done["version"]), (&0.into(), &version().into()));
        let done = bench.run(&["warehouse", "init"]).await.succeeds().json();
        assert_eq!(done["version_before"], version());

        bench.warehouse.sql("UPDATE sankofa.meta SET environment = 'prod'").await;
        for command in
            [&["warehouse", "init"][..], &["plan", "p"], &["state", "show", "p"], &["prune"], &["doctor"]]
        {
            let done = bench.run(command).await.exits(78);
            assert!(done.stderr.contains("it belongs to environment \"prod\""), "{}", done.told());
        }
        bench.warehouse.sql("UPDATE sankofa.meta SET environment = 'default', schema_version = 9").await;
        bench.run(&["plan", "p"]).await.succeeds(); // newer, and still good for this program
        bench.warehouse.sql("UPDATE sankofa.meta SET min_binary = '99.0.0'").await;
        for command in [&["warehouse", "upgrade"][..], &["plan", "p"], &["sync", "p"]] {
            let done = bench.run(command).await.exits(78);
            assert!(done.stderr.contains("needs sankofa 99.0.0 or newer"), "{}", done.told());
        }
    }
}

#[tokio::test]
async fn the_owner_role_owns_the_ledger_and_the_reader_sees_views_but_no_base_table() {
    let bench = Bench::new((17, 17)).await;
    let server = Server::major(17);
    let (owner, reader) = (server.role("ops_owner", "").await, server.role("ops_reader", "").await);
    let database = bench.warehouse.name().to_owned();
    bench.warehouse.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", quote(&database), quote(&owner))).await;
    bench.project(&format!(", owner_role: {owner}, reader_role: {reader}"), "");
    bench.run(&["warehouse", "init"]).await.succeeds();
    let owned = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'sankofa.run'::regclass";
    assert_eq!(bench.warehouse.value(owned).await, owner);
    let client = bench.warehouse.connect_as(&reader).await;
    for view in sankofa::ledger::VIEWS {
        client.batch_execute(&format!("SELECT * FROM sankofa.{view}")).await.unwrap();
    }
    for table in ["run", "table_run", "table_state", "contract", "check_result", "meta"] {
        assert!(client.batch_execute(&format!("SELECT * FROM sankofa.{table}")).await.is_err(), "{table}");
    }
    bench.run(&["doctor"]).await.succeeds();
    bench.project(", reader_role: nobody_of_that_name", "");
    bench.run(&["warehouse", "init"]).await.exits(78);
    bench.run(&["sync", "p"]).await.exits(78);
}

#[tokio::test]
async fn a_reader_that_comes_later_reads_what_was_loaded_before_and_nothing_on_its_way() {
    for major in [13, 18] {
        let bench = Bench::new((major, major)).await;
        bench.run(&["sync", "p"]).await.succeeds();
        let reader = Server::major(major).role("ops_late", "").await;
        bench.project(&format!(", reader_role: {reader}"), "");
        bench.run(&["sync", "p"]).await.succeeds();
        bench.run(&["extract", "p", "--run", "s", "--full-refresh"]).await.succeeds();
        bench.run(&["validate", "p", "--run", "s"]).await.succeeds();
        bench.warehouse.sql("CREATE TABLE sankofa_stage.r1_t0_rows (a int)").await;
        let client = bench.warehouse.connect_as(&reader).await;
        client.batch_execute("SELECT * FROM w.t; SELECT * FROM sankofa.runs").await.unwrap();
        assert!(client.batch_execute("SELECT * FROM sankofa_stage.r1_t0_rows").await.is_err());
        assert!(client.batch_execute("SELECT * FROM sankofa.run").await.is_err());
    }
}

#[tokio::test]
async fn prune_deletes_old_stages_leftovers_and_history_but_no_stage_that_may_still_be_loaded() {
    for major in [13, 18] {
        let bench = Bench::new((major, major)).await;
        bench.run(&["prune"]).await.succeeds();
        for id in ["a", "b"] {
            bench.run(&["extract", "p", "--run", id]).await.succeeds();
            bench.run(&["load", "p", "--run", id]).await.succeeds();
        }
        bench.run(&["extract", "p", "--run", "c"]).await.succeeds();
        bench.run(&["validate", "p", "--run", "c"]).await.succeeds();
        bench.warehouse.sql("CREATE TABLE sankofa_stage.r1_t0_rows (a int)").await;
        bench
            .warehouse
            .sql("UPDATE sankofa.run SET ended_at = now() - interval '900 days' WHERE run_id IN ('a', 'b')")
            .await;
        age(&bench.sankofa.folder().join("stage"));

        let dry = bench.run(&["prune", "--dry-run"]).await.succeeds().json();
        let done = bench.run(&["prune"]).await.succeeds().json();
        for json in [&dry, &done] {
            assert_eq!(json["stages"].as_array().unwrap().len(), 2, "{json}");
            assert_eq!(json["stages_kept"], 1, "{json}");
            assert_eq!(json["staging_tables"], serde_json::json!(["r1_t0_rows"]), "{json}");
        }
        let again = bench.run(&["prune"]).await.succeeds().json();
        assert_eq!(again["stages"].as_array().unwrap().len(), 0);
        bench.run(&["load", "p", "--run", "c"]).await.succeeds();
    }
}

/// Makes everything below `folder` two years old.
fn age(folder: &std::path::Path) {
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(730 * 86_400);
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            age(&entry.path());
        }
        std::fs::File::open(entry.path()).unwrap().set_modified(old).unwrap();
    }
}

#[tokio::test]
async fn history_goes_after_its_time_but_the_newest_runs_and_what_a_watermark_needs_stay() {
    let bench = Bench::new((17, 17)).await;
    bench.run(&["sync", "p"]).await.succeeds();
    bench.warehouse.sql("INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version, started_at, ended_at)
        SELECT 'q', n::text, 'sync', 'sync', 'published', '', '', now() - interval '2 years', now() - interval '2 years'
        FROM generate_series(1, 50) n").await;
    bench
        .warehouse
        .sql("UPDATE sankofa.run SET ended_at = now() - interval '3 years' WHERE pipeline = 'p'")
        .await;
    assert_eq!(bench.run(&["prune", "--dry-run"]).await.succeeds().json()["runs_forgotten"], 30);
    assert_eq!(bench.run(&["prune", "--history", "1000d"]).await.succeeds().json()["runs_forgotten"], 0);
    assert_eq!(bench.run(&["prune"]).await.succeeds().json()["runs_forgotten"], 30);
    assert_eq!(bench.warehouse.value("SELECT count(*)::text FROM sankofa.run").await, "21");
    bench.run(&["sync", "p"]).await.succeeds();
}

#[tokio::test]
async fn prune_forgets_by_the_retention_of_the_project_and_never_what_a_rerun_a_watermark_or_a_proof_needs() {
    let bench = Bench::new((17, 17)).await;
    bench.run(&["sync", "p", "--run", "first"]).await.succeeds();
    bench.run(&["sync", "p", "--run", "second"]).await.succeeds();
    bench
        .warehouse
        .sql("INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version, started_at, ended_at, report)
            SELECT 'p', n::text, 'sync', 'sync', 'published', '', '', now() - interval '34 days', now() - interval '34 days', '{}'
            FROM generate_series(1, 30) n;
        INSERT INTO sankofa.check_result (run, table_name, check_name, scope, severity, bound, passed)
            SELECT id, 'public.t', 'c', 'batch', 'fail', '', true FROM sankofa.run;
        INSERT INTO sankofa.set_aside (run, table_name, set_aside_by, reason)
            SELECT id, 'public.x', 'Ama', 'why' FROM sankofa.run WHERE run_id = '5';
        UPDATE sankofa.run SET ended_at = now() - interval '3 years', started_at = now() - interval '3 years'
            WHERE run_id IN ('first', 'second');
        INSERT INTO sankofa.drill (database_name, run_id, status, started_at, ended_at, binary_version)
            SELECT 'db', n::text, CASE n WHEN 2 THEN 'proven' ELSE 'failed' END, now() - interval '3 years', now() - interval '3 years', ''
            FROM generate_series(1, 30) n")
        .await;
    let kept = "SELECT count(*) || ' ' || (SELECT count(*) FROM sankofa.check_result) || ' ' || (SELECT count(*) FROM sankofa.drill)
        || ' ' || (SELECT string_agg(watermark_text, '') FROM sankofa.table_state) FROM sankofa.run";
    let before = bench.warehouse.value(kept).await;

    bench.project("", "retention: {runs: 34d}");
    let refused = bench.run(&["prune"]).await.exits(78);
    assert!(refused.stderr.contains("expected 35d or more"), "{}", refused.told());
    bench.run(&["prune", "--history", "34d"]).await.exits(2);
    bench.project("", "retention: {runs: 35d, checks: 30d, records: 40d}");
    let dry = bench.run(&["prune", "--dry-run"]).await.succeeds().json();
    assert_eq!(bench.warehouse.value(kept).await, before, "a dry run deletes nothing");
    let done = bench.run(&["prune"]).await.succeeds().json();
    for json in [&dry, &done] {
        assert_eq!(
            (&json["runs_forgotten"], &json["checks_forgotten"], &json["records_forgotten"]),
            (&0.into(), &12.into(), &9.into()),
            "{json}"
        );
    }
    let proven = "SELECT string_agg(run_id, ',') FROM sankofa.drill WHERE status = 'proven'";
    assert_eq!(bench.warehouse.value(proven).await, "2");
    // Of 34 days ago, and known as done.
    assert_eq!(bench.run(&["sync", "p", "--run", "1"]).await.succeeds().json()["status"], "already_done");

    bench
        .warehouse
        .sql("UPDATE sankofa.run SET ended_at = now() - interval '36 days' WHERE run_id ~ '^[0-9]+$'")
        .await;
    // The newest 20 stay; the contract is of "first", the watermark of "second", and "5" has set a table aside.
    assert_eq!(bench.run(&["prune"]).await.succeeds().json()["runs_forgotten"], 9);
    let left = "SELECT string_agg(run_id, ',' ORDER BY id) FROM sankofa.run WHERE id < 14";
    assert_eq!(bench.warehouse.value(left).await, "first,second,5,11");
    bench.warehouse.sql("UPDATE sankofa.set_aside SET loaded_at = now()").await;
    assert_eq!(bench.run(&["prune"]).await.succeeds().json()["runs_forgotten"], 1);
    let state = "SELECT string_agg(watermark_text, '') FROM sankofa.table_state";
    assert!(before.ends_with(&bench.warehouse.value(state).await));
    bench.run(&["sync", "p"]).await.succeeds();
}

fn finding(done: &Finished, words: &str) -> Value {
    let all = done.json()["findings"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|one| one["said"].as_str().is_some_and(|said| said.contains(words)));
    found.cloned().unwrap_or_else(|| panic!("no {words:?} in {}", done.told()))
}

#[tokio::test]
async fn doctor_finds_everything_in_order_where_it_is() {
    for majors in [(13, 18), (18, 13)] {
        let bench = Bench::new(majors).await;
        bench.run(&["sync", "p"]).await.succeeds();
        let done = bench.run(&["doctor", "--for", "rows"]).await.succeeds();
        assert_eq!(finding(&done, "1 tables can be read")["verdict"], "ok");
        assert_eq!(finding(&done, "takes writes")["verdict"], "ok");
        assert_eq!(finding(&done, "superuser")["verdict"], "warn");
    }
}

#[tokio::test]
async fn doctor_names_what_the_source_role_lacks_and_what_it_reads_in_spite_of_the_guard() {
    for major in [13, 18] {
        let bench = Bench::new((major, major)).await;
        let role = Server::major(major).role("ops_source", "").await;
        bench
            .source
            .sql(&format!(
                "GRANT SELECT (id, email, pin) ON t TO {0}; ALTER TABLE t ENABLE ROW LEVEL SECURITY",
                quote(&role)
            ))
            .await;
        let guard = format!("guard: {{never: [\"*.*.*.pin\", \"{}.public.nothing\"]}}", bench.source.name());
        let sankofa = Sankofa::new()
            .file("sankofa.yaml", format!("{PROJECT}}}\n{guard}\n"))
            .file("pipelines/p.yaml", PIPELINE)
            .connection_uri("src", &bench.source.connection_uri_as(&role))
            .connection("wh", &bench.warehouse);
        let done = sankofa.run(&["doctor"]).await.exits(77);
        assert_eq!(finding(&done, "cannot see open transactions")["verdict"], "fail");
        assert_eq!(finding(&done, "columns updated_at cannot be read")["exit"], 77);
        assert_eq!(finding(&done, "row security would hide rows")["verdict"], "fail");
        assert_eq!(finding(&done, "says never of: public.t.pin")["verdict"], "fail");
        assert_eq!(finding(&done, "public.nothing matches nothing here")["verdict"], "warn");
        bench
            .source
            .sql(&format!(
                "REVOKE ALL (id, email, pin) ON t FROM {0}; GRANT SELECT (id, email, updated_at) ON t TO {0};
            GRANT pg_read_all_stats TO {0}; ALTER TABLE t DISABLE ROW LEVEL SECURITY",
                quote(&role)
            ))
            .await;
        let done = sankofa.run(&["doctor", "p"]).await.succeeds();
        assert_eq!(finding(&done, "nothing that the guard says never of can be read")["verdict"], "ok");
    }
}

#[tokio::test]
async fn doctor_goes_on_after_a_failure_and_ends_with_the_most_serious() {
    let bench = Bench::new((17, 17)).await;
    bench
        .sankofa
        .write("pipelines/q.yaml", "source: gone\nschema: w\ntables: {public.x: {mode: full_refresh}}\n");
    bench.sankofa.write("pipelines/bad.yaml", "sorce: src\n");
    bench.project("", "guard: {mask: {\"*.*.*.email\": hmac}}");
    let done = bench.run(&["doctor"]).await.exits(78);
    assert_eq!(finding(&done, "pipelines/bad.yaml")["exit"], 78);
    assert_eq!(finding(&done, "cannot resolve connection gone")["exit"], 77);
    assert_eq!(finding(&done, "takes writes")["verdict"], "ok");
    assert_eq!(finding(&done, "variable hmac_key")["verdict"], "ok");
    bench.run(&["doctor", "q"]).await.exits(77);
}

#[tokio::test]
async fn doctor_says_when_a_reader_sees_rows_on_their_way_or_a_writer_lacks_a_right() {
    let bench = Bench::new((17, 17)).await;
    let server = Server::major(17);
    let (reader, writer) = (server.role("ops_nosy", "").await, server.role("ops_poor", "").await);
    bench.project(&format!(", reader_role: {reader}"), "");
    bench.run(&["sync", "p"]).await.succeeds();
    bench
        .warehouse
        .sql(&format!(
            "GRANT USAGE ON SCHEMA sankofa_stage TO {0}; GRANT SELECT ON sankofa.run TO {0}",
            quote(&reader)
        ))
        .await;
    let done = bench.run(&["doctor"]).await.exits(77);
    assert_eq!(finding(&done, "sees rows on their way")["verdict"], "fail");
    assert_eq!(finding(&done, "reads base tables")["verdict"], "fail");
    let empty = server.fresh_database("ops_empty").await;
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", format!("{PROJECT}}}\n"))
        .file("pipelines/p.yaml", PIPELINE)
        .connection("src", &bench.source)
        .connection_uri("wh", &empty.connection_uri_as(&writer));
    let done = sankofa.run(&["doctor"]).await.exits(77);
    assert_eq!(finding(&done, "may not create the schemas that are missing")["exit"], 77);
}

#[tokio::test]
async fn doctor_proves_that_the_stages_identity_belongs_to_its_recipients() {
    let bench = Bench::new((17, 17)).await;
    let (one, other) = (age_pair(), age_pair());
    let project = format!("{PROJECT}}}\n").replace(
        "{store: local}",
        &format!("{{store: local, encrypt_to: [{}], identity: stage_identity}}", one.0),
    );
    let with = |identity: &str| {
        Sankofa::new()
            .file("sankofa.yaml", &project)
            .file("pipelines/p.yaml", PIPELINE)
            .connection("src", &bench.source)
            .connection("wh", &bench.warehouse)
            .env("AIRFLOW_VAR_STAGE_IDENTITY", identity)
    };
    let done = with(&one.1).run(&["doctor"]).await.succeeds();
    assert_eq!(finding(&done, "encrypted to 1 recipients")["verdict"], "ok");
    let done = with(&other.1).run(&["doctor"]).await.exits(77);
    assert_eq!(finding(&done, "belongs to none")["verdict"], "fail");
    assert!(!done.told().contains(&other.1), "{}", done.told());
    with("nonsense").run(&["doctor"]).await.exits(77);
}

/// Recipient and identity of a new pair.
fn age_pair() -> (String, String) {
    use age::secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    (identity.to_public().to_string(), identity.to_string().expose_secret().to_owned())
}

#[tokio::test]
async fn a_stage_that_fills_up_or_takes_no_writes_is_named_with_what_to_do() {
    let Some(disk) = crate::stored::Disk::of_mib(1) else { return };
    let bench = Bench::new((17, 17)).await;
    bench
        .source
        .sql(
            "CREATE TABLE much AS SELECT g AS id, string_agg(md5(random()::text), '') AS v
              FROM generate_series(1, 3000) g, generate_series(1, 60) n GROUP BY g",
        )
        .await;
    let pipeline = "source: src\nschema: w\ntables:\n  public.much: {mode: full_refresh, key: [id]}\n";
    bench.sankofa.write("pipelines/p.yaml", pipeline);
    let place = disk.path().display().to_string();
    let project =
        bench.sankofa.read("sankofa.yaml").replace("directory: ./stage", &format!("directory: {place}"));
    assert!(project.contains(&place), "{project}");
    bench.sankofa.write("sankofa.yaml", project);
    let full = bench.run(&["extract", "p", "--run", "one"]).await.exits(75);
    for part in [format!("cannot write {place}"), "Free some disk space".to_owned()] {
        assert!(full.stderr.contains(&part), "{part}: {}", full.told());
    }
    let shut = std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
    assert!(shut.unwrap().success());
    let done = bench.run(&["extract", "p", "--run", "two"]).await.exits(77);
    assert!(done.stderr.contains("Read-only file system"), "{}", done.told());
    assert!(done.stderr.contains("Let this user write there"), "{}", done.told());
    let done = bench.run(&["doctor", "--for", "rows"]).await.exits(77);
    assert_eq!(done.json()["next"], "Let this user write there.");
}
