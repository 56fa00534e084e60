//! What changes in Vault while a run is under way: it goes on, or it ends and nothing is half done.

use super::vault::{accessors_with, project};
use super::vault_dynamic::Bed;
use crate::support::vault::{Approle, VaultServer};
use crate::support::*;
use age::x25519;
use secrecy::ExposeSecret;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const READ: &str = "capabilities = [\"read\"]";
const UPDATE: &str = "capabilities = [\"update\"]";
/// So much that reading it through [`slowly`] takes a while.
const ROWS: &str = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a SELECT g, repeat('x', 60000) FROM generate_series(1, 80) g; INSERT INTO b SELECT 1";
const PIPELINE: &str = "source: src\nschema: p\nconnections: 1\ntables: {public.a: {mode: full_refresh}, public.b: {mode: full_refresh}}\n";

/// Table a comes 16 KiB at a time: five seconds in all.
fn slowly(port: u16) -> Proxy {
    let slow = Deed::Trickle { bytes: 16 * 1024, pause: Duration::from_millis(17) };
    let proxy = Proxy::to(port);
    proxy.add(Rule::on(Direction::FromServer, 'H').after(slow));
    proxy
}

/// Waits until `proxy` slows the run down: it reads table a.
async fn until_it_reads(proxy: &Proxy, running: &Running) {
    while proxy.fired().is_empty() {
        assert!(!running.log_so_far().contains("error:"), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What is loaded: rows of a; -1 where nothing is.
async fn loaded(database: &Database) -> String {
    let is_there = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('p.a')";
    match database.value(is_there).await.as_str() {
        "0" => "-1".to_owned(),
        _ => database.value("SELECT count(*) FROM p.a").await,
    }
}

/// Two databases and a project that asks Vault by approle.
struct Asking {
    vault: Arc<VaultServer>,
    mount: String,
    role: Approle,
    source: Database,
    warehouse: Database,
    sankofa: Sankofa,
}

impl Asking {
    async fn new() -> Option<Asking> {
        let vault = VaultServer::shared().await?;
        let server = Server::major(17);
        let (source, warehouse) =
            (server.fresh_database("midrun_src").await, server.fresh_database("midrun_wh").await);
        source.sql(ROWS).await;
        let mount = vault.kv(2).await;
        let policy =
            format!("path \"{mount}/data/*\" {{ {READ} }}\npath \"auth/token/revoke-self\" {{ {UPDATE} }}");
        let role = vault.approle(&policy, json!({})).await;
        let secret_id = vault.secret_id(&role).await;
        let auth = format!(
            "mount: {mount}, auth: {{approle: {{role_id: \"{}\", secret_id_file: id, mount: {}}}}}",
            role.role_id, role.mount
        );
        let sankofa = project(&vault, &auth).file("id", secret_id).file("pipelines/p.yaml", PIPELINE);
        let asking = Asking { vault, mount, role, source, warehouse, sankofa };
        asking.keep("connections/src", "conn_uri", &asking.source.connection_uri()).await;
        asking.keep("connections/warehouse", "conn_uri", &asking.warehouse.connection_uri()).await;
        Some(asking)
    }

    /// Puts a secret into Vault, over the one that is there.
    async fn keep(&self, path: &str, field: &str, value: &str) {
        self.vault.write((&self.mount, 2), path, json!({ field: value })).await;
    }
}

fn identity() -> (String, String) {
    let identity = x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

#[tokio::test]
async fn a_secret_that_is_rotated_between_extract_and_load_is_read_anew_and_nothing_is_half_done() {
    let Some(asking) = Asking::new().await else { return };
    let (warehouse, sankofa) = (&asking.warehouse, &asking.sankofa);
    let role = warehouse.server().role("midrun", "").await;
    warehouse.sql(&format!("GRANT CREATE ON DATABASE {} TO {role}", warehouse.name())).await;
    let own = warehouse.connection_uri_as(&role);
    let uri = |password: &str| {
        let place = own.rsplit_once('@').unwrap().1;
        format!("postgres://{role}:{password}@{place}")
    };
    let ((first, recipient), (second, _)) = (identity(), identity());
    let stage = format!("stage: {{store: stage, encrypt_to: [{recipient}], identity: stage_identity}}");
    sankofa.write("sankofa.yaml", sankofa.read("sankofa.yaml").replace("stage: {store: stage}", &stage));
    asking.keep("variables/stage_identity", "value", &first).await;
    asking.keep("connections/warehouse", "conn_uri", &own).await;
    sankofa.run(&["extract", "p", "--run", "one"]).await.succeeds();

    let load = ["load", "p", "--run", "one"];
    let quoted =
        |done: &Finished| [PASSWORD, "MARKnew", &first, &second].iter().any(|one| done.told().contains(one));
    // On the server alone: Vault says the old password twice.
    warehouse.sql(&format!("ALTER ROLE {role} PASSWORD 'MARKnew'")).await;
    let done = sankofa.run(&load).await.exits(77);
    assert!(
        done.stderr.contains("cannot connect to warehouse") && done.stderr.contains("hint:"),
        "{}",
        done.told()
    );
    assert!(!quoted(&done), "{}", done.told());
    assert_eq!(loaded(warehouse).await, "-1");
    asking.keep("connections/warehouse", "conn_uri", &uri("MARKnew")).await;
    // The identity of another stage.
    asking.keep("variables/stage_identity", "value", &second).await;
    let done = sankofa.run(&load).await.exits(77);
    assert!(done.stderr.contains("`stage.identity`") && done.stderr.contains("hint:"), "{}", done.told());
    assert!(!quoted(&done), "{}", done.told());
    assert_eq!(loaded(warehouse).await, "-1");
    asking.keep("variables/stage_identity", "value", &first).await;
    sankofa.run(&load).await.succeeds();
    assert_eq!(loaded(warehouse).await, "80");
    let again = sankofa.run(&load).await.succeeds();
    assert_eq!(again.json()["status"], "already_done");
}

#[tokio::test]
async fn a_run_whose_token_is_revoked_while_it_reads_ends_well_and_says_so() {
    let Some(asking) = Asking::new().await else { return };
    let proxy = slowly(asking.source.server().port());
    asking.keep("connections/src", "conn_uri", &asking.source.connection_uri_through(proxy.port())).await;
    let running = asking.sankofa.spawn(&["sync", "p"]);
    until_it_reads(&proxy, &running).await;
    assert_eq!(accessors_with(&asking.vault, &asking.role.policy).await, 1);
    asking.vault.put(&format!("sys/leases/revoke-prefix/auth/{}", asking.role.mount), json!({})).await;
    assert_eq!(accessors_with(&asking.vault, &asking.role.policy).await, 0);
    let done = running.wait().await.succeeds();
    assert!(done.stderr.contains("cannot revoke the token of Vault"), "{}", done.told());
    assert_eq!(loaded(&asking.warehouse).await, "80");
}

/// A project with users by lease on both ends, and a slow way to its source.
async fn leased(ttl: &str, max: &str) -> Option<(Bed, Approle, Sankofa, Proxy)> {
    let bed = Bed::new(17, "GRANT pg_monitor TO {group}").await?;
    bed.database.sql(ROWS).await;
    let (group, name) = (&bed.group, bed.database.name());
    bed.database
        .sql(&format!("GRANT SELECT ON a, b TO {group}; GRANT CREATE ON DATABASE {name} TO {group}"))
        .await;
    let path = bed.role("rows", ttl, max).await;
    let proxy = slowly(bed.database.server().port());
    bed.connection("src", proxy.port()).await;
    bed.connection("warehouse", bed.database.server().port()).await;
    let policy = format!(
        "path \"{}/data/*\" {{ {READ} }}\npath \"{path}\" {{ {READ} }}\npath \"sys/leases/*\" {{ {UPDATE} }}\n\
         path \"auth/token/*\" {{ {UPDATE} }}",
        bed.mount
    );
    let role = bed.vault.approle(&policy, json!({})).await;
    let secret_id = bed.vault.secret_id(&role).await;
    let auth =
        format!("{{approle: {{role_id: \"{}\", secret_id_file: id, mount: {}}}}}", role.role_id, role.mount);
    let sankofa = bed.project(&auth, &format!("src: {path}, warehouse: {path}")).file("id", secret_id);
    let yaml = sankofa.read("sankofa.yaml");
    let more = format!(
        "stores: {{stage: {{directory: stage}}}}\nwarehouse: {{connection: warehouse, owner_role: {group}}}\nstage: {{store: stage}}\n"
    );
    sankofa.write("sankofa.yaml", format!("{yaml}{more}"));
    sankofa.write("pipelines/p.yaml", PIPELINE);
    Some((bed, role, sankofa, proxy))
}

/// It ended because its users were gone, and published nothing; the next run does.
async fn was_taken_away(bed: &Bed, sankofa: &Sankofa, running: Running) {
    let done = running.wait().await.exits(75);
    assert!(done.stderr.contains("was taken away while it was in use"), "{}", done.told());
    assert!(done.stderr.contains("max_ttl"), "{}", done.told());
    assert_eq!(loaded(&bed.database).await, "-1");
    bed.until_no_user().await;
    bed.connection("src", bed.database.server().port()).await;
    sankofa.run(&["sync", "p"]).await.succeeds();
    assert_eq!(loaded(&bed.database).await, "80");
    bed.until_no_user().await;
}

#[tokio::test]
async fn a_lease_that_comes_to_its_maximum_while_it_is_read_is_75_and_nothing_is_published() {
    let Some((bed, _, sankofa, proxy)) = leased("2s", "3s").await else { return };
    let running = sankofa.spawn(&["sync", "p"]);
    until_it_reads(&proxy, &running).await;
    was_taken_away(&bed, &sankofa, running).await;
}

#[tokio::test]
async fn a_token_that_is_revoked_while_its_users_read_takes_them_along_and_is_75() {
    let Some((bed, role, sankofa, proxy)) = leased("1h", "2h").await else { return };
    let running = sankofa.spawn(&["sync", "p"]);
    until_it_reads(&proxy, &running).await;
    bed.vault.put(&format!("sys/leases/revoke-prefix/auth/{}", role.mount), json!({})).await;
    bed.until_no_user().await;
    was_taken_away(&bed, &sankofa, running).await;
}

#[tokio::test]
async fn the_smaller_of_what_lease_and_token_allow_is_said_at_the_start() {
    let Some((bed, role, sankofa, _proxy)) = leased("1h", "4h").await else { return };
    bed.connection("src", bed.database.server().port()).await;
    let run = sankofa.run(&["sync", "p"]).await.succeeds();
    assert!(run.stderr.contains("the user of src lives 4 h 00 min at most, by its lease"), "{}", run.told());
    let body = json!({"token_ttl": "10m", "token_max_ttl": "20m"});
    bed.vault.put(&format!("auth/{}/role/rows", role.mount), body).await;
    let run = sankofa.run(&["sync", "p"]).await.succeeds();
    let said =
        ["by its token: a run that takes longer ends with 75", "lives 20 min 00 s at most", "lives 19 min"];
    assert!(run.stderr.contains(said[0]), "{}", run.told());
    assert!(said[1..].iter().any(|said| run.stderr.contains(said)), "{}", run.told());
    bed.until_no_user().await;
}

/// The four hours on a lease of one, at another scale: six seconds on a lease of two.
#[tokio::test]
async fn a_backup_that_takes_longer_than_its_default_lease_is_stored_and_proven() {
    if !has_clients(17) {
        return;
    }
    let Some(bed) = Bed::new(17, "GRANT pg_read_all_data, pg_monitor TO {group}").await else { return };
    bed.database.sql(ROWS).await;
    let path = bed.role("backup", "2s", "60s").await;
    let proxy = slowly(bed.database.server().port());
    bed.connection("src", proxy.port()).await;
    let (_, recipient) = identity();
    let more = format!(
        "stores: {{here: {{directory: store}}}}\nbackups:\n  defaults: {{store: here, encrypt_to: [{recipient}]}}\n  \
         databases: {{hr: {{connection: src}}}}\n"
    );
    let sankofa = bed.project("{token: {}}", &format!("src: {path}")).env("VAULT_TOKEN", &bed.vault.root);
    let yaml = sankofa.read("sankofa.yaml");
    sankofa.write("sankofa.yaml", format!("{yaml}{more}"));
    let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
    let sankofa = sankofa.env("SANKOFA_PG_BIN", &programs);
    let done = sankofa.run(&["backup", "hr", "--skip-globals"]).await.succeeds().json();
    assert!(done["duration_ms"].as_u64().unwrap() > 3000, "too fast to need another lease: {done}");
    assert_eq!(done["rows"], 81);
    sankofa.run(&["backups", "verify"]).await.succeeds();
    bed.until_no_user().await;
}
