//! Secrets in files, through the binary: a run as compose and Kubernetes mount them.

use crate::support::*;

fn project(connections: &str) -> String {
    format!(
        "version: 1\nsecrets:\n  - files: {{connections: {connections}}}\n  - environment\n\
         warehouse: {{connection: warehouse}}\n"
    )
}

const PIPELINE: &str = "source: hr_db\nschema: hr\ntables:\n  public.t: {mode: full_refresh}\n";

/// A source with a table, a warehouse, and a project whose connections lie in a file.
async fn bed() -> (Database, Database, Sankofa) {
    let server = Server::major(16);
    let (source, warehouse) =
        (server.fresh_database("source").await, server.fresh_database("warehouse").await);
    source
        .sql("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'Ama'), (2, 'Kofi')")
        .await;
    let sankofa =
        Sankofa::new().file("sankofa.yaml", project("mounted/c.yaml")).file("pipelines/hr.yaml", PIPELINE);
    (source, warehouse, sankofa)
}

fn mounted(sankofa: &Sankofa, source: &str, warehouse: &str) {
    sankofa.write("mounted/c.yaml", format!("hr_db: \"{source}\"\nwarehouse: \"{warehouse}\"\n"));
}

#[tokio::test]
async fn a_run_takes_its_connections_from_a_mounted_file() {
    let (source, warehouse, sankofa) = bed().await;
    mounted(&sankofa, &source.connection_uri(), &warehouse.connection_uri());
    sankofa.run(&["sync", "hr"]).await.succeeds();
}

#[tokio::test]
async fn a_file_that_is_not_there_is_78_and_an_id_that_no_place_has_77() {
    let (source, _warehouse, sankofa) = bed().await;
    let missing = sankofa.run(&["sync", "hr"]).await.exits(78);
    assert!(missing.stderr.contains("mounted/c.yaml: there is no such file"), "{}", missing.told());
    sankofa.write("mounted/c.yaml", format!("hr_db: \"{}\"\n", source.connection_uri()));
    let missing = sankofa.run(&["sync", "hr"]).await.exits(77);
    assert!(missing.stderr.contains("cannot resolve connection warehouse"), "{}", missing.told());
    assert!(missing.stderr.contains("Add warehouse to"), "{}", missing.told());
}
