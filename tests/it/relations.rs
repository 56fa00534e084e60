//! Relations of every kind, shape, name and encoding, and what happens to them while they are read.

use crate::support::*;
use crate::types::{Pair, T, written};
use std::time::Duration;

/// `SELECT *` of a table on both sides, sorted as text; ours left out.
async fn equal(pair: &Pair, source: &str, target: &str) {
    let live = format!("SELECT * FROM {target} WHERE _sankofa_deleted_at IS NULL");
    let ours = "- '_sankofa_run' - '_sankofa_loaded_at' - '_sankofa_deleted_at'";
    let there = format!("SELECT (to_jsonb(t) {ours})::text FROM ({live}) t ORDER BY 1");
    let here = format!("SELECT to_jsonb(t)::text FROM {source} t ORDER BY 1");
    assert_eq!(pair.warehouse.query_text(&there).await, pair.source.query_text(&here).await, "{source}");
}

fn full(tables: &[&str]) -> String {
    let each = |name: &&str| format!("  '{}': {{mode: full_refresh}}\n", name.replace('\'', "''"));
    format!(
        "defaults: {{deletes: {{mode: soft, at_most: 90%}}}}\ntables:\n{}",
        tables.iter().map(each).collect::<String>()
    )
}

#[tokio::test]
async fn a_table_without_columns_arrives_with_its_rows() {
    for majors in [(13, 18), (18, 13)] {
        let pair =
            Pair::of(majors, "CREATE TABLE t (); INSERT INTO t SELECT FROM generate_series(1, 3)", T).await;
        pair.sync().await.succeeds();
        assert_eq!(pair.warehouse.value("SELECT count(*) FROM w.t").await, "3");
        assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 0, 0));
        pair.source
            .sql("DELETE FROM t WHERE ctid = '(0,1)'; INSERT INTO t SELECT FROM generate_series(1, 2)")
            .await;
        pair.sync().await.succeeds();
        let live = "SELECT count(*) FROM w.t WHERE _sankofa_deleted_at IS NULL";
        assert_eq!(pair.warehouse.value(live).await, "4");
        for step in ["extract", "validate", "load"] {
            pair.project.run(&[step, "p", "--run", "r"]).await.succeeds();
        }
        assert_eq!(pair.warehouse.value(live).await, "4");
    }
}

#[tokio::test]
async fn a_table_of_key_columns_only_is_merged() {
    let sql = "CREATE TABLE t (a int, b text, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (4, 'w')";
    let pipeline = "tables: {public.t: {mode: incremental, replication_key: xmin, deletes: {mode: hard, every: 0s, at_most: 90%}}}";
    let pair = Pair::of((15, 15), sql, pipeline).await;
    pair.sync().await.succeeds();
    pair.source
        .sql("INSERT INTO t VALUES (3, 'z'); DELETE FROM t WHERE a = 1; UPDATE t SET b = b || b WHERE a = 2")
        .await;
    assert_eq!(written(&pair.sync().await.succeeds().json()), (2, 0, 2));
    equal(&pair, "t", "w.t").await;
}

#[tokio::test]
async fn a_table_of_1500_columns_is_merged_and_replaced() {
    let columns: Vec<String> = (1..1500).map(|n| format!("c{n} int")).collect();
    let sql = format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t (id, c1, c1499) SELECT i, i, i FROM generate_series(1, 20) i;
         CREATE TABLE n AS SELECT * FROM t; CREATE TABLE inc AS SELECT * FROM t; ALTER TABLE inc ADD PRIMARY KEY (id)",
        columns.join(", ")
    );
    let pipeline = "tables: {public.t: {mode: full_refresh}, public.n: {mode: full_refresh}, public.inc: {mode: incremental, replication_key: xmin}}";
    for majors in [(13, 13), (13, 18)] {
        let pair = Pair::of(majors, &sql, pipeline).await;
        pair.sync().await.succeeds();
        for table in ["t", "n", "inc"] {
            pair.source
                .sql(&format!(
                    "UPDATE {table} SET c1499 = -1 WHERE id <= 5; INSERT INTO {table} (id) VALUES (99)"
                ))
                .await;
        }
        assert_eq!(written(&pair.sync().await.succeeds().json()), (8, 10, 5));
        for table in ["t", "n", "inc"] {
            equal(&pair, table, &format!("w.{table}")).await;
        }
    }
}

#[tokio::test]
async fn a_table_of_1600_columns_is_78_with_advice() {
    let columns: Vec<String> = (0..1600).map(|n| format!("c{n} bool")).collect();
    let pair = Pair::of((15, 15), &format!("CREATE TABLE t ({})", columns.join(", ")), T).await;
    let told = pair.sync().await.exits(78);
    assert!(told.stderr.contains("exclude"), "{}", told.told());
}

#[tokio::test]
async fn names_of_all_kinds_arrive_as_they_are() {
    let long = "ß".repeat(31) + "x";
    let bad = "\"\"; DROP TABLE x; --";
    let sql = format!(
        "CREATE SCHEMA \"Odd $Schema\"; CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1);
         CREATE TABLE \"{bad}\" (id int PRIMARY KEY, \"{bad}\" text, \"a'b\\c$$d\" text, \"select\" int, \"%s %I\" int);
         INSERT INTO \"{bad}\" VALUES (1, 'a', 'b', 3, 4);
         CREATE TABLE \"Odd $Schema\".\"{long}\" (\"{long}\" text, \"Order Date\" date, \"orderDate\" date, order_date date,
            PRIMARY KEY (\"Order Date\", \"orderDate\"));
         INSERT INTO \"Odd $Schema\".\"{long}\" VALUES ('ä', '2000-01-01', '2000-01-02', '2000-01-03');
         CREATE TABLE \"Order Table\" (\"тест\" int PRIMARY KEY, \" \" int, \"?\" int, \"$1\" int); INSERT INTO \"Order Table\" VALUES (1, 2, 3, 4)"
    );
    let tables = [
        "public.x".to_owned(),
        format!("public.\"{bad}\""),
        format!("\"Odd $Schema\".\"{long}\""),
        "public.\"Order Table\"".to_owned(),
    ];
    let full = full(&tables.each_ref().map(String::as_str));
    let incremental = full.replace("mode: full_refresh", "mode: incremental, replication_key: xmin");
    let pair = Pair::of(
        (13, 18),
        &sql,
        &full.replace("mode: full_refresh", "mode: full_refresh, checks: {rows: {min: 1}}"),
    )
    .await;
    pair.project.write("pipelines/i.yaml", format!("source: src\nschema: \"W; --\"\n{incremental}"));
    for _ in 0..2 {
        pair.sync().await.succeeds();
        pair.project.run(&["sync", "i"]).await.succeeds();
        for table in &tables {
            let (_, name) = table.split_once('.').unwrap();
            equal(&pair, table, &format!("w.{name}")).await;
            equal(&pair, table, &format!("\"W; --\".{name}")).await;
        }
        pair.source
            .sql(&format!("UPDATE \"{bad}\" SET \"{bad}\" = 'new'; UPDATE \"Odd $Schema\".\"{long}\" SET \"{long}\" = 'neu'; UPDATE \"Order Table\" SET \"$1\" = 5"))
            .await;
    }
    for step in ["extract", "validate", "load"] {
        pair.project.run(&[step, "p", "--run", "r"]).await.succeeds();
    }
    equal(&pair, &tables[1], &format!("w.\"{bad}\"")).await;
}

#[tokio::test]
async fn two_tables_of_one_name_need_targets() {
    let sql = "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int PRIMARY KEY); CREATE TABLE b.t (id int PRIMARY KEY, x int);
        INSERT INTO a.t VALUES (1); INSERT INTO b.t VALUES (1, 2)";
    let pair = Pair::of((15, 15), sql, &full(&["a.t", "b.t"])).await;
    let told = pair.sync().await.exits(78);
    assert!(told.stderr.contains("target"), "{}", told.told());
    pair.project.write(
        "pipelines/p.yaml",
        "source: src\nschema: w\ntables: {a.t: {mode: full_refresh}, b.t: {mode: full_refresh, target: b_t}}\n",
    );
    pair.sync().await.succeeds();
    equal(&pair, "b.t", "w.b_t").await;
}

const KINDS: &str = "
CREATE TABLE base (id int PRIMARY KEY, v text); INSERT INTO base SELECT i, 'v' || i FROM generate_series(1, 50) i;
CREATE TABLE parts (id int, region text, v numeric, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a') PARTITION BY RANGE (id);
CREATE TABLE parts_a1 PARTITION OF parts_a FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_b (v numeric, gone int, region text NOT NULL, id int NOT NULL); ALTER TABLE parts_b DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_b FOR VALUES IN ('b');
INSERT INTO parts VALUES (1, 'a', 1.0), (2, 'a', 1.00), (1, 'b', NULL);
CREATE TABLE empty_parts (id int) PARTITION BY RANGE (id);
CREATE TABLE person (id int PRIMARY KEY, name text);
CREATE TABLE student (grade int) INHERITS (person); CREATE TABLE extra (id int NOT NULL, name text, note text); ALTER TABLE extra INHERIT person;
INSERT INTO person VALUES (1, 'a'); INSERT INTO student VALUES (1, 'also 1', 5); INSERT INTO extra VALUES (3, 'c', 'n');
CREATE VIEW seen AS SELECT b.id, upper(b.v) AS v, p.region FROM base b LEFT JOIN parts p USING (id);
CREATE MATERIALIZED VIEW kept AS SELECT * FROM base; CREATE UNIQUE INDEX ON kept (id);
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); INSERT INTO quick VALUES (1);
CREATE TABLE made (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO made DEFAULT VALUES;";

#[tokio::test]
async fn relations_of_every_kind_arrive_whole() {
    let names = ["base", "parts", "parts_b", "empty_parts", "person", "seen", "kept", "quick", "made", "far"];
    let tables: Vec<String> = names.iter().map(|name| format!("public.{name}")).collect();
    let full = full(&tables.iter().map(String::as_str).collect::<Vec<_>>());
    // Not 18: the test bed's postgres_fdw of 18 finds an older libpq there.
    for majors in [(13, 18), (16, 13)] {
        let pair = Pair::of(majors, KINDS, &full).await;
        let far = Server::major(majors.0).fresh_database("far").await;
        far.sql("CREATE TABLE far (id int PRIMARY KEY, v text); INSERT INTO far VALUES (1, 'far')").await;
        let (host, port) = (far.server().socket_folder().display(), far.server().port());
        pair.source
            .sql(&format!(
                "CREATE EXTENSION postgres_fdw; CREATE SERVER f FOREIGN DATA WRAPPER postgres_fdw
                   OPTIONS (host '{host}', port '{port}', dbname '{}');
                 CREATE USER MAPPING FOR {USER} SERVER f OPTIONS (user '{USER}');
                 IMPORT FOREIGN SCHEMA public FROM SERVER f INTO public;
                 CREATE TABLE mixed (id int, v text) PARTITION BY RANGE (id);
                 CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES FROM (10) TO (20);
                 CREATE FOREIGN TABLE mixed_2 PARTITION OF mixed FOR VALUES FROM (1) TO (10) SERVER f OPTIONS (table_name 'far');
                 INSERT INTO mixed_1 VALUES (11, 'near')",
                far.name()
            ))
            .await;
        pair.project.write(
            "pipelines/p.yaml",
            format!("source: src\nschema: w\n{full}  public.mixed: {{mode: full_refresh}}\n"),
        );
        for _ in 0..2 {
            pair.sync().await.succeeds();
            for name in names.iter().chain(&["mixed"]) {
                equal(&pair, name, &format!("w.{name}")).await;
            }
            assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 0, 0));
            pair.source
                .sql("UPDATE base SET v = v || '!' WHERE id < 5; REFRESH MATERIALIZED VIEW kept; UPDATE parts SET region = 'b' WHERE id = 2;
                      UPDATE student SET name = 'b'; DELETE FROM extra; INSERT INTO made DEFAULT VALUES; UPDATE far SET v = 'farther'")
                .await;
        }
    }
}

#[tokio::test]
async fn a_grant_on_the_parent_alone_is_enough() {
    let pair = Pair::of((16, 16), KINDS, &full(&["public.parts", "public.person", "public.seen"])).await;
    let role = pair.source.server().role("reader", "").await;
    pair.source
        .sql(&format!(
            "GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON parts, person, seen TO {role}"
        ))
        .await;
    let project = pair.project;
    let project = project.connection_uri("src", &pair.source.connection_uri_as(&role));
    let pair = Pair { project, ..pair };
    pair.sync().await.succeeds();
    for name in ["parts", "person", "seen"] {
        equal(&pair, name, &format!("w.{name}")).await;
    }
}

#[tokio::test]
async fn a_row_that_a_policy_hides_is_77_and_never_a_subset() {
    for major in [13, 18] {
        let pair = Pair::of((major, major), KINDS, T).await;
        let role = pair.source.server().role("reader", "").await;
        pair.source
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'a'), (2, 'b');
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (owner = 'a');
                 ALTER TABLE parts ENABLE ROW LEVEL SECURITY; CREATE VIEW v AS SELECT * FROM t; ALTER VIEW v OWNER TO {role};
                 GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT USAGE ON SCHEMA public TO {role}"
            ))
            .await;
        let project = pair.project.connection_uri("src", &pair.source.connection_uri_as(&role));
        let pair = Pair { source: pair.source, warehouse: pair.warehouse, project };
        for table in ["t", "parts", "v"] {
            pair.project.write(
                "pipelines/p.yaml",
                format!("source: src\nschema: w\n{}", full(&[&format!("public.{table}")])),
            );
            pair.sync().await.exits(77);
        }
        // A partition's own policy does not apply through its parent.
        pair.source
            .sql(
                "ALTER TABLE parts DISABLE ROW LEVEL SECURITY; ALTER TABLE parts_b ENABLE ROW LEVEL SECURITY",
            )
            .await;
        pair.project
            .write("pipelines/p.yaml", format!("source: src\nschema: w\n{}", full(&["public.parts"])));
        pair.sync().await.succeeds();
        equal(&pair, "parts", "w.parts").await;
    }
}

#[tokio::test]
async fn columns_that_are_granted_are_read_and_others_are_77() {
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, open text, closed text); INSERT INTO t VALUES (1, 'a', 'b')";
    let pair =
        Pair::of((15, 15), sql, "tables: {public.t: {mode: full_refresh, columns: {include: [id, open]}}}")
            .await;
    let role = pair.source.server().role("reader", "").await;
    pair.source
        .sql(&format!("GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT (id, open) ON t TO {role}"))
        .await;
    let project = pair.project.connection_uri("src", &pair.source.connection_uri_as(&role));
    let pair = Pair { source: pair.source, warehouse: pair.warehouse, project };
    pair.sync().await.succeeds();
    equal(&pair, "(SELECT id, open FROM t)", "w.t").await;
    pair.project.write("pipelines/p.yaml", format!("source: src\nschema: w\n{T}\n"));
    pair.sync().await.exits(77);
}

/// A source of tables of which the largest, read first, is slow to read.
const SLOW: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 20) FROM generate_series(1, 3000) i;
    CREATE TABLE later (id int PRIMARY KEY, v text); INSERT INTO later VALUES (1, 'kept');
    CREATE FUNCTION wait(id int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN IF id = 1 THEN PERFORM pg_sleep(1.5); END IF; RETURN true; END';
    CREATE TABLE slow AS SELECT i AS id FROM generate_series(1, 20000) i;
    CREATE MATERIALIZED VIEW kept AS SELECT id, 'old' AS v FROM t; CREATE UNIQUE INDEX ON kept (id)";

#[tokio::test]
async fn a_table_is_read_as_it_was_locked_whatever_waits_for_it() {
    let pipeline = format!("connections: 1\n{}", full(&["public.t", "public.later", "public.kept"]));
    let pipeline = pipeline + "  public.slow: {mode: full_refresh, filter: public.wait(id)}\n";
    for change in
        ["TRUNCATE later", "ALTER TABLE later DROP v", "DROP TABLE later", "REFRESH MATERIALIZED VIEW kept"]
    {
        let pair = Pair::of((14, 16), SLOW, &pipeline).await;
        let run = pair.project.spawn(&["sync", "p", "--json"]);
        let reading = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sankofa/%' AND query LIKE 'COPY%' AND state = 'active'";
        while pair.source.value(reading).await == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pair.source.sql(change).await; // waits for the locks
        run.wait().await.succeeds();
        assert_eq!(pair.warehouse.value("SELECT v FROM w.later").await, "kept", "{change}");
        assert_eq!(pair.warehouse.value("SELECT string_agg(DISTINCT v, ' ') FROM w.kept").await, "old");
    }
}

#[tokio::test]
async fn a_view_refreshed_concurrently_is_the_old_state_or_the_new() {
    let sql = "CREATE TABLE turn (n int); INSERT INTO turn VALUES (0);
        CREATE MATERIALIZED VIEW kept AS SELECT i AS id, n FROM turn, generate_series(1, 4000) i; CREATE UNIQUE INDEX ON kept (id)";
    let pair = Pair::of((17, 17), sql, &full(&["public.kept"])).await;
    let source = pair.source.connect().await;
    let refreshing = tokio::spawn(async move {
        loop {
            let again = "UPDATE turn SET n = n + 1; REFRESH MATERIALIZED VIEW CONCURRENTLY kept";
            for sql in again.split("; ") {
                source.batch_execute(sql).await.unwrap();
            }
        }
    });
    let live = "SELECT count(DISTINCT n) || ' ' || count(*) FROM w.kept WHERE _sankofa_deleted_at IS NULL";
    for _ in 0..4 {
        pair.sync().await.succeeds();
        assert_eq!(pair.warehouse.value(live).await, "1 4000");
    }
    refreshing.abort();
}

#[tokio::test]
async fn a_large_table_read_in_ranges_while_every_row_moves_equals_the_snapshot() {
    // Wide rows: 2 ranges of 64 MiB and more need 16,384 pages.
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v int, pad text) WITH (fillfactor = 100);
        ALTER TABLE t ALTER pad SET STORAGE PLAIN;
        INSERT INTO t SELECT i, 0, repeat('x', 3900) FROM generate_series(1, 36000) i";
    let pair = Pair::of((16, 16), sql, "connections: 3\ntables: {public.t: {mode: full_refresh}}").await;
    let source = pair.source.connect().await;
    let moving = tokio::spawn(async move {
        for turn in 0.. {
            let (from, to) = (turn * 500 % 36_000, turn * 500 % 36_000 + 500);
            let sql = format!("UPDATE t SET v = v + 1 WHERE id > {from} AND id <= {to}");
            if source.batch_execute(&sql).await.is_err() {
                break;
            }
        }
    });
    pair.sync().await.succeeds();
    moving.abort();
    let ranges = pair
        .source
        .log()
        .iter()
        .filter(|line| line.contains("COPY (SELECT") && line.contains("ctid"))
        .count();
    assert!(ranges >= 2, "read in {ranges} ranges");
    let whole = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || sum(id) || ' ' || bool_and(length(pad) = 3900)::text FROM w.t";
    assert_eq!(pair.warehouse.value(whole).await, "36000 36000 648018000 true");
    // Rows are moved 500 at once, in the order of their ids: a snapshot is one step, at most.
    let steps =
        "SELECT count(*) FROM (SELECT v - lag(v) OVER (ORDER BY id) AS step FROM w.t) s WHERE step <> 0";
    let steps: u32 = pair.warehouse.value(steps).await.parse().unwrap();
    assert!(steps <= 1, "{steps} steps: rows of more than one moment");
}

async fn encoded(encoding: &str, locale: &str) -> Database {
    let how = format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE '{locale}' LC_CTYPE '{locale}'");
    Server::major(16).database_with("encoded", &how).await
}

#[tokio::test]
async fn sources_in_other_encodings_arrive_as_the_same_text() {
    for (encoding, bytes) in [("LATIN1", r"\xe9df"), ("WIN1252", r"\x80e9"), ("EUC_JP", r"\xa4a2")] {
        let source = encoded(encoding, "C").await;
        let text = format!("convert_from('{bytes}', '{encoding}')");
        source.sql(&format!("SET client_encoding = '{encoding}'; CREATE TYPE mood AS ENUM ('glad')")).await;
        source
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, v text, a text[], j json, m mood, c char(4));
                 INSERT INTO t SELECT 1, t, ARRAY[t], to_json(t), 'glad', t FROM (SELECT {text} AS t) s"
            ))
            .await;
        let pair = Pair::of((16, 16), "", T).await;
        let project = pair.project.connection("src", &source);
        let pair = Pair { source, warehouse: pair.warehouse, project };
        pair.sync().await.succeeds();
        equal(&pair, "t", "w.t").await;
        assert_eq!(
            pair.warehouse.value("SELECT length(v) FROM w.t").await,
            pair.source.value("SELECT length(v) FROM t").await
        );
    }
}

#[tokio::test]
async fn a_byte_that_is_no_text_is_named_or_mapped_by_the_encoding() {
    let source = encoded("SQL_ASCII", "C").await;
    source
        .sql(
            r"CREATE TABLE t (id int PRIMARY KEY, v text, a text[]);
               INSERT INTO t VALUES (1, 'fine', '{}'), (2, E'caf\xe9 \x80', E'{\xe9}')",
        )
        .await;
    let pair = Pair::of((16, 16), "", T).await;
    let project = pair.project.connection("src", &source);
    let pair = Pair { source, warehouse: pair.warehouse, project };
    let told = pair.sync().await.exits(65);
    assert!(told.stderr.contains("public.t") && told.stderr.contains("column v, row 2"), "{}", told.told());
    pair.project.write("pipelines/p.yaml", format!("source: src\nschema: w\nencoding: WIN1252\n{T}\n"));
    pair.sync().await.succeeds();
    assert_eq!(pair.warehouse.value("SELECT v || a[1] FROM w.t WHERE id = 2").await, "café €é");
    for step in ["extract", "validate", "load"] {
        pair.project.run(&[step, "p", "--run", "r"]).await.succeeds();
    }
    assert_eq!(pair.warehouse.value("SELECT v || a[1] FROM w.t WHERE id = 2").await, "café €é");
}

#[tokio::test]
async fn every_text_postgres_can_store_survives() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text);
        INSERT INTO t SELECT p, (SELECT string_agg(chr(c), '' ORDER BY c) FROM generate_series(p * 4096, p * 4096 + 4095) c
            WHERE c <> 0 AND c NOT BETWEEN 55296 AND 57343) FROM generate_series(0, 271) p";
    let hash = |table: &str| {
        format!(
            "SELECT md5(string_agg(md5(convert_to(v, 'UTF8')), '' ORDER BY id)) || sum(length(v)) FROM {table}"
        )
    };
    let pair = Pair::of((13, 18), sql, T).await;
    for _ in 0..2 {
        pair.sync().await.succeeds();
        assert_eq!(pair.warehouse.value(&hash("w.t")).await, pair.source.value(&hash("t")).await);
        pair.source.sql("UPDATE t SET v = reverse(v)").await;
    }
}

#[tokio::test]
async fn a_row_of_100_mb_arrives() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v bytea, w text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER w SET STORAGE EXTERNAL;
        INSERT INTO t SELECT 1, decode(repeat('00ff5c27', 12500000), 'hex'), repeat('é\"\\,', 10000000)";
    let hash = |table: &str| format!("SELECT md5(v) || md5(w) || octet_length(v) || id FROM {table}");
    let pair = Pair::of((16, 16), sql, T).await;
    pair.sync().await.succeeds();
    assert_eq!(pair.warehouse.value(&hash("w.t")).await, pair.source.value(&hash("t")).await);
    pair.source.sql("UPDATE t SET v = v || '\\x01'").await;
    assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 1, 0));
    assert_eq!(pair.warehouse.value(&hash("w.t")).await, pair.source.value(&hash("t")).await);
}
