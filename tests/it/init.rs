//! `sankofa init`: what it writes can be kept, is read back, and runs.

use crate::support::*;

/// A project whose source and warehouse are these databases.
fn project(source: &Database, warehouse: &Database) -> Sankofa {
    Sankofa::new()
        .connection("source", source)
        .connection("warehouse", warehouse)
        .env("AIRFLOW_VAR_HMAC_KEY", "0123456789abcdef0123456789abcdef")
}

/// Every commented mask, uncommented.
fn with_masks(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim_start().strip_prefix("# mask:") {
        Some("") => "    mask:".to_owned(),
        _ if line.starts_with("    #   ") => line.replacen("    #   ", "      ", 1),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[tokio::test]
async fn what_init_writes_for_the_real_databases_loads_every_table_twice() {
    let server = Server::major(16);
    for which in Real::ALL {
        let Some(source) = server.real_database(which).await else { return };
        let warehouse = server.fresh_database("init_real").await;
        let sankofa = project(&source, &warehouse);
        let init = ["init", "--source", "source", "--schema", "public", "--pipeline", which.name()];
        sankofa.run(&init).await.exits(0);
        let text = sankofa.read(&format!("pipelines/{}.yaml", which.name()));
        sankofa.run(&["sync", which.name()]).await.exits(0);
        let tables = "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
            AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
        for row in source.query_text(tables).await {
            let table = quote(row[0].as_deref().unwrap());
            let here = source.value(&format!("SELECT count(*) FROM public.{table}")).await;
            let there = warehouse.value(&format!("SELECT count(*) FROM {}.{table}", which.name())).await;
            assert_eq!(here, there, "{table}");
        }
        sankofa.write(&format!("pipelines/{}.yaml", which.name()), with_masks(&text));
        sankofa.run(&["sync", which.name()]).await.exits(0);
    }
}

#[tokio::test]
async fn keys_and_masks_of_hr_are_the_ones_a_person_would_choose() {
    let server = Server::major(16);
    let Some(source) = server.real_database(Real::Hr).await else { return };
    let sankofa = Sankofa::new().connection("source", &source);
    let shown = sankofa.run(&["init", "--source", "source", "--schema", "public", "--dry-run"]).await;
    let text = shown.exits(0).stdout;
    for expected in [
        "\n  public.salary:\n    # About ",
        "replication_key: updated_at",
        "timestamp with time zone, NOT NULL, named like the time of the last change, indexed.",
        "#   birth_date: nullify   # birth",
        "#   last_name: hmac   # name",
        "Key: primary key (emp_no, from_date).",
    ] {
        assert!(text.contains(expected), "no {expected:?} in:\n{text}");
    }
    assert!(std::fs::read_dir(sankofa.folder()).unwrap().next().is_none(), "--dry-run wrote something");
}

#[tokio::test]
async fn awkward_names_and_kinds_are_written_so_that_they_load() {
    let server = Server::major(16);
    let source = server.fresh_database("init_awkward").await;
    source
        .sql(
            r#"CREATE SCHEMA "Odd.Schema"; CREATE SCHEMA other;
            CREATE TABLE "Odd.Schema"."""; DROP TABLE x; --" ("a'b" int PRIMARY KEY, "Updated At" timestamptz NOT NULL);
            CREATE TABLE "Odd.Schema"."${HOME} # : {" ("null" int NOT NULL UNIQUE, "${x}" text, maj timestamp);
            CREATE TABLE "Odd.Schema"."line
break" ("e-mail: #" text PRIMARY KEY, "naïve" int);
            CREATE TABLE public.same (id int PRIMARY KEY); CREATE TABLE other.same (id int PRIMARY KEY);
            CREATE TABLE "null" (email text, "true" bool); CREATE TABLE "123" (id int PRIMARY KEY);
            CREATE TABLE no_columns ();
            CREATE TABLE parts (id int, updated_at timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
            CREATE TABLE narrow (id int PRIMARY KEY, password_changed_at timestamptz, created_at timestamptz);
            CREATE VIEW a_view AS SELECT 1 AS one; CREATE MATERIALIZED VIEW a_copy AS SELECT 1 AS one;
            INSERT INTO "null" VALUES ('a@b', true), (NULL, NULL); INSERT INTO parts VALUES (1, now());
            INSERT INTO "Odd.Schema"."${HOME} # : {" VALUES (1, 'x', now()), (2, 'y', NULL);"#,
        )
        .await;
    let warehouse = server.fresh_database("init_awkward_wh").await;
    let sankofa = project(&source, &warehouse);
    sankofa.run(&["init", "--source", "source", "--pipeline", "odd"]).await.exits(0);
    let text = sankofa.read("pipelines/odd.yaml");
    assert!(text.contains("50.0 % NULL") || text.contains("maj is mostly NULL"), "{text}");
    assert!(text.contains("# public.a_view: {mode: full_refresh}"), "{text}");
    assert!(!text.contains("replication_key: password_changed_at"), "{text}");
    sankofa.run(&["sync", "odd"]).await.exits(0);
    sankofa.write("pipelines/odd.yaml", with_masks(&text));
    sankofa.run(&["sync", "odd"]).await.exits(0);
    assert_eq!(warehouse.value("SELECT count(*) FROM odd.parts").await, "1");
    assert_eq!(warehouse.value("SELECT count(*) FROM odd.\"null\"").await, "2");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'odd'";
    assert_eq!(warehouse.value(tables).await, "9", "{text}");
}

#[tokio::test]
async fn a_large_table_that_no_column_tells_the_changes_of_is_read_by_xmin() {
    let server = Server::major(16);
    let source = server.fresh_database("init_xmin").await;
    source
        .sql(
            "CREATE TABLE big (id int PRIMARY KEY, filler text);
            INSERT INTO big SELECT n, repeat('x', 900) FROM generate_series(1, 25000) n; ANALYZE big;",
        )
        .await;
    let warehouse = server.fresh_database("init_xmin_wh").await;
    let sankofa = project(&source, &warehouse);
    sankofa.run(&["init", "--source", "source"]).await.exits(0);
    assert!(sankofa.read("pipelines/source.yaml").contains("replication_key: xmin"));
    sankofa.run(&["sync", "source"]).await.exits(0);
    source.sql("UPDATE big SET filler = 'y' WHERE id = 7").await;
    sankofa.run(&["sync", "source"]).await.exits(0);
    assert_eq!(warehouse.value("SELECT filler FROM source.big WHERE id = 7").await, "y");
}

#[tokio::test]
async fn three_hundred_tables_are_proposed_and_read_back() {
    let server = Server::major(16);
    let source = server.fresh_database("init_300").await;
    let make = "DO $$ BEGIN FOR n IN 1..300 LOOP
        EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, updated_at timestamptz)', n); END LOOP; END $$";
    source.sql(make).await;
    let sankofa = Sankofa::new().connection("source", &source);
    sankofa.run(&["init", "--source", "source"]).await.exits(0);
    let text = sankofa.read("pipelines/source.yaml");
    assert_eq!(text.matches("replication_key: updated_at").count(), 300);
    sankofa.run(&["config", "show"]).await.exits(0);
}

#[tokio::test]
async fn nothing_is_overwritten_and_an_empty_source_leaves_no_file() {
    let server = Server::major(16);
    let source = server.fresh_database("init_empty").await;
    let sankofa = Sankofa::new().connection("source", &source);
    let refused = sankofa.run(&["init", "--source", "source"]).await.exits(78);
    assert!(refused.stderr.contains("the source has no table"), "{}", refused.stderr);
    assert!(std::fs::read_dir(sankofa.folder()).unwrap().next().is_none());

    source.sql("CREATE TABLE one (id int PRIMARY KEY)").await;
    let role = server.role("init_reader", "").await;
    let poor = Sankofa::new().connection_uri("source", &source.connection_uri_as(&role));
    let refused = poor.run(&["init", "--source", "source"]).await.exits(78);
    assert!(refused.stderr.contains("may read no table"), "{}", refused.stderr);
    source.sql(&format!("CREATE TABLE half (id int, hidden int); GRANT SELECT (id) ON half TO {0}; GRANT SELECT ON one TO {0}", quote(&role))).await;
    let shown = poor.run(&["init", "--source", "source", "--dry-run"]).await.exits(0).stdout;
    assert!(shown.contains("GRANT pg_read_all_stats") || shown.contains("0 incremental"), "{shown}");
    assert!(shown.contains("some of its columns only"), "{shown}");
    source.sql(&format!("DROP OWNED BY {0}; DROP ROLE {0}", quote(&role))).await;

    sankofa.write("pipelines/source.yaml", "mine");
    let refused = sankofa.run(&["init", "--source", "source"]).await.exits(78);
    assert!(refused.stderr.contains("pipelines/source.yaml"), "{}", refused.stderr);
    assert_eq!(sankofa.read("pipelines/source.yaml"), "mine");
    assert!(!sankofa.folder().join("sankofa.yaml").exists());

    sankofa.write("sankofa.yaml", "version: 1\nsecrets: [environment]\nwarehouse: {connection: mine}\n");
    sankofa.run(&["init", "--source", "source", "--pipeline", "two"]).await.exits(0);
    assert!(sankofa.read("sankofa.yaml").contains("mine"));
    let unknown = sankofa.run(&["init", "--source", "source", "--pipeline", "x", "--schema", "publik"]).await;
    assert!(unknown.exits(78).stderr.contains("Did you mean public?"));
}
