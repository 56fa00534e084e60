//! Checks gate the whole set, in `sync` and in `validate` alike; `after:` has one role's rights only.

use crate::pair::*;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz DEFAULT clock_timestamp(), v text, n int);
    INSERT INTO t SELECT g, clock_timestamp(), 'a', g FROM generate_series(1, 10) g;
    CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO other SELECT g, 'o' FROM generate_series(1, 20) g";

/// Every kind: the check, SQL that breaks it, how it is named in the ledger.
const KINDS: &[(&str, &str, &str)] = &[
    ("rows: {min: 5}", "DELETE FROM t WHERE id > 3", "rows.min"),
    ("rows: {max: 10}", "INSERT INTO t SELECT g FROM generate_series(11, 12) g", "rows.max"),
    ("rows: {max_change: 30%}", "INSERT INTO t SELECT g FROM generate_series(11, 15) g", "rows.max_change"),
    ("null_rate: {v: 10%}", "UPDATE t SET v = NULL, u = clock_timestamp() WHERE id < 4", "null_rate(v)"),
    (
        "null_rate: {v: {at_most: 10%, scope: table}}",
        "UPDATE t SET v = NULL, u = clock_timestamp() WHERE id < 4",
        "null_rate(v)",
    ),
    ("unique: [n]", "UPDATE t SET n = 1, u = clock_timestamp() WHERE id = 2", "unique(n)"),
    (
        "freshness: {u: 1h}",
        "UPDATE t SET u = now() - interval '2 h'; INSERT INTO t VALUES (11, now() - interval '2 h')",
        "freshness(u)",
    ),
    ("accepted: {v: [a, b]}", "UPDATE t SET v = 'x', u = clock_timestamp() WHERE id = 2", "accepted(v)"),
    (
        "accepted: {v: {values: [a, b], scope: table}}",
        "UPDATE t SET v = 'x', u = clock_timestamp() WHERE id = 2",
        "accepted(v)",
    ),
    (
        "references: {n: w.other.id}",
        "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 2",
        "references(n -> w.other)",
    ),
    (
        "references: {n: {to: w.other.id, scope: table}}",
        "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 2",
        "references(n -> w.other)",
    ),
    (
        "sql: {none: 'SELECT 1 FROM {table} WHERE n > 50'}",
        "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 2",
        "sql(none)",
    ),
    (
        "sql: {none: {query: 'SELECT 1 FROM {table} WHERE n > 50', scope: batch}}",
        "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 2",
        "sql(none)",
    ),
];

fn pipeline(mode: &str, check: &str) -> String {
    let key = if mode == "full_refresh" { "" } else { ", replication_key: u" };
    format!(
        "tables:\n  public.t:\n    mode: {mode}\n{}    deletes: {{at_most: 100%}}\n    checks: {{{check}}}\n  public.other: {{mode: full_refresh}}",
        if key.is_empty() { String::new() } else { "    replication_key: u\n".to_owned() }
    )
}

async fn every_kind(mode: &str) {
    for (check, breaks, name) in KINDS {
        let pair = Pair::new(TABLES, &pipeline(mode, check)).await;
        pair.sync(&[]).await.succeeds(); // a first load keeps the check
        pair.source.sql(breaks).await;
        pair.source.sql("UPDATE other SET v = 'changed'").await;
        if *name == "rows.min" && mode == "incremental" {
            pair.warehouse.sql("UPDATE sankofa.table_state SET deletes_at = now() - interval '2 days'").await;
        }
        if name.starts_with("freshness") {
            pair.warehouse.sql("UPDATE w.t SET u = u - interval '3 h'").await; // old stamps are not read
        }
        let before = (pair.versions().await, pair.there("SELECT DISTINCT v FROM w.other").await);
        let done = pair.sync(&["--run", "bad"]).await;
        assert_eq!(done.code(), Some(65), "{mode} {check}: {}", done.told());
        says(&done, &[name]);
        assert_eq!((pair.versions().await, pair.there("SELECT DISTINCT v FROM w.other").await), before);
        let kept = "SELECT check_name, passed, measured IS NOT NULL FROM sankofa.checks WHERE run_id = 'bad' AND NOT passed";
        assert_eq!(pair.there(kept).await, format!("{name}|f|t"));
        pair.command("extract", &["--run", "steps"]).await.succeeds();
        let validated = pair.command("validate", &["--run", "steps"]).await;
        let loaded = pair.command("load", &["--run", "steps"]).await;
        assert_eq!(
            (validated.code(), loaded.code()),
            (Some(65), Some(65)),
            "{mode} {check}: {}",
            validated.told()
        );
        assert_eq!(pair.versions().await, before.0);
        pair.pipeline(&pipeline(mode, check).replace(check, &warned(check)));
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(done.json()["checks_warned"], 1, "{mode} {check}: {}", done.told());
    }
}

/// The same check with `severity: warn`.
fn warned(check: &str) -> String {
    match check {
        "rows: {min: 5}" => "rows: {min: 5, severity: warn}",
        "rows: {max: 10}" => "rows: {max: 10, severity: warn}",
        "rows: {max_change: 30%}" => "rows: {max_change: 30%, severity: warn}",
        "null_rate: {v: 10%}" => "null_rate: {v: {at_most: 10%, severity: warn}}",
        "unique: [n]" => "unique: {columns: [n], severity: warn}",
        "freshness: {u: 1h}" => "freshness: {u: {at_most: 1h, severity: warn}}",
        "accepted: {v: [a, b]}" => "accepted: {v: {values: [a, b], severity: warn}}",
        "references: {n: w.other.id}" => "references: {n: {to: w.other.id, severity: warn}}",
        "sql: {none: 'SELECT 1 FROM {table} WHERE n > 50'}" => {
            "sql: {none: {query: 'SELECT 1 FROM {table} WHERE n > 50', severity: warn}}"
        }
        other => return other.replace("scope: ", "severity: warn, scope: "),
    }
    .to_owned()
}

#[tokio::test]
async fn every_kind_of_check_stops_an_incremental_run_in_sync_validate_and_load_alike() {
    every_kind("incremental").await;
}

#[tokio::test]
async fn every_kind_of_check_stops_a_full_refresh_in_sync_validate_and_load_alike() {
    every_kind("full_refresh").await;
}

#[tokio::test]
async fn every_kind_of_check_stops_a_first_load_in_sync_validate_and_load_alike() {
    for (check, breaks, name) in KINDS {
        if name.contains("max_change") {
            continue; // there is nothing to compare with
        }
        let pair = Pair::new(TABLES, &pipeline("full_refresh", check)).await;
        pair.source.sql(breaks).await;
        let done = pair.sync(&[]).await;
        assert_eq!(done.code(), Some(65), "{check}: {}", done.told());
        assert_eq!(pair.there("SELECT to_regclass('w.t'), to_regclass('w.other')").await, "-|-");
        pair.command("extract", &["--run", "steps"]).await.succeeds();
        let validated = pair.command("validate", &["--run", "steps"]).await;
        let loaded = pair.command("load", &["--run", "steps"]).await;
        assert_eq!((validated.code(), loaded.code()), (Some(65), Some(65)), "{check}: {}", validated.told());
    }
}

#[tokio::test]
async fn a_check_that_misses_is_seen_by_validate_also_when_the_schema_has_changed() {
    for policy in ["full_refresh", "evolve"] {
        // One of each way to be measured: counted, asked of this run's rows, of the whole table, of another.
        for (check, breaks, _) in [KINDS[0], KINDS[4], KINDS[5], KINDS[9], KINDS[12]] {
            let text = format!("on_schema_change: {policy}\n{}", pipeline("incremental", check));
            let pair = Pair::new(TABLES, &text).await;
            pair.sync(&[]).await.succeeds();
            pair.source.sql(breaks).await;
            pair.source.sql("ALTER TABLE t ADD w int DEFAULT 4").await;
            pair.warehouse.sql("UPDATE sankofa.table_state SET deletes_at = now() - interval '2 days'").await;
            let before = pair.versions().await;
            pair.command("extract", &["--run", "steps"]).await.succeeds();
            let validated = pair.command("validate", &["--run", "steps"]).await;
            let loaded = pair.command("load", &["--run", "steps"]).await;
            assert_eq!(
                (validated.code(), loaded.code()),
                (Some(65), Some(65)),
                "{policy} {check}: {}\n{}",
                validated.told(),
                loaded.told()
            );
            assert_eq!(pair.versions().await, before);
        }
    }
}

#[tokio::test]
async fn with_publish_each_the_tables_before_the_one_that_fails_are_published() {
    let text = "publish: each\ntables:\n  public.other: {mode: full_refresh}\n  public.t: {mode: full_refresh, checks: {rows: {min: 50}}}";
    let pair = Pair::new(TABLES, text).await;
    pair.sync(&[]).await.exits(65);
    assert_eq!(pair.there("SELECT to_regclass('w.t'), to_regclass('w.other')").await, "-|w.other");
    let done = pair.steps("again", &[]).await.exits(65);
    says(&done, &["rows.min"]);
    pair.command("load", &["--run", "again"]).await.exits(65);
    pair.source.sql("INSERT INTO t SELECT g FROM generate_series(11, 60) g").await;
    pair.steps("again", &[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "60");
    assert_eq!(pair.there("SELECT count(*) FROM sankofa.table_run t JOIN sankofa.run r ON r.id = t.run WHERE r.run_id = 'again'").await, "2");
}

#[tokio::test]
async fn a_check_cannot_write_and_a_broken_one_names_itself() {
    let pair =
        Pair::new(TABLES, &pipeline("full_refresh", "sql: {sly: \"SELECT nextval('public.s')\"}")).await;
    pair.warehouse.sql("CREATE SEQUENCE public.s").await;
    let done = pair.sync(&[]).await;
    assert_ne!(done.code(), Some(0), "{}", done.told());
    says(&done, &["sql(sly)"]);
    assert_eq!(pair.there("SELECT is_called FROM public.s").await, "f");
}

/// A pair whose `after:` is `sql`, run by a role that owns schema `marts`.
async fn with_after(sql: &str) -> (Pair, String) {
    let pair = Pair::new(TABLES, "tables: {public.t: {mode: full_refresh}}\nafter: [sql/after.sql]").await;
    let role = pair.warehouse.server().role("after", "").await;
    pair.warehouse.sql(&format!("CREATE SCHEMA marts AUTHORIZATION {role}; CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO {role}; ALTER DEFAULT PRIVILEGES IN SCHEMA w GRANT SELECT ON TABLES TO {role}")).await;
    let project = PROJECT.replace("{connection: wh}", &format!("{{connection: wh, after_role: {role}}}"));
    pair.sankofa.write("sankofa.yaml", project);
    pair.sankofa.write("sql/after.sql", sql);
    (pair, role)
}

#[tokio::test]
async fn after_sees_the_new_tables_in_the_same_commit_as_its_role() {
    let sql = "CREATE TABLE IF NOT EXISTS marts.m (who text, n bigint);\nINSERT INTO marts.m SELECT current_user, count(*) FROM w.t;";
    let (pair, role) = with_after(sql).await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT * FROM marts.m").await, format!("{role}|10"));
    assert_eq!(
        pair.there("SELECT count(*) FROM w.t t, marts.m m WHERE t.xmin::text <> m.xmin::text AND false")
            .await,
        "0"
    );
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM marts.m").await, "2");
    assert_eq!(
        pair.there("SELECT count(*) FROM pg_proc WHERE pronamespace = 'sankofa_stage'::regnamespace").await,
        "0"
    );
}

#[tokio::test]
async fn after_cannot_do_what_its_role_may_not_and_takes_the_run_with_it() {
    let superuser = |sql: &str| format!("DO $x$ BEGIN EXECUTE '{sql}'; END $x$");
    for sql in [
        "DELETE FROM w.t".to_owned(),
        "SELECT * FROM sankofa.run".to_owned(),
        "SELECT set_config('role', 'sankofa_test', false)".to_owned(),
        "SELECT set_config('session_authorization', 'sankofa_test', false)".to_owned(),
        superuser("RESET ROLE"),
        superuser("SET ROLE sankofa_test"),
        superuser("SET LOCAL ROLE NONE"),
        superuser("RESET SESSION AUTHORIZATION"),
        superuser("COMMIT"),
        "CREATE ROLE evil".to_owned(),
        "COPY marts.x TO PROGRAM 'true'".to_owned(),
        "SELECT 1/0".to_owned(),
        // A deferred trigger must not wait for the commit, which is somebody else's.
        "CREATE TABLE marts.bait (who text);
         CREATE FUNCTION marts.spring() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN EXECUTE 'DELETE FROM w.t'; RETURN NULL; END $f$;
         CREATE CONSTRAINT TRIGGER later AFTER INSERT ON marts.bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION marts.spring();
         INSERT INTO marts.bait VALUES ('x')".to_owned(),
    ] {
        let (pair, role) = with_after(&sql).await;
        let done = pair.sync(&[]).await;
        assert_ne!(done.code(), Some(0), "{sql}: {}", done.told());
        assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-", "{sql}");
        // Some are refused by their words already, before a run begins.
        if done.code() != Some(78) {
            assert_eq!(pair.there("SELECT status FROM sankofa.run").await, "failed", "{sql}");
        }
        drop((pair, role));
    }
}

#[tokio::test]
async fn transaction_control_in_after_is_refused_before_anything_is_read() {
    for sql in ["COMMIT", "BEGIN; SELECT 1", "SET ROLE x", "RESET ROLE", "SAVEPOINT a"] {
        let (pair, _role) = with_after(sql).await;
        pair.sync(&[]).await.exits(78);
        assert_eq!(pair.there("SELECT to_regclass('sankofa.run')").await, "-", "{sql}");
    }
}
