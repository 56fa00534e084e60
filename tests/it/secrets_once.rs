//! Each id is asked for once in a process, side by side with the others, whatever the command.

use crate::stored::key_pair;
use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::vault::{Reply, StandIn};
use crate::support::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const BUCKET: &str = "school-backups";

/// What a Vault would say of each path below its mount.
fn secrets(source: &Database, warehouse: &Database, b2: &B2, identity: &str) -> BTreeMap<String, Value> {
    let drill = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", warehouse.server().port());
    let connection = |id: &str, uri: String| (format!("connections/{id}"), json!({ "conn_uri": uri }));
    BTreeMap::from([
        connection("src", source.connection_uri()),
        connection("wh", warehouse.connection_uri()),
        connection("drill_server", drill),
        connection("offsite", b2.connection_uri(&b2.key(KeySpec::all()))),
        connection("alerts", "http://127.0.0.1:1".to_owned()),
        ("variables/hmac_key".to_owned(), json!({"value": "0123456789abcdef0123456789abcdef"})),
        ("variables/age_identity".to_owned(), json!({ "value": identity })),
    ])
}

/// Path below the mount that a request asks for.
fn path(head: &str) -> String {
    let line = head.lines().next().unwrap_or_default();
    line.trim_start_matches("get /v1/kv/data/").split(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_id_is_asked_once_in_a_process_and_the_first_of_them_side_by_side() {
    let server = Server::major(17);
    let (source, warehouse) =
        (server.fresh_database("once_src").await, server.fresh_database("once_wh").await);
    source.sql("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'a')").await;
    let b2 = B2::start();
    b2.bucket(BUCKET, BucketOptions::default());
    let (identity, recipient) = key_pair();
    let secrets = secrets(&source, &warehouse, &b2, &identity);
    let sankofa = Sankofa::new()
        .file(
            "pipelines/p.yaml",
            "source: src\nschema: p\ntables: {public.t: {mode: full_refresh, mask: {name: hmac}}}\n",
        )
        .env("SANKOFA_PG_BIN", &client_program(17, "pg_dump").parent().unwrap().display().to_string());
    let restore = ["restore", "hr", "--into", "drill_server", "--database", "once_back"];
    let doctor = ["wh", "src", "hmac_key"];
    for (args, together) in [
        (&["plan", "p"][..], &["src", "wh", "hmac_key"][..]),
        (&["sync", "p"], &["src", "wh", "hmac_key"]),
        (&["backup", "hr"], &["offsite", "wh", "src"]),
        (&["drill", "hr"], &["offsite", "wh", "drill_server", "age_identity"]),
        (&restore, &["offsite", "drill_server", "age_identity"]),
        (&["doctor", "--for", "rows"], &doctor),
        (&["doctor", "--for", "backup"], &["src", "offsite"]),
        (&["doctor", "--for", "drill"], &["offsite", "age_identity", "drill_server"]),
        (&["doctor"], &doctor),
        (&["backups", "list"], &["offsite"]),
        (&["backups", "verify"], &["offsite", "wh", "age_identity"]),
        (&["backups", "prune", "--dry-run"], &["offsite"]),
        (
            &["secrets", "check"],
            &["src", "wh", "hmac_key", "offsite", "age_identity", "drill_server", "alerts"],
        ),
    ] {
        let (given, count) = (secrets.clone(), together.len());
        let vault = StandIn::start(move |head, _| match given.get(&path(head)) {
            Some(fields) => {
                let data = json!({"data": {"data": fields, "metadata": {"version": 1}}});
                Reply::Together(count, 200, data)
            }
            None => Reply::Json(404, json!({"errors": []})),
        })
        .await;
        sankofa.write(
            "sankofa.yaml",
            format!(
                "version: 1\nsecrets: [{{vault: {{address: \"{}\", mount: kv, auth: {{agent: {{}}}}}}}}]\n\
                 warehouse: {{connection: wh}}\ndrill: {{connection: drill_server}}\n\
                 notify: [{{webhook: {{connection: alerts}}, when: [success, failure]}}]\n\
                 stores: {{off: {{b2: {{connection: offsite, bucket: {BUCKET}, prefix: prod}}}}}}\n\
                 backups: {{databases: {{hr: {{connection: src, store: off, encrypt_to: [{recipient}]}}}}}}\n",
                vault.address
            ),
        );
        let done = sankofa.run(args).await.succeeds();
        let asked: Vec<String> = vault.asked().iter().map(|head| path(head)).collect();
        let mut once = asked.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), asked.len(), "{asked:?}\n{}", done.told());
        let ids = |paths: &[String]| {
            let mut ids: Vec<String> =
                paths.iter().map(|one| one.rsplit('/').next().unwrap().to_owned()).collect();
            ids.sort();
            ids
        };
        let mut wanted: Vec<String> = together.iter().map(|id| (*id).to_owned()).collect();
        wanted.sort();
        assert_eq!(ids(&asked[..together.len()]), wanted, "{args:?}: {asked:?}");
    }
    drop(Database::named(&server, "once_back"));
}
