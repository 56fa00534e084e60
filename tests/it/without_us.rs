//! A backup comes back without this program: the commands of docs/restore.md, with foreign tools.

use crate::stored::*;
use crate::support::*;
use std::path::PathBuf;
use std::process::Command;

/// age, from the test bed or from the system; None, loudly, where there is none.
fn age() -> Option<PathBuf> {
    let found = foreign_program("age");
    if found.is_none() {
        eprintln!("\n!!! NOT TESTED: no age on this machine (tests/testbed/install.sh)\n");
    }
    found
}

async fn comes_back(codec: &str, unpack: &str) {
    let Some(age) = age() else { return };
    let source = Server::major(16).fresh_database("foreign").await;
    source
        .sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 5000) g; CREATE INDEX i ON t (v)")
        .await;
    let (identity, recipient) = key_pair();
    let programs = client_program(16, "pg_dump").parent().unwrap().display().to_string();
    let project = Sankofa::new().connection("source", &source).env("SANKOFA_PG_BIN", &programs).file(
        "sankofa.yaml",
        format!(
            "version: 1\nsecrets: [environment]\nwarehouse: {{connection: warehouse}}\nstores: {{here: {{directory: store}}}}\n\
             backups: {{databases: {{db: {{connection: source, store: here, codec: {codec}, encrypt_to: [{recipient}]}}}}}}\n"
        ),
    );
    project.run(&["backup", "db"]).await.succeeds();
    project.write("identity.txt", &identity);
    let server = Server::new(17).start();
    server.sql("CREATE DATABASE back TEMPLATE template0").await;
    let script = format!(
        "set -e; cd {}; umask 077; {} -d -i identity.txt store/db/*/dump.pgc.*.age | {unpack} > dump.pgc; \
         {} --jobs 2 --dbname back --exit-on-error dump.pgc; {} -d -i identity.txt store/db/*/proof.age | grep -q '\"count\":5000'",
        project.folder().display(),
        age.display(),
        client_program(16, "pg_restore").display(),
        age.display(),
    );
    let mut shell = Command::new("/bin/bash");
    shell.args(["-o", "pipefail", "-c", &script]);
    shell.env("PGHOST", server.socket_folder()).env("PGPORT", server.port().to_string()).env("PGUSER", USER);
    let done = shell.output().expect("running a shell");
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    let back = server.existing("back");
    assert_eq!(
        back.value("SELECT count(*) || ' ' || md5(string_agg(t::text, '' ORDER BY id)) FROM t").await,
        source.value("SELECT count(*) || ' ' || md5(string_agg(t::text, '' ORDER BY id)) FROM t").await
    );
}

#[tokio::test]
async fn age_zstd_and_pg_restore_are_enough() {
    comes_back("zstd", "zstd -d").await;
}

#[tokio::test]
async fn age_gunzip_and_pg_restore_are_enough() {
    comes_back("gzip", "gunzip").await;
}
