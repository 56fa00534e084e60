//! What changes in the life of a pipeline: `plan` tells it first, and nothing is lost or doubled by it.

use crate::pair::*;

const STAMPED: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    INSERT INTO t SELECT g, '2024-02-28 00:00+00'::timestamptz + g * interval '6 hours', 'a' FROM generate_series(0, 19) g";
const BY_U: &str = "tables: {public.t: {mode: incremental, replication_key: u}}";
const IDS: &str =
    "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE _sankofa_deleted_at IS NULL) FROM";

/// What `plan` says of the pipeline.
async fn planned(pair: &Pair, words: &[&str]) {
    let plan = pair.command("plan", &[]).await.succeeds();
    says(&plan, words);
}

#[tokio::test]
async fn a_table_that_is_added_is_read_whole_beside_the_others_and_one_that_is_dropped_stays_as_it_is() {
    let pair = Pair::new(
        &format!("{STAMPED}; CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1)"),
        BY_U,
    )
    .await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline(
        "tables: {public.t: {mode: incremental, replication_key: u}, public.more: {mode: full_refresh}}",
    );
    planned(&pair, &["rows with u from 2024-03-03 18:00:00.000000+00 on", "CREATE TABLE \"w\".\"more\""])
        .await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "read"), figure_of(&done, "public.more", "inserted")), (1, 1));
    pair.pipeline("tables: {public.more: {mode: full_refresh}}");
    planned(&pair, &["public.t is no longer in the pipeline: w.t stays as it is, and gets no more rows"])
        .await;
    pair.source.sql("INSERT INTO t (id) VALUES (99)").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(&format!("{IDS} w.t")).await, "20|20|20");
    // Taken up again, it goes on from where it was.
    pair.pipeline(BY_U);
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((reason(&done).as_str(), figure(&done, "inserted")), ("", 1));
}

#[tokio::test]
async fn a_pipeline_that_is_renamed_goes_on_from_its_watermark() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.sync(&["--run", "first"]).await.succeeds();
    let file = pair.sankofa.read("pipelines/p.yaml");
    pair.sankofa.write("pipelines/school.yaml", &file);
    std::fs::remove_file(pair.sankofa.folder().join("pipelines/p.yaml")).unwrap();
    let run = async |args: &[&str]| pair.sankofa.run(args).await;
    let plan = run(&["plan", "school"]).await.exits(78);
    says(&plan, &["pipeline p fills it already", "`sankofa state rename p school`"]);
    run(&["sync", "school"]).await.exits(78);
    let dry = run(&["state", "rename", "p", "school", "--dry-run"]).await.succeeds().json();
    assert_eq!((&dry["renamed"], &dry["dry_run"]), (&serde_json::json!(["public.t"]), &true.into()));
    run(&["plan", "school"]).await.exits(78);
    run(&["state", "rename", "p", "school"]).await.succeeds();
    says(&run(&["plan", "school"]).await.succeeds(), &["rows with u from 2024-03-03 18:00:00.000000+00 on"]);
    pair.source.sql("INSERT INTO t (id) VALUES (99)").await;
    let done = run(&["sync", "school"]).await.succeeds();
    assert_eq!((reason(&done).as_str(), figure(&done, "read")), ("", 2));
    assert_eq!(pair.there(&format!("{IDS} w.t")).await, "21|21|21");
    // The runs came along: the same id again is the same run.
    assert_eq!(run(&["sync", "school", "--run", "first"]).await.succeeds().json()["status"], "already_done");
    says(
        &run(&["state", "rename", "p", "school"]).await.exits(65),
        &["the ledger knows nothing of pipeline p"],
    );
    run(&["state", "rename", "school", "school"]).await.exits(2);
}

#[tokio::test]
async fn one_table_goes_to_another_pipeline_with_its_watermark() {
    let pair = Pair::new(
        &format!("{STAMPED}; CREATE TABLE more (id int PRIMARY KEY)"),
        "tables: {public.t: {mode: incremental, replication_key: u}, public.more: {mode: full_refresh}}",
    )
    .await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline("tables: {public.more: {mode: full_refresh}}");
    pair.sankofa.write("pipelines/q.yaml", format!("source: src\nschema: w\n{BY_U}\n"));
    says(&pair.sankofa.run(&["plan", "q"]).await.exits(78), &["`sankofa state rename p q` (with `--table`"]);
    pair.sankofa.run(&["state", "rename", "p", "q", "--table", "public.t"]).await.succeeds();
    for (pipeline, reads) in [("q", "rows with u from 2024-03-03"), ("p", "every row (mode: full_refresh)")] {
        says(&pair.sankofa.run(&["plan", pipeline]).await.succeeds(), &[reads]);
        pair.sankofa.run(&["sync", pipeline]).await.succeeds();
    }
    let again = pair.sankofa.run(&["state", "rename", "p", "q", "--table", "public.t"]).await.exits(65);
    says(&again, &["the ledger knows nothing of public.t of pipeline p"]);
}

#[tokio::test]
async fn a_schema_that_moves_in_the_warehouse_is_filled_anew_or_goes_on_when_its_tables_move_too() {
    for moved_by_hand in [false, true] {
        let pair = Pair::new(STAMPED, BY_U).await;
        pair.sync(&[]).await.succeeds();
        let file = pair.sankofa.read("pipelines/p.yaml").replace("schema: w", "schema: school");
        pair.sankofa.write("pipelines/p.yaml", file);
        if moved_by_hand {
            pair.warehouse.sql("CREATE SCHEMA school; ALTER TABLE w.t SET SCHEMA school").await;
        }
        let words = if moved_by_hand {
            "rows with u from"
        } else {
            "every row (its target was w.t, which stays as it is)"
        };
        planned(&pair, &[words]).await;
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(figure(&done, "read"), if moved_by_hand { 1 } else { 20 });
        assert_eq!(pair.there(&format!("{IDS} school.t")).await, "20|20|20");
        assert_eq!(
            pair.there("SELECT to_regclass('w.t') IS NULL").await,
            if moved_by_hand { "t" } else { "f" }
        );
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(reason(&done), "");
    }
}

#[tokio::test]
async fn a_table_that_moves_at_the_source_fills_the_same_table_and_writes_only_what_differs() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.sync(&[]).await.succeeds();
    let before = pair.versions().await;
    pair.source.sql("CREATE SCHEMA hr; ALTER TABLE t SET SCHEMA hr").await;
    pair.pipeline("tables: {hr.t: {mode: incremental, replication_key: u}}");
    planned(&pair, &["every row (first load; w.t was filled from public.t until now)"]).await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure_of(&done, "hr.t", "read"), figure_of(&done, "hr.t", "updated")), (20, 0));
    assert_eq!(pair.versions().await, before, "no row was written");
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(figure_of(&done, "hr.t", "read"), 1);
    assert_eq!(pair.there("SELECT table_name FROM sankofa.table_state").await, "hr.t");
}

#[tokio::test]
async fn another_key_is_announced_with_its_lock_and_waits_for_leave() {
    let pair =
        Pair::new(&STAMPED.replace("v text", "v text, code text NOT NULL DEFAULT gen_random_uuid()"), BY_U)
            .await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline("tables: {public.t: {mode: incremental, replication_key: u, key: code}}");
    let plan = pair.command("plan", &[]).await.exits(65);
    says(&plan, &["the key was (id), is (code)", "--allow-rewrite"]);
    let plan = pair.command("plan", &["--allow-rewrite"]).await.succeeds();
    says(&plan, &["ADD PRIMARY KEY (code) in place of the old one", "every row (the schema has changed)"]);
    pair.sync(&[]).await.exits(65);
    pair.sync(&["--allow-rewrite"]).await.succeeds();
    assert_eq!(pair.there(&format!("{IDS} w.t")).await, "20|20|20");
    pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp() WHERE id = 3").await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((reason(&done).as_str(), figure(&done, "updated")), ("", 1));
}

#[tokio::test]
async fn another_replication_key_reads_every_row_once_and_says_why() {
    let pair = Pair::new(
        &STAMPED.replace("v text", "v text, changed timestamptz NOT NULL DEFAULT clock_timestamp()"),
        BY_U,
    )
    .await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline("tables: {public.t: {mode: incremental, replication_key: changed}}");
    planned(&pair, &["every row (the replication key was u)", "\"replication_key\":\"changed\""]).await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((reason(&done).as_str(), figure(&done, "updated")), ("the replication key was u", 0));
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(reason(&done), "");
}

#[tokio::test]
async fn a_first_load_in_windows_by_day_is_the_same_as_one_at_once_also_after_one_that_failed() {
    let table = format!("{STAMPED}; CREATE TABLE o AS SELECT * FROM t; ALTER TABLE o ADD PRIMARY KEY (id)");
    let pair = Pair::new(
        &table,
        "tables:\n  public.t: {mode: incremental, replication_key: u, checks: {rows: {min: 1, max_change: 30%}}}\n  \
         public.o: {mode: append, replication_key: id}\n",
    )
    .await;
    let plan = pair.command("plan", &["--table", "public.t", "--until", "2024-02-29"]).await.succeeds();
    says(&plan, &["rows with u from the start to 2024-02-29 00:00:00.000000+00", "the watermark goes there"]);
    says(
        &pair.sync(&["--table", "public.t", "--from", "2024-02-28", "--to", "2024-02-29"]).await.exits(65),
        &["part by part with --until"],
    );
    let mut all = 0;
    for day in ["2024-02-29", "2024-03-01", "2024-03-01", "2024-03-02", "2024-03-03"] {
        let run = format!("first-load/{day}");
        let done = pair.steps(&run, &["--table", "public.t", "--until", day]).await.succeeds();
        if done.json()["status"] != "already_done" {
            all += figure(&done, "read");
        }
        let mark = pair.there("SELECT watermark FROM sankofa.watermarks WHERE table_name = 'public.t'").await;
        assert_eq!(&mark[..10], day);
        assert_eq!(pair.there(&format!("SELECT count(*) FROM w.t WHERE u >= '{day}'")).await, "0");
    }
    // What comes to a day that was read already is stamped later, and comes with a later part.
    pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp() WHERE id = 1").await;
    let plan = pair.command("plan", &["--table", "public.t"]).await.succeeds();
    says(&plan, &["rows with u from 2024-03-03 00:00:00.000000+00 on"]);
    let done = pair.sync(&["--table", "public.t"]).await.succeeds();
    assert_eq!((all, figure(&done, "read"), reason(&done).as_str()), (16, 5, ""));
    let same = "SELECT md5(string_agg(id || v || u::timestamptz(0), ',' ORDER BY id)) FROM";
    assert_eq!(pair.there(&format!("{same} w.t")).await, lines(&pair.source, &format!("{same} t")).await);
    // By number: each part reads the one before once more, since a sequence commits out of order.
    for until in ["5", "10", "15", "100"] {
        pair.sync(&["--table", "public.o", "--until", until]).await.succeeds();
    }
    pair.sync(&["--table", "public.o"]).await.succeeds();
    assert_eq!(pair.there(&format!("{IDS} w.o")).await, "20|20|20");
    for no_point_of_it in ["2024-03-01", "2023-02-29"] {
        pair.sync(&["--table", "public.o", "--until", no_point_of_it]).await.exits(2);
    }
    pair.pipeline("tables: {public.t: {mode: full_refresh}}");
    pair.sync(&["--until", "2024-03-01"]).await.exits(78);
}

#[tokio::test]
async fn a_part_is_refused_where_every_row_is_needed() {
    let pair = Pair::new(STAMPED, BY_U).await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline("tables: {public.t: {mode: incremental, replication_key: u, filter: id > 3}}");
    let done = pair.sync(&["--until", "2024-03-01"]).await.exits(65);
    says(&done, &["all its rows have to be read (filter or masks have changed)"]);
    assert_eq!(pair.there(&format!("{IDS} w.t")).await, "20|20|20");
}
