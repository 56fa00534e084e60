//! Hours that come twice, zones that differ, clocks that jump: no row is missed by any of them.

use crate::pair::*;
use crate::support::*;

const LOCAL: &str = "CREATE TABLE t (id int PRIMARY KEY, u timestamp NOT NULL, v text)";
const IDS: &str = "SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t";

fn by_u(more: &str) -> String {
    format!("tables: {{public.t: {{mode: incremental, replication_key: u{more}}}}}")
}

#[tokio::test]
async fn rows_of_the_second_pass_of_an_autumn_hour_are_read_although_stamped_before_the_watermark() {
    let pair = Pair::new(LOCAL, &by_u(", timezone: Europe/Berlin")).await;
    pair.source.sql("INSERT INTO t VALUES (1, '2025-10-26 00:30'), (2, '2025-10-26 02:50')").await;
    pair.sync(&[]).await.succeeds();
    // The clock is set back from 03:00 to 02:00.
    pair.source.sql("INSERT INTO t VALUES (3, '2025-10-26 02:00'), (4, '2025-10-26 02:49')").await;
    let plan = pair.command("plan", &[]).await.succeeds();
    says(&plan, &["rows with u from 2025-10-26 01:50:00.000000 on"]);
    says(&plan, &["less what the clock of Europe/Berlin repeats there"]);
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((figure(&done, "read"), reason(&done).as_str()), (3, ""), "{}", done.told());
    assert_eq!(pair.there(IDS).await, "1,2,3,4");
    // Behind the hour, no more is read than elsewhere; nor in spring, when an hour is left out.
    for (stamp, read) in [("2025-10-26 03:00", 4), ("2026-03-29 01:59", 2), ("2026-03-29 03:00", 2)] {
        pair.source.sql(&format!("INSERT INTO t SELECT max(id) + 1, '{stamp}' FROM t")).await;
        let done = pair.sync(&[]).await.succeeds();
        assert_eq!(figure(&done, "read"), read, "{stamp}: {}", done.told());
    }
    assert_eq!(pair.there(IDS).await, "1,2,3,4,5,6,7");
}

#[tokio::test]
async fn the_zone_of_the_database_counts_and_not_that_of_our_role_and_is_warned_of() {
    let server = Server::with_settings(16, &[]); // alone: other tests' transactions would hold us back
    let mut pair = Pair::on(&server, &server, LOCAL, &by_u("")).await;
    let role = server.role("zoned", "SUPERUSER").await;
    let database = quote(pair.source.name());
    server.sql(&format!("ALTER DATABASE {database} SET TimeZone = 'Asia/Kolkata'")).await;
    server.sql(&format!("ALTER ROLE {} SET TimeZone = 'Pacific/Auckland'", quote(&role))).await;
    pair.sankofa = pair.sankofa.connection_uri("src", &pair.source.connection_uri_as(&role));
    pair.source.sql("INSERT INTO t VALUES (0, localtimestamp)").await;
    says(
        &pair.sync(&[]).await.succeeds(),
        &["u has no time zone; it is read as Asia/Kolkata: set `timezone:`"],
    );
    let open = pair.source.connect().await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (1, localtimestamp)").await.unwrap();
    pair.source.sql("INSERT INTO t VALUES (2, localtimestamp)").await;
    pair.sync(&[]).await.succeeds();
    open.batch_execute("COMMIT").await.unwrap();
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there(IDS).await, "0,1,2");
}

#[tokio::test]
async fn freshness_of_a_stamp_without_zone_is_measured_in_its_zone() {
    let stamp = "INSERT INTO t VALUES (1, clock_timestamp() AT TIME ZONE 'Pacific/Honolulu')";
    let fresh = ", timezone: Pacific/Honolulu, checks: {freshness: {u: 1h}}";
    let pair = Pair::new(&format!("{LOCAL}; {stamp}"), &by_u(fresh)).await;
    pair.sync(&[]).await.succeeds();
    pair.pipeline(&by_u(", timezone: Asia/Tokyo, checks: {freshness: {u: 1h}}"));
    says(&pair.sync(&[]).await.exits(65), &["freshness(u)"]);
}

#[tokio::test]
async fn a_source_clock_that_ran_ahead_and_was_set_right_loses_no_row() {
    let table =
        "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
        INSERT INTO t VALUES (1, DEFAULT), (2, now() + interval '1 year')";
    let pair = Pair::new(table, &by_u("")).await;
    pair.sync(&[]).await.succeeds();
    // As a run has left it that was made while the clock was a year ahead.
    pair.warehouse
        .sql(
            "UPDATE sankofa.table_state SET watermark = watermark || jsonb_build_object('clock', (watermark->>'clock')::int8
             + 31536000000000, 'value', (watermark->>'high')::int8, 'past', '[]'::jsonb)",
        )
        .await;
    pair.source.sql("INSERT INTO t (id) VALUES (3)").await;
    let done = pair.sync(&[]).await.succeeds();
    assert!(reason(&done).contains("the source's clock went back"), "{}", done.told());
    pair.source.sql("INSERT INTO t (id) VALUES (4)").await;
    let done = pair.sync(&[]).await.succeeds();
    assert_eq!((reason(&done).as_str(), figure(&done, "inserted")), ("", 1));
    assert_eq!(pair.there(IDS).await, "1,2,3,4");
}

#[tokio::test]
async fn a_warehouse_clock_that_was_ahead_does_not_put_off_the_look_for_deletes() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp());
        INSERT INTO t SELECT generate_series(1, 10)";
    let pair = Pair::new(table, &by_u(", deletes: {mode: hard, every: 1d}")).await;
    pair.sync(&[]).await.succeeds();
    pair.source.sql("DELETE FROM t WHERE id = 10").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "10", "not due yet");
    pair.warehouse.sql("UPDATE sankofa.table_state SET deletes_at = now() + interval '1 year'").await;
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "9");
}
