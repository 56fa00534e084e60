//! A source that changes its schema, and a warehouse table that others depend on.

use crate::pair::*;
use crate::support::*;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, u timestamptz DEFAULT clock_timestamp(), v varchar(20), n int);
    INSERT INTO t SELECT g, now() - (21 - g) * interval '1 min', 'v' || g, g FROM generate_series(1, 20) g";

fn tables(mode: &str, policy: &str) -> String {
    let key = if mode == "incremental" { ", replication_key: u" } else { "" };
    format!("on_schema_change: {policy}\ntables: {{public.t: {{mode: {mode}{key}}}}}")
}

/// Loads, changes the source, loads again; for every mode. Returns the second run and the pair.
async fn changed(mode: &str, policy: &str, change: &str, more: &[&str]) -> (Finished, Pair) {
    let pair = Pair::new(TABLE, &tables(mode, policy)).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql(change).await;
    let done = pair.sync(more).await;
    (done, pair)
}

/// The columns both sides have, compared row by row as text.
async fn equal(pair: &Pair, columns: &str) {
    let ours =
        pair.there(&format!("SELECT {columns} FROM w.t WHERE _sankofa_deleted_at IS NULL ORDER BY id")).await;
    assert_eq!(ours, lines(&pair.source, &format!("SELECT {columns} FROM t ORDER BY id")).await);
}

const MODES: [&str; 2] = ["incremental", "full_refresh"];
const ADD: &str = "ALTER TABLE t ADD w int DEFAULT 7; UPDATE t SET u = clock_timestamp() WHERE id = 3";

#[tokio::test]
async fn an_added_column_is_taken_with_all_its_values_by_full_refresh() {
    for mode in MODES {
        let (done, pair) = changed(mode, "full_refresh", ADD, &[]).await;
        says(&done.succeeds(), &["is new"]);
        equal(&pair, "id, v, n, w").await;
    }
}

#[tokio::test]
async fn an_added_column_is_taken_for_new_rows_by_evolve() {
    let (done, pair) = changed("incremental", "evolve", ADD, &[]).await;
    assert_eq!(reason(&done.succeeds()), "");
    assert_eq!(pair.there("SELECT w FROM w.t WHERE id = 3").await, "7");
    assert_ne!(pair.there("SELECT count(*) FROM w.t WHERE w IS NULL").await, "0");
    pair.sync(&["--table", "public.t", "--full-refresh"]).await.succeeds();
    equal(&pair, "id, v, n, w").await;
}

#[tokio::test]
async fn any_change_is_refused_by_fail_before_a_row_moves_and_accepted_by_hand() {
    for (change, words) in [
        (ADD, "\"w\" (integer) is new"),
        ("ALTER TABLE t DROP COLUMN n", "\"n\" is gone"),
        ("ALTER TABLE t ALTER v TYPE varchar(30)", "was character varying(20), is character varying(30)"),
    ] {
        let (done, pair) = changed("incremental", "fail", change, &[]).await;
        let before = pair.versions().await;
        says(&done.exits(65), &[words, "--full-refresh"]);
        assert_eq!(pair.versions().await, before);
        pair.sync(&["--table", "public.t", "--full-refresh"]).await.succeeds();
        pair.sync(&[]).await.succeeds();
    }
}

#[tokio::test]
async fn a_dropped_column_stays_and_is_null_in_every_row_written_since() {
    for mode in MODES {
        let change =
            "ALTER TABLE t DROP COLUMN n; UPDATE t SET v = 'new', u = clock_timestamp() WHERE id = 3";
        let (done, pair) = changed(mode, "full_refresh", change, &[]).await;
        says(&done.succeeds(), &["\"n\" is gone"]);
        assert_eq!(pair.there("SELECT count(*), count(n) FROM w.t").await, "20|0");
        equal(&pair, "id, v").await;
        let again = pair.sync(&[]).await.succeeds();
        assert_eq!((figure(&again, "inserted"), figure(&again, "updated")), (0, 0));
    }
}

#[tokio::test]
async fn a_dropped_column_goes_where_drop_is_set() {
    let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh, drop: true}}").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("ALTER TABLE t DROP COLUMN n").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(
        pair.there("SELECT count(*) FROM pg_attribute WHERE attrelid = 'w.t'::regclass AND attname = 'n'")
            .await,
        "0"
    );
    pair.sync(&[]).await.succeeds();
}

#[tokio::test]
async fn a_column_that_comes_back_lives_again_with_its_type_or_with_another() {
    for (back, rewrite) in [("int", false), ("text", true)] {
        let (done, pair) = changed("full_refresh", "full_refresh", "ALTER TABLE t DROP COLUMN n", &[]).await;
        done.succeeds();
        pair.source.sql(&format!("ALTER TABLE t ADD n {back}; UPDATE t SET n = '5'")).await;
        if rewrite {
            says(&pair.sync(&[]).await.exits(65), &["--allow-rewrite"]);
        }
        pair.sync(&["--allow-rewrite"]).await.succeeds();
        equal(&pair, "id, v, n").await;
        pair.sync(&[]).await.succeeds();
    }
}

#[tokio::test]
async fn a_renamed_column_is_told_as_what_it_may_be() {
    let (done, pair) = changed("incremental", "full_refresh", "ALTER TABLE t RENAME n TO m", &[]).await;
    says(&done.succeeds(), &["it may be \"n\" under another name"]);
    equal(&pair, "id, v, m").await;
}

#[tokio::test]
async fn a_wider_varchar_is_taken_in_place_by_every_policy_but_fail() {
    for policy in ["evolve", "full_refresh"] {
        let change =
            "ALTER TABLE t ALTER v TYPE varchar(40); UPDATE t SET v = repeat('w', 40), u = clock_timestamp()";
        let (done, pair) = changed("incremental", policy, change, &[]).await;
        done.succeeds();
        equal(&pair, "id, v, n").await;
        assert_eq!(pair.there("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'w.t'::regclass AND attname = 'v'").await, "character varying(40)");
    }
}

#[tokio::test]
async fn a_change_that_rewrites_waits_for_allow_rewrite() {
    for policy in ["evolve", "full_refresh"] {
        let change =
            "ALTER TABLE t ALTER n TYPE bigint; UPDATE t SET n = n + 5000000000, u = clock_timestamp()";
        let (done, pair) = changed("incremental", policy, change, &[]).await;
        let before = pair.versions().await;
        says(&done.exits(65), &["--allow-rewrite", "was integer, is bigint"]);
        assert_eq!(pair.versions().await, before);
        pair.sync(&["--allow-rewrite"]).await.succeeds();
        equal(&pair, "id, v, n").await;
    }
}

#[tokio::test]
async fn an_incompatible_type_is_refused_by_evolve_and_read_again_by_full_refresh() {
    let change = "ALTER TABLE t ALTER n TYPE text USING 'x' || n";
    let (done, _pair) = changed("incremental", "evolve", change, &["--allow-rewrite"]).await;
    says(&done.exits(65), &["was integer, is text"]);
    let (done, pair) = changed("incremental", "full_refresh", change, &["--allow-rewrite"]).await;
    says(&done.succeeds(), &["the schema has changed"]);
    equal(&pair, "id, v, n").await;
    let (done, pair) = changed(
        "incremental",
        "full_refresh",
        "UPDATE t SET v = id, u = clock_timestamp(); ALTER TABLE t ALTER v TYPE int USING v::int",
        &["--allow-rewrite"],
    )
    .await;
    done.succeeds();
    equal(&pair, "id, v, n").await;
}

#[tokio::test]
async fn nullability_and_labels_are_noted_and_change_nothing() {
    let table = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, u timestamptz DEFAULT now(), v mood);
                 INSERT INTO t VALUES (1, now(), 'ok')";
    let pair = Pair::new(table, &tables("incremental", "fail")).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("ALTER TYPE mood ADD VALUE 'glad'").await;
    pair.source
        .sql("ALTER TABLE t ALTER v SET NOT NULL; INSERT INTO t VALUES (2, clock_timestamp(), 'glad')")
        .await;
    let done = pair.sync(&[]).await.succeeds();
    says(&done, &["labels of column", "NOT NULL now"]);
    equal(&pair, "id, v").await;
    assert_eq!(pair.there("SELECT max(version) FROM sankofa.contract").await, "2");
    pair.source
        .sql("ALTER TABLE t ALTER v DROP NOT NULL; INSERT INTO t VALUES (3, clock_timestamp(), NULL)")
        .await;
    pair.sync(&[]).await.succeeds();
    equal(&pair, "id, v").await;
}

#[tokio::test]
async fn another_key_is_refused_by_evolve_and_rebuilt_by_full_refresh() {
    let change = "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, n)";
    let (done, _pair) = changed("incremental", "evolve", change, &["--allow-rewrite"]).await;
    says(&done.exits(65), &["the key was (id), is (id, n)"]);
    for mode in MODES {
        let (done, pair) = changed(mode, "full_refresh", change, &[]).await;
        done.exits(65);
        pair.sync(&["--allow-rewrite"]).await.succeeds();
        equal(&pair, "id, v, n").await;
        assert_eq!(pair.there("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'w.t'::regclass AND contype = 'p'").await, "PRIMARY KEY (id, n)");
        pair.source.sql("INSERT INTO t VALUES (1, clock_timestamp(), 'twin', 99)").await;
        pair.sync(&[]).await.succeeds();
        equal(&pair, "id, v, n").await;
    }
}

#[tokio::test]
async fn a_view_in_the_way_is_named_and_everything_stays_as_it_was() {
    for (kind, change, drop) in [
        ("VIEW", "ALTER TABLE t ALTER n TYPE bigint", false),
        ("MATERIALIZED VIEW", "ALTER TABLE t ALTER n TYPE bigint", false),
        ("VIEW", "ALTER TABLE t ALTER v TYPE varchar(40)", false),
        ("VIEW", "ALTER TABLE t DROP COLUMN n", true),
    ] {
        let pair =
            Pair::new(TABLE, &format!("tables: {{public.t: {{mode: full_refresh, drop: {drop}}}}}")).await;
        pair.sync(&[]).await.succeeds();
        pair.warehouse.sql(&format!("CREATE {kind} public.report AS SELECT id, v, n FROM w.t")).await;
        pair.source.sql(change).await;
        pair.source.sql("UPDATE t SET id = id + 1 WHERE id = 20").await;
        let before = pair.versions().await;
        let done = pair.sync(&["--allow-rewrite"]).await.exits(65);
        says(&done, &["report depend"]);
        assert_eq!(pair.versions().await, before, "{kind} {change}");
        pair.warehouse.sql(&format!("DROP {kind} public.report")).await;
        pair.sync(&["--allow-rewrite"]).await.succeeds();
    }
}

/// All that makes a relation what it is.
const IDENTITY: &str = "SELECT c.oid, c.relacl, c.relowner::regrole, obj_description(c.oid), c.relrowsecurity,
    (SELECT string_agg(indexrelid::regclass::text, ',' ORDER BY indexrelid) FROM pg_index WHERE indrelid = c.oid),
    (SELECT string_agg(polname, ',') FROM pg_policy WHERE polrelid = c.oid),
    (SELECT string_agg(attname || ':' || coalesce(attstattarget::text, '-') || coalesce(col_description(c.oid, attnum), ''), ',' ORDER BY attnum)
     FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
    (SELECT string_agg(stxname, ',') FROM pg_statistic_ext WHERE stxrelid = c.oid),
    (SELECT string_agg(tgname, ',') FROM pg_trigger WHERE tgrelid = c.oid)
    FROM pg_class c WHERE c.oid = 'w.t'::regclass";

#[tokio::test]
async fn a_full_refresh_and_a_compatible_change_keep_the_relation_and_all_that_hangs_on_it() {
    let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh}}").await;
    pair.sync(&[]).await.succeeds();
    let owner = pair.warehouse.server().role("analyst", "").await;
    let dress = format!(
        "ALTER TABLE w.t OWNER TO {owner}; GRANT SELECT ON w.t TO {owner}, pg_monitor; COMMENT ON TABLE w.t IS 'ours';
         COMMENT ON COLUMN w.t.v IS 'words'; CREATE INDEX by_v ON w.t (v); ALTER TABLE w.t ALTER v SET STATISTICS 500;
         CREATE STATISTICS pairs ON v, n FROM w.t; ALTER TABLE w.t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY everybody ON w.t USING (true);
         CREATE VIEW w.seen AS SELECT id, v FROM w.t; CREATE MATERIALIZED VIEW w.kept AS SELECT id, v FROM w.t"
    );
    pair.warehouse.sql(&dress).await;
    let before = pair.there(IDENTITY).await;
    pair.source
        .sql("UPDATE t SET v = 'other' WHERE id < 10; DELETE FROM t WHERE id > 18; INSERT INTO t VALUES (99)")
        .await;
    pair.sync(&["--table", "public.t", "--full-refresh"]).await.succeeds();
    assert_eq!(pair.there(IDENTITY).await, before);
    assert_eq!(pair.there("SELECT count(*) FROM w.seen WHERE v = 'other'").await, "9");
    pair.warehouse.sql("REFRESH MATERIALIZED VIEW w.kept").await;
    assert_eq!(pair.there("SELECT count(*) FROM w.kept WHERE v = 'other'").await, "9");
    pair.source.sql("ALTER TABLE t ADD w int DEFAULT 3").await;
    pair.sync(&[]).await.succeeds();
    equal(&pair, "id, v, n, w").await;
    let after = pair.there(IDENTITY).await;
    assert_eq!(after.replace(",w:-", ""), before);
    pair.warehouse.sql("DROP MATERIALIZED VIEW w.kept; DROP VIEW w.seen").await;
}

#[tokio::test]
async fn a_warehouse_table_altered_by_hand_is_refused_and_a_dropped_one_loaded_anew() {
    let pair = Pair::new(TABLE, &tables("incremental", "full_refresh")).await;
    pair.sync(&[]).await.succeeds();
    pair.warehouse.sql("ALTER TABLE w.t ALTER n TYPE text").await;
    says(&pair.sync(&[]).await.exits(65), &["\"n\" is not integer"]);
    pair.warehouse.sql("ALTER TABLE w.t ALTER n TYPE int USING n::int; ALTER TABLE w.t DROP v").await;
    says(&pair.sync(&[]).await.exits(65), &["\"v\""]);
    pair.warehouse.sql("DROP TABLE w.t").await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!(reason(&done), "the warehouse table is gone");
    equal(&pair, "id, v, n").await;
    pair.warehouse.sql("ALTER TABLE w.t ADD note text; UPDATE w.t SET note = 'mine'").await;
    pair.source.sql("UPDATE t SET v = 'x', u = clock_timestamp() WHERE id = 1").await;
    pair.sync(&[]).await.succeeds();
    pair.sync(&["--table", "public.t", "--full-refresh"]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE note = 'mine'").await, "20");
}

#[tokio::test]
async fn a_relation_of_that_name_that_is_not_ours_is_refused() {
    for made in [
        "CREATE TABLE w.t (id int PRIMARY KEY, v text)",
        "CREATE VIEW w.t AS SELECT 1 AS id",
        "CREATE VIEW w.t AS SELECT 1 AS id, NULL::timestamptz AS u, ''::varchar(20) AS v, 1 AS n, 1::bigint AS _sankofa_run, now() AS _sankofa_loaded_at, now() AS _sankofa_deleted_at",
        "CREATE EXTENSION file_fdw; CREATE SERVER f FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE w.t (id int) SERVER f OPTIONS (filename '/dev/null')",
        "CREATE MATERIALIZED VIEW w.t AS SELECT 1 AS id",
        "CREATE SEQUENCE w.t",
        "CREATE TYPE w.t AS (a int)",
    ] {
        let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh}}").await;
        pair.warehouse.sql(&format!("CREATE SCHEMA w; {made}")).await;
        let done = pair.sync(&[]).await;
        assert_eq!(done.code(), Some(78), "{made}: {}", done.told());
    }
}

#[tokio::test]
async fn a_target_that_another_pipeline_fills_is_refused_before_a_row_moves() {
    let pair = Pair::new(TABLE, "tables: {public.t: {mode: full_refresh}}").await;
    pair.sync(&[]).await.succeeds();
    pair.sankofa
        .write("pipelines/q.yaml", "source: src\nschema: w\ntables: {public.t: {mode: full_refresh}}");
    let before = pair.versions().await;
    let done = pair.sankofa.run(&["sync", "q"]).await.exits(78);
    says(&done, &["w.t", "pipeline p"]);
    assert_eq!(pair.versions().await, before);
}

#[tokio::test]
async fn a_table_without_a_key_keeps_its_duplicates_and_only_the_difference_is_written() {
    let table = "CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, NULL), (2, NULL), (3, 'c')";
    let pair =
        Pair::new(table, "tables: {public.t: {mode: full_refresh, deletes: {mode: hard, at_most: 100%}}}")
            .await;
    pair.sync(&[]).await.succeeds();
    equal(&pair, "id, v").await;
    pair.source.sql("DELETE FROM t WHERE ctid = '(0,1)'; INSERT INTO t VALUES (2, NULL), (4, 'd'); UPDATE t SET v = 'C' WHERE id = 3").await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "inserted"), figure(&done, "deleted")), (3, 2), "{}", done.told());
    let sorted = "SELECT id, v FROM {} ORDER BY id, v";
    assert_eq!(
        pair.there(&sorted.replace("{}", "w.t")).await,
        lines(&pair.source, &sorted.replace("{}", "t")).await
    );
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "inserted"), figure(&done, "deleted")), (0, 0));
}

#[tokio::test]
async fn a_table_without_a_key_cannot_be_incremental() {
    let pair = Pair::new("CREATE TABLE t (id int, u timestamptz)", &tables("incremental", "evolve")).await;
    says(&pair.sync(&[]).await.exits(78), &["no primary key"]);
}

#[tokio::test]
async fn a_table_of_key_columns_only_merges() {
    for mode in ["{mode: full_refresh}", "{mode: incremental, replication_key: b}"] {
        let table =
            "CREATE TABLE t (id int, b int, PRIMARY KEY (id, b)); INSERT INTO t VALUES (1, 1), (1, 2)";
        let pair = Pair::new(table, &format!("tables: {{public.t: {mode}}}")).await;
        pair.sync(&[]).await.succeeds();
        pair.source.sql("INSERT INTO t VALUES (2, 3)").await;
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!((figure(&done, "inserted"), figure(&done, "updated")), (1, 0));
        equal(&pair, "id, b").await;
    }
}

#[tokio::test]
async fn duplicate_and_null_keys_of_a_configured_key_are_refused_with_nothing_published() {
    for bad in ["(1, now(), 'twin')", "(NULL, now(), 'none')"] {
        for mode in ["full_refresh", "incremental"] {
            let key = if mode == "incremental" { ", replication_key: u" } else { "" };
            let pipeline = format!("tables: {{public.t: {{mode: {mode}, key: id{key}}}}}");
            let table =
                "CREATE TABLE t (id int, u timestamptz DEFAULT now(), v text); INSERT INTO t VALUES (1)";
            let pair = Pair::new(table, &pipeline).await;
            pair.source.sql(&format!("INSERT INTO t VALUES {bad}")).await;
            says(&pair.sync(&[]).await.exits(65), &["keys (id)"]);
            assert_eq!(pair.there("SELECT to_regclass('w.t')").await, "-");
            pair.source.sql("DELETE FROM t WHERE v IS NOT NULL").await;
            pair.sync(&[]).await.succeeds();
            pair.source
                .sql(&format!("INSERT INTO t VALUES {}", bad.replace("now()", "clock_timestamp()")))
                .await;
            let before = pair.versions().await;
            says(&pair.sync(&[]).await.exits(65), &["keys (id)"]);
            assert_eq!(pair.versions().await, before);
        }
    }
}
