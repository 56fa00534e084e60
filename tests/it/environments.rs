//! Environments: what one works on is neither read, waited for nor ended by another.

use crate::pair::*;
use crate::support::*;
use crate::warehouse::Platform;
use std::time::Duration;

/// A project with environments `default`, `dev` and `apart`, which has a store of its own.
async fn platform() -> Platform {
    let bed = Platform::new((16, 17)).await;
    bed.write(
        "warehouse: {connection: wh}\nenvironments:\n  dev: {guard: {}}\n  \
         apart: {stores: {here: {directory: apart}}}\n",
    );
    bed
}

#[tokio::test]
async fn a_backup_of_another_environment_is_neither_waited_for_nor_taken_over() {
    let bed = platform().await;
    let holder = bed.source.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let mut running = bed.project.spawn(&["backup", "db", "--run", "theirs"]);
    let held = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while bed.source.value(held).await == "0" {
        assert!(running.is_alive(), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for more in [&[][..], &["--take-over"]] {
        let done = bed.run(&[&["backup", "db", "--env", "apart"], more].concat()).await.exits(78);
        says(&done, &["a run of another environment than \"apart\" holds its lock", "Check `--env`"]);
    }
    says(&bed.run(&["backup", "db"]).await.exits(75), &["another run holds its lock"]);
    holder.batch_execute("ROLLBACK").await.unwrap();
    running.wait().await.succeeds();
    bed.run(&["backup", "db", "--env", "apart"]).await.succeeds();
}

#[tokio::test]
async fn a_prefix_belongs_to_one_environment_whatever_the_database_and_the_command() {
    let bed = platform().await;
    bed.run(&["backup", "db"]).await.succeeds();
    for command in [&["backup", "db"][..], &["drill", "db"], &["backups", "verify"], &["backups", "prune"]] {
        let done = bed.run(&[command, &["--env", "dev"]].concat()).await.exits(78);
        says(&done, &["environment default keeps its backups there", "or run it without `--env`"]);
    }
    let into = ["restore", "db", "--into", "drill_server", "--env", "dev"];
    says(&bed.run(&into).await.exits(78), &["environment default keeps its backups there"]);
    // A database that has no backup yet: the prefix is theirs all the same.
    let recipient = &bed.recipient;
    bed.write_with(
        &format!("defaults: {{store: here, encrypt_to: [{recipient}]}}"),
        "environments: {dev: {backups: {databases: {other: {connection: source}}}}}\n",
    );
    let done = bed.run(&["backup", "other", "--env", "dev"]).await.exits(78);
    says(&done, &["environment default keeps its backups there"]);
    bed.run(&["drill", "db"]).await.succeeds();
}

#[tokio::test]
async fn an_extract_never_writes_over_the_stage_of_another_environment() {
    let pair = Pair::new(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        "tables: {public.t: {mode: full_refresh}}",
    )
    .await;
    let other = pair.warehouse.server().fresh_database("sem_wh_dev").await;
    let sankofa = pair.sankofa.connection("wh_dev", &other);
    sankofa.write(
        "sankofa.yaml",
        format!("{PROJECT}environments: {{dev: {{warehouse: {{connection: wh_dev}}}}}}\n"),
    );
    sankofa.run(&["extract", "p", "--run", "night"]).await.succeeds();
    let done = sankofa.run(&["extract", "p", "--run", "night", "--env", "dev"]).await.exits(78);
    says(&done, &["it is of environment \"default\", this run is of \"dev\"", "a stage of its own"]);
    sankofa.run(&["load", "p", "--run", "night"]).await.succeeds();
}

#[tokio::test]
async fn an_environment_has_its_own_secrets_warehouse_stage_and_schema_and_leaves_the_others_alone() {
    let pair = Pair::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)", "").await;
    let dev = pair.warehouse.server().fresh_database("sem_wh_dev").await;
    let file = |warehouse: &Database| {
        format!("src: {:?}\nwh: {:?}\n", pair.source.connection_uri(), warehouse.connection_uri())
    };
    let sankofa = Sankofa::new()
        .file("secrets/prod.yaml", file(&pair.warehouse))
        .file("secrets/dev.yaml", file(&dev))
        .file(
            "sankofa.yaml",
            "version: 1\nsecrets: [files: {connections: secrets/prod.yaml}]\nstores: {local: {directory: ./prod-stage}}\n\
             stage: {store: local}\nwarehouse: {connection: wh}\nenvironments:\n  dev:\n    \
             secrets: [files: {connections: secrets/dev.yaml}]\n    stores: {local: {directory: ./dev-stage}}\n",
        )
        .file(
            "pipelines/p.yaml",
            "source: src\nschema: w\ntables: {public.t: {mode: full_refresh}}\n\
             environments: {dev: {schema: w_dev, tables: {public.t: {filter: id = 1}}}}\n",
        );
    for step in ["extract", "validate", "load"] {
        sankofa.run(&[step, "p", "--run", "one"]).await.succeeds();
        sankofa.run(&[step, "p", "--run", "one", "--env", "dev"]).await.succeeds();
    }
    assert_eq!(pair.there("SELECT string_agg(id::text, ',' ORDER BY id) FROM w.t").await, "1,2");
    assert_eq!(lines(&dev, "SELECT string_agg(id::text, ',' ORDER BY id) FROM w_dev.t").await, "1");
    assert_eq!(pair.there("SELECT to_regclass('w_dev.t')").await, "-");
    assert_eq!(lines(&dev, "SELECT environment FROM sankofa.meta").await, "dev");
    assert!(sankofa.folder().join("prod-stage/p").is_dir() && sankofa.folder().join("dev-stage/p").is_dir());
    // The page's way to give a warehouse another name of its environment.
    pair.warehouse.sql("UPDATE sankofa.meta SET environment = 'prod'").await;
    let done = sankofa.run(&["plan", "p"]).await.exits(78);
    says(&done, &["it belongs to environment \"prod\", this run is of \"default\""]);
}
