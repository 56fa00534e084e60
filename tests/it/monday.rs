//! Monday morning: a check has refused the night's run. What people see of it, and what they can take on
//! for that run alone.

use crate::pair::*;
use crate::support::*;
use serde_json::Value;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, email text, v text, n int, u timestamptz DEFAULT clock_timestamp());
    INSERT INTO t SELECT g, 'MARKED-' || g, 'MARKED', g FROM generate_series(1, 20) g;
    CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO other SELECT g, 'o' FROM generate_series(1, 20) g";

/// `public.t` with `checks`, incremental; `public.other` read whole.
fn pipeline(checks: &str) -> String {
    format!(
        "tables:\n  public.t: {{mode: incremental, replication_key: u, mask: {{email: hmac}}, checks: {{{checks}}}}}\n  \
         public.other: {{mode: full_refresh}}"
    )
}

async fn bench(checks: &str) -> Pair {
    let mut pair = Pair::new(TABLES, &pipeline(checks)).await;
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", "0123456789abcdef0123456789abcdef");
    pair
}

const TWICE: &str = "UPDATE t SET n = 1, u = clock_timestamp() WHERE id BETWEEN 2 AND 9";
const MENDED: &str = "UPDATE t SET n = id, u = clock_timestamp()";
const OVERRIDE: [&str; 4] = ["--by", "Ama", "--reason", "forms came late"];

fn missed(done: &Finished) -> Value {
    done.json()["missed"][0].clone()
}

#[tokio::test]
async fn a_refused_run_tells_figure_since_when_and_rows_by_key_in_log_result_ledger_and_status() {
    let pair = bench("unique: {columns: [n], scope: table}").await;
    pair.sync(&["--run", "friday"]).await.succeeds();
    pair.source.sql(TWICE).await;
    let done = pair.sync(&["--run", "saturday"]).await.exits(65);
    let rows = ["id=1", "id=2", "id=3", "id=4", "id=5"];
    let one = missed(&done);
    assert_eq!(
        (&one["check"], &one["measured"], &one["bound"]),
        (&"unique(n)".into(), &8.0.into(), &"no duplicates".into())
    );
    assert_eq!((&one["rows"], &one["more_rows"]), (&serde_json::json!(rows), &true.into()));
    assert_eq!((&one["since_run"], &done.json()["checks_failed"]), (&"saturday".into(), &1.into()));
    let log = "public.t: unique(n): since 2";
    assert!(
        done.stderr.contains(log) && done.stderr.contains("rows id=1; id=2; id=3; id=4; id=5 and more"),
        "{}",
        done.told()
    );
    assert!(done.stderr.contains("--accept 'public.t: unique(n)'"), "{}", done.told());

    let done = pair.sync(&["--run", "monday", "--log-format", "json"]).await.exits(65);
    assert_eq!(missed(&done)["since_run"], "saturday");
    assert!(
        done.stderr.contains("\"message\":\"check missed\"")
            && done.stderr.contains("(run saturday); rows id=1; "),
        "{}",
        done.told()
    );
    pair.command("extract", &["--run", "steps"]).await.succeeds();
    let done = pair.command("validate", &["--run", "steps"]).await.exits(65);
    assert_eq!(
        (&missed(&done)["since_run"], &missed(&done)["rows"][4]),
        (&"saturday".into(), &"id=5".into())
    );

    let kept = "SELECT run_id, missed_since_run, array_length(refused_rows, 1), refused_rows[1], accepted
        FROM sankofa.checks WHERE NOT passed ORDER BY started_at";
    assert_eq!(
        pair.there(kept).await,
        "saturday|saturday|5|id=1|f\nmonday|saturday|5|id=1|f\nsteps|saturday|5|id=1|f"
    );
    let status = pair.sankofa.run(&["status"]).await.exits(65);
    assert!(status.stdout.contains("8 was found; rows id=1; id=2"), "{}", status.told());
    assert!(!done.told().contains("MARKED") && !status.told().contains("MARKED"));

    pair.source.sql(MENDED).await;
    pair.sync(&["--run", "mended"]).await.succeeds();
    pair.source.sql(TWICE).await;
    let done = pair.sync(&["--run", "again"]).await.exits(65);
    assert_eq!(missed(&done)["since_run"], "again", "a pass ends the row");
}

#[tokio::test]
async fn every_check_that_rows_can_miss_names_them_also_where_validate_asks_no_server() {
    for (check, breaks, row) in [
        ("null_rate: {v: 0%}", "UPDATE t SET v = NULL, u = clock_timestamp() WHERE id = 7", "id=7"),
        ("accepted: {v: [MARKED]}", "UPDATE t SET v = 'x', u = clock_timestamp() WHERE id = 7", "id=7"),
        ("references: {n: w.other.id}", "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 7", "id=7"),
        (
            "sql: {low: 'SELECT id, v FROM {table} WHERE n > 50'}",
            "UPDATE t SET n = 99, u = clock_timestamp() WHERE id = 7",
            "id=7",
        ),
    ] {
        let pair = bench(check).await;
        pair.source.sql(breaks).await;
        pair.command("extract", &["--run", "first"]).await.succeeds();
        let done = pair.command("validate", &["--run", "first"]).await.exits(65);
        assert_eq!(missed(&done)["rows"], serde_json::json!([row]), "{check}: {}", done.told());
        let done = pair.sync(&[]).await.exits(65);
        assert_eq!(missed(&done)["rows"], serde_json::json!([row]), "{check}: {}", done.told());
        assert!(!done.told().replace("accepted(v)", "").contains("MARKED"), "{}", done.told());
    }
}

#[tokio::test]
async fn of_a_row_only_key_columns_without_a_mask_are_told_whatever_a_checks_own_sql_calls_them() {
    let sql = "CREATE TABLE k (code int, mail text, v text, n int, PRIMARY KEY (code, mail));
        INSERT INTO k VALUES (1, 'MARKED-MAIL', 'MARKED-CELL', 77777), (2, 'MARKED-MAIL', NULL, 77777);
        CREATE TABLE l (code text PRIMARY KEY, v text); INSERT INTO l VALUES ('MARKED-CODE', NULL);
        CREATE TABLE m (mail text PRIMARY KEY, v text); INSERT INTO m VALUES ('MARKED-MAIL', NULL)";
    let text = "tables:\n  public.k: {mode: full_refresh, checks: {null_rate: {v: 0%}, sql: {sly: 'SELECT n AS code, v AS mail FROM {table}'}}}\n  \
                public.l: {mode: full_refresh, checks: {null_rate: {v: 0%}}}\n  public.m: {mode: full_refresh, checks: {null_rate: {v: 0%}}}";
    let mut pair = Pair::new(sql, text).await;
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", "0123456789abcdef0123456789abcdef");
    pair.project("guard: {mask: {\"*.*.*.mail\": hmac}}");
    let done = pair.sync(&[]).await.exits(65);
    let all = done.json()["missed"].clone();
    assert_eq!(all[0]["rows"], serde_json::json!(["code=2"]), "{}", done.told());
    assert_eq!((&all[1]["check"], &all[1]["rows"]), (&"sql(sly)".into(), &Value::Null), "{}", done.told());
    assert_eq!((&all[2]["table"], &all[2]["rows"]), (&"public.l".into(), &Value::Null), "{}", done.told());
    assert_eq!((&all[3]["table"], &all[3]["rows"]), (&"public.m".into(), &Value::Null), "{}", done.told());
    let kept = pair.there("SELECT refused_rows FROM sankofa.check_result WHERE NOT passed ORDER BY 1").await;
    assert_eq!(kept, "{}\n{}\n{}\n{code=2}");
    assert!(!done.told().contains("MARKED") && !done.told().contains("77777"), "{}", done.told());
}

#[tokio::test]
async fn an_accepted_miss_publishes_that_run_alone_and_is_kept_with_a_name_and_a_reason() {
    let pair = bench("unique: {columns: [n], scope: table}").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql(TWICE).await;
    pair.sync(&["--run", "monday"]).await.exits(65);
    let accept = ["--run", "monday", "--accept", "public.t: unique(n)"];
    pair.sync(&accept).await.exits(2);
    let other = ["--run", "monday", "--accept", "unique(m)", "--by", "Ama", "--reason", "x"];
    says(&pair.sync(&other).await.exits(2), &["There are: public.t: unique(n)."]);
    let done = pair.sync(&[&accept[..], &OVERRIDE[..]].concat()).await.succeeds();
    assert_eq!((&done.json()["checks_warned"], &missed(&done)["accepted_by"]), (&1.into(), &"Ama".into()));
    says(&done, &["accepted for this run by Ama: forms came late"]);
    assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE n = 1").await, "9");
    let kept = "SELECT run_id, accepted, accepted_because FROM sankofa.checks WHERE NOT passed";
    assert_eq!(pair.there(kept).await, "monday|t|forms came late");
    let shown = pair.sankofa.run(&["state", "show", "p"]).await.succeeds().json()["accepted"][0].clone();
    assert_eq!(
        (&shown["by"], &shown["check"], &shown["run_id"]),
        (&"Ama".into(), &"unique(n)".into(), &"monday".into())
    );
    let status = pair.sankofa.run(&["status"]).await.succeeds();
    says(&status, &["accepted for that run by Ama: forms came late"]);
    assert_eq!(pair.sync(&["--run", "monday"]).await.succeeds().json()["status"], "already_done");
    pair.sync(&["--run", "tuesday"]).await.exits(65);

    pair.command("extract", &["--run", "steps"]).await.succeeds();
    pair.command("validate", &["--run", "steps"]).await.exits(65);
    let by_hand = ["--run", "steps", "--accept", "unique(n)", "--by", "Kofi", "--reason", "known"];
    pair.command("validate", &by_hand).await.succeeds();
    let loaded = pair.command("load", &["--run", "steps"]).await.succeeds(); // as the scheduler starts it
    assert_eq!(missed(&loaded)["accepted_by"], "Kofi");
}

#[tokio::test]
async fn a_table_set_aside_keeps_rows_and_watermark_while_the_others_are_published_until_it_is_loaded() {
    for steps in [false, true] {
        let pair = bench("unique: {columns: [n], scope: table}").await;
        let run = async |id: &str, more: &[&str]| {
            if !steps {
                return pair.sync(&[&["--run", id], more].concat()).await;
            }
            pair.command("extract", &["--run", id]).await.succeeds();
            let done = pair.command("validate", &[&["--run", id], more].concat()).await;
            if done.code() == Some(0) { pair.command("load", &["--run", id]).await } else { done }
        };
        run("friday", &[]).await.succeeds();
        let mark = "SELECT watermark FROM sankofa.watermarks WHERE table_name = 'public.t'";
        let (rows, watermark) = (pair.versions().await, pair.there(mark).await);
        pair.source.sql(TWICE).await;
        pair.source.sql("UPDATE other SET v = 'new'").await;
        run("monday", &[]).await.exits(65);
        let aside = [&["--set-aside", "t"], &OVERRIDE[..]].concat();
        let all = [&["--set-aside", "other"], &aside[..]].concat();
        says(&run("none", &all).await.exits(2), &["every table of it is set aside"]);
        let done = run("monday", &aside).await.succeeds();
        assert_eq!(done.json()["set_aside"], serde_json::json!(["public.t"]));
        says(&done, &["public.t is set aside and stays as it was, by Ama: forms came late"]);
        assert_eq!((pair.versions().await, pair.there(mark).await), (rows, watermark));
        assert_eq!(pair.there("SELECT DISTINCT v FROM w.other").await, "new");
        let open =
            "SELECT table_name, set_aside_because FROM sankofa.freshness WHERE set_aside_at IS NOT NULL";
        assert_eq!(pair.there(open).await, "public.t|forms came late");
        let status = pair.sankofa.run(&["status"]).await;
        says(&status, &["by Ama: forms came late", "set aside since 2"]);
        let shown = pair.sankofa.run(&["state", "show", "p"]).await.succeeds();
        assert_eq!(shown.json()["states"][0]["set_aside"]["by"], "Ama");
        run("tuesday", &[]).await.exits(65);
        assert_eq!(pair.there(open).await, "public.t|forms came late");
        pair.source.sql(MENDED).await;
        run("wednesday", &[]).await.succeeds();
        assert_eq!(pair.there(open).await, "");
        assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE n = id").await, "20");
        pair.sankofa.run(&["status"]).await.succeeds();
    }
}

#[tokio::test]
async fn a_table_whose_key_is_broken_or_whose_schema_is_refused_can_be_set_aside_too() {
    let sql = "CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a');
        CREATE TABLE other (id int PRIMARY KEY, v text); INSERT INTO other VALUES (1, 'o')";
    let text = "on_schema_change: fail\ntables:\n  public.t: {mode: full_refresh, key: [id]}\n  public.other: {mode: full_refresh}";
    let pair = Pair::new(sql, text).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("INSERT INTO t VALUES (1, 'b'); UPDATE other SET v = 'new'").await;
    let aside = [&["--run", "monday", "--set-aside", "public.t"], &OVERRIDE[..]].concat();
    pair.command("extract", &["--run", "monday"]).await.succeeds();
    pair.command("validate", &["--run", "monday"]).await.exits(65);
    pair.command("validate", &aside).await.succeeds();
    pair.command("load", &["--run", "monday"]).await.succeeds();
    assert_eq!(pair.there("SELECT v FROM w.other").await, "new");
    pair.source.sql("DELETE FROM t; ALTER TABLE t ADD w int; UPDATE other SET v = 'newer'").await;
    pair.command("extract", &["--run", "tuesday"]).await.exits(65);
    let aside = [&["--run", "tuesday", "--set-aside", "public.t"], &OVERRIDE[..]].concat();
    pair.command("extract", &aside).await.succeeds();
    pair.command("validate", &["--run", "tuesday"]).await.succeeds();
    pair.command("load", &["--run", "tuesday"]).await.succeeds();
    assert_eq!(pair.there("SELECT v FROM w.other UNION ALL SELECT v FROM w.t").await, "newer\na");
}
