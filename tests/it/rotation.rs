//! Secrets that change while runs are on; keys of masks and of backups that change for good.

use crate::pair::*;
use crate::stored::key_pair;
use crate::support::b2::{B2, BucketOptions, KeySpec};
use crate::support::vault::VaultServer;
use crate::support::*;
use crate::warehouse::Platform;
use bytes::Bytes;
use sankofa::secret::{Files, Resolver};
use sankofa::store::b2::{B2 as Bucket, Tuning};
use sankofa::store::{Store, Terms};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// A run that waits for a lock on the source's table `t`, between its first login and its others.
async fn waiting(sankofa: &Sankofa, source: &Database, args: &[&str]) -> (Running, Client) {
    let holder = source.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let mut running = sankofa.spawn(args);
    let waits = "SELECT count(*)::text FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    while source.value(waits).await == "0" {
        assert!(running.is_alive(), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (running, holder)
}

const ROWS: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 10) g";
const WHOLE: &str = "tables: {public.t: {mode: full_refresh}}";

#[tokio::test]
async fn a_database_password_that_is_changed_in_mid_run_is_asked_for_anew() {
    let pair = Pair::new(ROWS, WHOLE).await;
    let server = pair.source.server();
    let role = server.role("rotated", "SUPERUSER").await;
    let uri = pair.source.connection_uri_as(&role);
    let file = |uri: &str| format!("src: {uri:?}\nwh: {:?}\n", pair.warehouse.connection_uri());
    let project = PROJECT.replace("[environment]", "[files: {connections: connections.yaml}]");
    pair.sankofa.write("sankofa.yaml", project);
    pair.sankofa.write("connections.yaml", file(&uri));
    let (running, holder) = waiting(&pair.sankofa, &pair.source, &["sync", "p"]).await;
    server.sql(&format!("ALTER ROLE {} PASSWORD 'another-one'", quote(&role))).await;
    let new = uri.replacen(&format!(":{}@", encoded(PASSWORD)), ":another-one@", 1);
    assert_ne!(new, uri);
    pair.sankofa.write("connections.yaml", file(&new));
    holder.batch_execute("ROLLBACK").await.unwrap();
    let done = running.wait().await.succeeds();
    says(&done, &["asks for the connection anew"]);
    assert!(!done.told().contains("another-one"), "{}", done.told());
    pair.sync(&[]).await.succeeds();
    assert_eq!(pair.there("SELECT count(*) FROM w.t").await, "10");
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn a_secret_id_that_is_destroyed_in_mid_run_ends_no_run_and_the_next_takes_the_new_one() {
    let Some(vault) = VaultServer::shared().await else { return };
    let pair = Pair::new(ROWS, WHOLE).await;
    let mount = vault.kv(2).await;
    for (id, uri) in [("src", pair.source.connection_uri()), ("wh", pair.warehouse.connection_uri())] {
        vault.write((&mount, 2), &format!("connections/{id}"), json!({ "conn_uri": uri })).await;
    }
    let policy = format!("path \"{mount}/data/connections/*\" {{ capabilities = [\"read\"] }}");
    let approle = vault.approle(&policy, json!({})).await;
    let old = vault.secret_id(&approle).await;
    let secrets = format!(
        "[vault: {{address: \"{}\", mount: {mount}, auth: {{approle: {{role_id: \"{}\", secret_id_file: id, mount: {}}}}}}}]",
        vault.address, approle.role_id, approle.mount
    );
    pair.sankofa.write("sankofa.yaml", PROJECT.replace("[environment]", &secrets));
    pair.sankofa.write("id", format!("{old}\n"));
    let (running, holder) = waiting(&pair.sankofa, &pair.source, &["sync", "p"]).await;
    let path = format!("auth/{}/role/rows/secret-id/destroy", approle.mount);
    vault.put(&path, json!({ "secret_id": old })).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    running.wait().await.succeeds();
    pair.sync(&[]).await.exits(77); // the file still holds what was destroyed
    pair.sankofa.write("id", vault.secret_id(&approle).await);
    pair.sync(&[]).await.succeeds();
}

#[tokio::test]
async fn a_webhook_is_told_with_the_token_that_it_has_at_the_end_of_the_run() {
    let receiver = crate::notify::Receiver::start().await;
    let pair = Pair::new(ROWS, WHOLE).await;
    let file = |token: &str| {
        let alerts = json!({"conn_type": "http", "host": "127.0.0.1", "port": receiver.port, "schema": "http",
            "password": token});
        let (src, wh) = (pair.source.connection_uri(), pair.warehouse.connection_uri());
        pair.sankofa.write("connections.json", json!({"alerts": alerts, "src": src, "wh": wh}).to_string());
    };
    let project = PROJECT.replace("[environment]", "[files: {connections: connections.json}]");
    let notify = "notify: [{webhook: {connection: alerts}, when: [success]}]\n";
    pair.sankofa.write("sankofa.yaml", format!("{project}{notify}"));
    file("old-token");
    let (running, holder) = waiting(&pair.sankofa, &pair.source, &["sync", "p"]).await;
    file("new-token");
    holder.batch_execute("ROLLBACK").await.unwrap();
    running.wait().await.succeeds();
    let told = receiver.told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].0.contains("bearer new-token"), "{}", told[0].0);
}

/// Where the store asks for its key.
fn asking(folder: &Path, uri: &str) -> Resolver {
    std::fs::write(folder.join("connections.yaml"), format!("offsite: {uri:?}\n")).unwrap();
    Resolver::new(vec![Arc::new(Files {
        connections: Some(folder.join("connections.yaml")),
        variables: None,
    })])
}

#[tokio::test]
async fn a_b2_key_that_is_replaced_in_mid_upload_is_asked_for_anew_and_the_upload_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let b2 = B2::start();
    b2.switch(|switches| switches.min_part_bytes = 1000);
    b2.bucket("school", BucketOptions::default());
    let (old, new) = (b2.key(KeySpec::all().bucket("school")), b2.key(KeySpec::all().bucket("school")));
    let resolver = asking(folder.path(), &b2.connection_uri(&old));
    let connection = resolver.connection("offsite").await.unwrap();
    let tuning = || Tuning { part_bytes: 1000, ..Tuning::default() };
    let store = Bucket::open_tuned(&connection, "school", Some("prod"), tuning()).unwrap();
    let bytes: Vec<u8> = (0..4321_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut upload = store.begin("hr/a", &Terms::default()).await.unwrap();
    upload.feed(Bytes::copy_from_slice(&bytes[..1001])).await.unwrap();
    asking(folder.path(), &b2.connection_uri(&new));
    b2.revoke(&old);
    b2.kill_upload_urls();
    upload.feed(Bytes::copy_from_slice(&bytes[1001..])).await.unwrap();
    let version = upload.finish().await.unwrap();
    assert_eq!(version.bytes, 4321);
    assert_eq!(store.list("hr/").await.unwrap().len(), 1);
    // Once a run: a key that is gone and not replaced is 77 still.
    b2.revoke(&new);
    let again = Bucket::open(&connection, "school", Some("prod")).unwrap().list("hr/").await;
    let failure = sankofa::error::classify(&again.unwrap_err());
    assert_eq!(failure.kind, sankofa::error::Kind::Permission, "{}", failure.what);
}

const MASKED: &str =
    "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), email text);
    INSERT INTO t (id, email) SELECT g, 'user' || g % 3 FROM generate_series(1, 9) g";
const BY_U: &str = "tables: {public.t: {mode: incremental, replication_key: u, mask: {email: hmac}}}";
const MASKS: &str =
    "SELECT string_agg(DISTINCT email, ',' ORDER BY email) FROM w.t WHERE _sankofa_deleted_at IS NULL";

#[tokio::test]
async fn another_hmac_key_is_announced_by_plan_and_leaves_no_old_mask_beside_a_new_one() {
    let keys = ["MARK-first-key-of-masks", "MARK-second-key-of-masks"];
    let mut pair = Pair::new(MASKED, BY_U).await;
    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", keys[0]);
    pair.sankofa.write(
        "pipelines/q.yaml",
        "source: src\nschema: q\ntables: {public.t: {mode: full_refresh, mask: {email: hmac}}}\n",
    );
    pair.sync(&[]).await.succeeds();
    pair.sankofa.run(&["sync", "q"]).await.succeeds();
    let old = pair.there(MASKS).await;
    pair.source.sql("DELETE FROM t WHERE id = 9; UPDATE t SET u = clock_timestamp() WHERE id = 1").await;
    pair.command("extract", &["--run", "before"]).await.succeeds();

    pair.sankofa = pair.sankofa.env("AIRFLOW_VAR_HMAC_KEY", keys[1]);
    pair.command("load", &["--run", "before"]).await.succeeds(); // read with the old key, masked with it
    assert_eq!(pair.there(MASKS).await, old);
    let plan = pair.command("plan", &[]).await.succeeds();
    says(&plan, &["every row (the key of HMAC masks has changed, and every mask with it)"]);
    says(&plan, &["q.t carry masks of another HMAC key until they are loaded again"]);
    says(&plan, &["rows that were deleted at the source keep the masks of the old key"]);
    let part = pair.sync(&["--from", "2020-01-01", "--to", "2020-01-02"]).await.exits(65);
    says(&part, &["the key of HMAC masks has changed"]);
    assert_eq!(pair.there(MASKS).await, old);

    pair.source.sql("UPDATE t SET u = clock_timestamp() WHERE id = 2").await;
    let done = pair.sync(&[]).await.succeeds();
    assert!(reason(&done).contains("the key of HMAC masks has changed"), "{}", done.told());
    let new = pair.there(MASKS).await;
    assert_eq!((new.split(',').count(), old.split(',').count()), (3, 3), "{new}");
    assert!(new.split(',').all(|mask| !old.contains(mask)), "an old mask beside a new one: {new}");
    let again = pair.sync(&[]).await.succeeds();
    assert_eq!((reason(&again).as_str(), figure(&again, "updated")), ("", 0));
    pair.sankofa.run(&["sync", "q"]).await.succeeds();
    let quiet = pair.command("plan", &[]).await.succeeds();
    assert!(!quiet.told().contains("another HMAC key"), "{}", quiet.told());
    let kept = pair.there("SELECT string_agg(s::text, ' ') FROM sankofa.table_state s").await;
    assert!(keys.iter().all(|key| !kept.contains(key)) && !kept.contains("MARK"), "{kept}");
}

/// A project with two key pairs: the backups' own, and the one that follows it.
async fn recipients() -> (Platform, [String; 2]) {
    let bed = Platform::new((16, 17)).await;
    let (identity, second) = key_pair();
    let first = bed.recipient.clone();
    let project = bed.project.env("AIRFLOW_VAR_AGE_IDENTITY_NEW", &identity);
    (Platform { project, ..bed }, [first, second])
}

fn write(bed: &Platform, recipient: &str, identities: &str) {
    bed.write_with(
        &format!("defaults: {{store: here, encrypt_to: [{recipient}], identities: [{identities}]}}"),
        "warehouse: {connection: wh}\n",
    );
    // Platform names the recipient at the database itself.
    let text = bed.project.read("sankofa.yaml");
    let own = format!(", store: here, encrypt_to: [{}]", bed.recipient);
    bed.project.write(
        "sankofa.yaml",
        text.replacen(&own, "", 1).replace("connection: source, }", "connection: source}"),
    );
}

fn told(done: &Finished, field: &str) -> Value {
    done.json()[field].clone()
}

#[tokio::test]
async fn after_recipients_were_changed_each_identity_is_proven_counted_and_told_what_it_opens() {
    let (bed, [old, new]) = recipients().await;
    write(&bed, &old, "age_identity");
    let first = told(&bed.run(&["backup", "db"]).await.succeeds(), "backup");
    write(&bed, &new, "age_identity, age_identity_new");
    let second = told(&bed.run(&["backup", "db"]).await.succeeds(), "backup");

    let listed = told(&bed.run(&["backups", "list"]).await.succeeds(), "backups");
    assert_eq!((&listed[0]["id"], &listed[0]["recipients"]), (&second, &json!([new])));
    assert_eq!((&listed[1]["recipients"], &listed[1]["retired_recipients"]), (&json!([old]), &json!([old])));
    assert_eq!(listed[0]["retired_recipients"], json!([]));

    let drill = bed.run(&["drill", "db"]).await.succeeds();
    let proven = told(&drill, "identities");
    assert_eq!(proven[0]["from"], "variable age_identity", "{}", drill.told());
    assert_eq!((&proven[0]["opened"], &proven[1]["opened"]), (&first, &second));
    let doctor = bed.run(&["doctor", "--for", "drill"]).await.succeeds();
    says(&doctor, &["1 identity opens what is stored from now on", "names none of them any more"]);
    says(&doctor, &["variable age_identity_new holds the identity of", "it opens 1 good backups"]);

    // The old identity is lost, or put away too soon.
    write(&bed, &new, "age_identity_new");
    let drill = bed.run(&["drill", "db"]).await.succeeds();
    says(&drill, &["no identity held here opens 1 of the backups: 1 with age1"]);
    let doctor = bed.run(&["doctor", "--for", "drill"]).await.succeeds();
    says(&doctor, &["no identity held here opens 1 good backups", first.as_str().unwrap()]);
}

#[tokio::test]
async fn an_identity_that_no_longer_opens_what_names_it_fails_the_drill() {
    let (bed, [old, new]) = recipients().await;
    write(&bed, &old, "age_identity");
    let first = told(&bed.run(&["backup", "db"]).await.succeeds(), "backup");
    write(&bed, &new, "age_identity, age_identity_new");
    bed.run(&["backup", "db"]).await.succeeds();
    // Somebody has exchanged what the manifest of the first says.
    let folder = bed.project.folder().join("store/db").join(first.as_str().unwrap());
    let manifest = folder.join("manifest.json");
    let third = key_pair();
    let text = std::fs::read_to_string(&manifest).unwrap().replace(&old, &third.1);
    std::fs::write(&manifest, text).unwrap();
    let lost = bed.project.env("AIRFLOW_VAR_AGE_IDENTITY", &third.0);
    let done = lost.run(&["drill", "db"]).await.exits(65);
    says(&done, &["which its manifest names", "variable age_identity"]);
}
