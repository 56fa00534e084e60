//! Rows that are gone from the source: marked, removed or left, and the brake.

use crate::pair::*;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    INSERT INTO t SELECT g, clock_timestamp(), 'a' FROM generate_series(1, 20) g";
const LIVE: &str = "SELECT count(*) FILTER (WHERE _sankofa_deleted_at IS NULL), count(*) FROM w.t";

fn pipeline(mode: &str, deletes: &str) -> String {
    let deletes =
        if mode == "full_refresh" { deletes.replace(", every: 0s", "") } else { deletes.to_owned() };
    let key = if mode == "full_refresh" { "" } else { ", replication_key: u" };
    format!("tables: {{public.t: {{mode: {mode}{key}, deletes: {deletes}}}}}")
}

#[tokio::test]
async fn a_row_that_is_gone_is_marked_removed_or_left_as_the_pipeline_says() {
    for mode in ["incremental", "full_refresh"] {
        for (deletes, live) in [
            ("{mode: soft, every: 0s}", "18|20"),
            ("{mode: hard, every: 0s}", "18|18"),
            ("{mode: ignore}", "20|20"),
        ] {
            let pair = Pair::new(TABLE, &pipeline(mode, deletes)).await;
            pair.sync(&[]).await.succeeds();
            pair.source.sql("DELETE FROM t WHERE id IN (3, 4)").await;
            let done = pair.sync(&[]).await.succeeds();
            assert_eq!(pair.there(LIVE).await, live, "{mode} {deletes}: {}", done.told());
            let again = pair.sync(&[]).await.succeeds();
            assert_eq!((figure(&again, "deleted"), pair.there(LIVE).await.as_str()), (0, live));
        }
    }
}

#[tokio::test]
async fn a_marked_key_that_comes_back_lives_again() {
    for mode in ["incremental", "full_refresh"] {
        let pair = Pair::new(TABLE, &pipeline(mode, "{mode: soft, every: 0s}")).await;
        pair.sync(&[]).await.succeeds();
        pair.source.sql("DELETE FROM t WHERE id = 3").await;
        pair.sync(&[]).await.succeeds();
        pair.source.sql("INSERT INTO t VALUES (3, clock_timestamp(), 'a')").await;
        pair.sync(&[]).await.succeeds();
        assert_eq!(pair.there(LIVE).await, "20|20");
        assert_eq!(pair.there("SELECT live_rows FROM sankofa.table_state").await, "20");
    }
}

#[tokio::test]
async fn a_key_that_comes_back_with_its_old_stamp_lives_again_once_keys_are_compared() {
    let pair = Pair::new(TABLE, &pipeline("incremental", "{mode: soft, every: 0s}")).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("CREATE TABLE aside AS SELECT * FROM t WHERE id = 3; DELETE FROM t WHERE id = 3").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("INSERT INTO t SELECT * FROM aside").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(LIVE).await, "20|20");
}

#[tokio::test]
async fn keys_are_compared_as_often_as_every_says() {
    let pair = Pair::new(TABLE, &pipeline("incremental", "{mode: soft, every: 1d}")).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("DELETE FROM t WHERE id = 3").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(LIVE).await, "20|20");
    pair.warehouse.sql("UPDATE sankofa.table_state SET deletes_at = deletes_at - interval '25 h'").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(LIVE).await, "19|20");
}

#[tokio::test]
async fn more_deletes_than_at_most_stop_the_run_and_allow_deletes_lets_it_pass() {
    for mode in ["incremental", "full_refresh"] {
        let pair = Pair::new(TABLE, &pipeline(mode, "{mode: soft, every: 0s, at_most: 10%}")).await;
        pair.sync(&[]).await.succeeds();
        pair.source.sql("DELETE FROM t WHERE id <= 2").await;
        pair.sync(&[]).await.succeeds(); // 10 % is not more than 10 %
        pair.source.sql("DELETE FROM t WHERE id <= 5; INSERT INTO t VALUES (99)").await;
        let done = pair.sync(&[]).await.exits(65);
        says(&done, &["3 of 18 rows are gone", "--allow-deletes"]);
        assert_eq!(pair.there("SELECT count(*) FROM w.t WHERE id = 99").await, "0");
        pair.sync(&["--allow-deletes"]).await.succeeds();
        assert_eq!(pair.there(LIVE).await, "16|21");
    }
}

#[tokio::test]
async fn an_emptied_source_does_not_empty_the_warehouse() {
    for mode in ["incremental", "full_refresh"] {
        for deletes in ["{mode: soft, every: 0s}", "{mode: hard, every: 0s}"] {
            let pair = Pair::new(TABLE, &pipeline(mode, deletes)).await;
            pair.sync(&[]).await.succeeds();
            pair.source.sql("TRUNCATE t").await;
            pair.sync(&[]).await.exits(65);
            pair.steps("steps", &[]).await.exits(65);
            assert_eq!(pair.there(LIVE).await, "20|20");
        }
    }
}

#[tokio::test]
async fn an_emptied_source_without_a_key_does_not_empty_the_warehouse() {
    let table = "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)";
    let pair = Pair::new(table, "tables: {public.t: {mode: full_refresh}}").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("DELETE FROM t WHERE id < 10").await;
    pair.sync(&[]).await.exits(65);
    assert_eq!(pair.there(LIVE).await, "10|10");
}

#[tokio::test]
async fn a_row_that_leaves_the_filter_counts_as_deleted() {
    for mode in ["incremental", "full_refresh"] {
        let key = if mode == "full_refresh" { "" } else { ", replication_key: u" };
        let filtered = |filter: &str| {
            let every = if mode == "full_refresh" { "" } else { ", every: 0s" };
            format!(
                "tables: {{public.t: {{mode: {mode}{key}, filter: \"{filter}\", deletes: {{mode: soft{every}}}}}}}"
            )
        };
        let pair = Pair::new(TABLE, &filtered("v = 'a'")).await;
        pair.sync(&[]).await.succeeds();
        pair.source.sql("UPDATE t SET v = 'b', u = clock_timestamp() WHERE id = 3").await;
        pair.sync(&[]).await.succeeds();
        assert_eq!(pair.there("SELECT id FROM w.t WHERE _sankofa_deleted_at IS NOT NULL").await, "3");
        pair.pipeline(&filtered("v = 'a' AND id <> 5"));
        pair.sync(&[]).await.succeeds();
        assert_eq!(pair.there(LIVE).await, "18|20");
    }
}

#[tokio::test]
async fn an_append_table_is_never_compared() {
    let pair = Pair::new(TABLE, "defaults: {deletes: {mode: hard, every: 0s}}\ntables: {public.t: {mode: append, replication_key: id}}").await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("DELETE FROM t WHERE id < 5; INSERT INTO t VALUES (99)").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(LIVE).await, "21|21");
}
