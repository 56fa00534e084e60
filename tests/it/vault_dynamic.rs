//! Database users that a real Vault makes on a real PostgreSQL, and takes away again.

use super::vault::{file, resolver, settings};
use crate::support::vault::{ROOT, VaultServer, unique};
use crate::support::*;
use sankofa::error::classify;
use sankofa::pg::{SessionOptions, connect};
use sankofa::secret::Connection;
use sankofa::secret::vault::Settings;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The shipped statements that make a user of a group.
const CREATION: &str = include_str!("../../nomad/policies/user.sql");
const REVOCATION: &str = include_str!("../../nomad/policies/user-revoked.sql");

/// A Vault whose database engine makes users on `database`'s server, members of group roles.
pub struct Bed {
    pub vault: Arc<VaultServer>,
    pub database: Database,
    /// Mount of the database engine.
    engine: String,
    /// Mount of the key-value engine.
    pub mount: String,
    pub group: String,
}

impl Bed {
    /// `rights` is SQL for the group, called `{group}` there.
    pub async fn new(major: u16, rights: &str) -> Option<Bed> {
        let vault = VaultServer::shared().await?;
        let server = Server::major(major);
        let database = server.fresh_database("vault_dyn").await;
        let group = server.role("dyn_group", "").await;
        let admin = server.role("dyn_vault", "CREATEROLE").await;
        database.sql(&format!("GRANT {group} TO {admin} WITH ADMIN OPTION")).await;
        database.sql(&rights.replace("{group}", &group)).await;
        let (engine, mount) = (unique("database"), vault.kv(2).await);
        vault.put(&format!("sys/mounts/{engine}"), json!({"type": "database"})).await;
        let config = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": admin, "password": PASSWORD,
            "password_authentication": "scram-sha-256",
            "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/{}?sslmode=disable", server.port(), database.name()),
        });
        vault.put(&format!("{engine}/config/here"), config).await;
        let bed = Bed { vault, database, engine, mount, group };
        bed.connection("src", server.port()).await;
        Some(bed)
    }

    /// A role of the engine, by the shipped statements; its path.
    pub async fn role(&self, name: &str, ttl: &str, max: &str) -> String {
        let body = json!({
            "db_name": "here", "default_ttl": ttl, "max_ttl": max,
            "creation_statements": [CREATION.replace("sankofa_group", &self.group)],
            "revocation_statements": [REVOCATION.replace("sankofa_group", &self.group)],
        });
        self.vault.put(&format!("{}/roles/{name}", self.engine), body).await;
        format!("{}/creds/{name}", self.engine)
    }

    /// A connection of host and database alone.
    pub async fn connection(&self, id: &str, port: u16) {
        let uri = format!("postgres://127.0.0.1:{port}/{}", self.database.name());
        self.vault.write((&self.mount, 2), &format!("connections/{id}"), json!({ "conn_uri": uri })).await;
    }

    fn settings(&self, path: &str, token: &str) -> Settings {
        let dynamic = [("src".to_owned(), path.to_owned())].into();
        Settings { dynamic, ..settings(&self.vault.address, &self.mount, 2, token) }
    }

    /// Users that the engine has made and not taken away.
    async fn users(&self) -> Vec<String> {
        let query = format!(
            "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
             WHERE g.rolname = '{}' AND m.rolname LIKE 'v-%'",
            self.group
        );
        self.database.query_text(&query).await.into_iter().flatten().flatten().collect()
    }

    /// Waits until no user is left: Vault revokes in a queue of its own.
    pub async fn until_no_user(&self) {
        for _ in 0..200 {
            if self.users().await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("users are left: {:?}\n{}", self.users().await, self.vault.log());
    }

    /// Leases that the engine's users hang on, and those that Vault could not revoke.
    async fn leases(&self) -> (Value, Value) {
        let of =
            self.vault.ask("LIST", &format!("sys/leases/lookup/{}/creds/", self.engine), ROOT, None).await.1;
        let (_, stuck) = self.vault.get("sys/leases?type=irrevocable").await;
        (of["data"]["keys"].clone(), stuck["data"]["lease_count"].clone())
    }

    pub fn project(&self, auth: &str, more: &str) -> Sankofa {
        let yaml = format!(
            "version: 1\nsecrets: [{{vault: {{address: \"{}\", mount: {}, auth: {auth}, dynamic: {{{more}}}}}}}]\n",
            self.vault.address, self.mount
        );
        Sankofa::new().file("sankofa.yaml", yaml)
    }
}

async fn select_one(connection: &Connection) -> anyhow::Result<()> {
    let session = connect(connection, &SessionOptions::named("sankofa/test")).await?;
    session.client.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_user_is_leased_renewed_at_half_of_its_life_and_given_back() {
    let Some(bed) = Bed::new(16, "GRANT pg_read_all_data TO {group}").await else { return };
    let path = bed.role("rows", "2s", "60s").await;
    let asked = resolver(bed.settings(&path, ROOT));
    let (answer, _) = asked.connection_told("src").await.unwrap();
    assert_eq!(answer.life, Some(Duration::from_secs(2)));
    assert!(answer.kind.contains("user by lease"), "{}", answer.kind);
    let login = answer.value.login.clone().unwrap();
    assert!(login.starts_with("v-"), "{login}");
    assert_eq!(bed.users().await, [login]);
    select_one(&answer.value).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    select_one(&answer.value).await.unwrap();
    assert_eq!(asked.lost().await, None);
    asked.close().await;
    bed.until_no_user().await;
    let (_, stuck) = bed.leases().await;
    assert_eq!(stuck, json!(0));
}

#[tokio::test]
async fn a_user_that_was_taken_away_is_asked_for_once_more() {
    let Some(bed) = Bed::new(15, "").await else { return };
    let path = bed.role("rows", "1h", "2h").await;
    let asked = resolver(bed.settings(&path, ROOT));
    let first = asked.connection("src").await.unwrap();
    bed.vault.put(&format!("sys/leases/revoke-prefix/{path}"), json!({})).await;
    bed.until_no_user().await;
    assert_eq!(asked.lost().await.as_deref(), Some("src"));
    select_one(&first).await.unwrap();
    assert_eq!(asked.lost().await, None, "the one in its place is there");
    // And never a third time.
    bed.vault.put(&format!("sys/leases/revoke-prefix/{path}"), json!({})).await;
    bed.until_no_user().await;
    let refused = classify(&select_one(&first).await.unwrap_err());
    assert_eq!(refused.kind.exit_code(), 77, "{}", refused.what);
    asked.close().await;
}

#[tokio::test]
async fn a_static_role_gives_its_user_and_is_not_revoked() {
    let Some(bed) = Bed::new(14, "").await else { return };
    let user = bed.database.server().role("dyn_static", "").await;
    let admin = bed.database.value(&format!("SELECT string_agg(grantee::text, '') FROM (SELECT member::regrole AS grantee FROM pg_auth_members WHERE roleid = '{}'::regrole) a", bed.group)).await;
    bed.database.sql(&format!("GRANT {user} TO {admin} WITH ADMIN OPTION")).await;
    let body = json!({"db_name": "here", "username": user, "rotation_period": "1h"});
    bed.vault.put(&format!("{}/static-roles/fixed", bed.engine), body).await;
    let asked = resolver(bed.settings(&format!("{}/static-creds/fixed", bed.engine), ROOT));
    let connection = asked.connection("src").await.unwrap();
    assert_eq!(connection.login.as_deref(), Some(user.as_str()));
    select_one(&connection).await.unwrap();
    // Rotated behind our back: the server refuses, and the place is asked once more.
    bed.vault.put(&format!("{}/rotate-role/fixed", bed.engine), json!({})).await;
    select_one(&connection).await.unwrap();
    asked.close().await;
    select_one(&connection).await.unwrap();
}

#[tokio::test]
async fn a_role_that_is_not_there_or_not_allowed_is_78_or_77_and_names_the_path() {
    let Some(bed) = Bed::new(15, "").await else { return };
    let path = format!("{}/creds/nothing", bed.engine);
    let failure = super::vault::failure(&resolver(bed.settings(&path, ROOT)), "src").await;
    assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
    let policy = format!("path \"{}/data/connections/*\" {{ capabilities = [\"read\"] }}", bed.mount);
    let token = bed.vault.token(&[&bed.vault.policy(&policy).await], "1h", "1h").await;
    let path = bed.role("rows", "1h", "1h").await;
    let failure = super::vault::failure(&resolver(bed.settings(&path, &token)), "src").await;
    assert_eq!(failure.kind.exit_code(), 77, "{}", failure.what);
    assert!(failure.hint.unwrap().contains(&format!("path \"{path}\"")));
}

/// Both ends are made by Vault; the warehouse's user acts as the group, which owns what it makes.
#[tokio::test]
async fn a_full_refresh_under_leased_users_leaves_no_role_and_no_lease_and_the_group_owns_the_rows() {
    let Some(bed) = Bed::new(17, "GRANT pg_monitor TO {group}").await else { return };
    bed.database
        .sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 10)")
        .await;
    bed.database
        .sql(&format!(
            "GRANT SELECT ON a TO {0}; GRANT CREATE ON DATABASE {1} TO {0}",
            bed.group,
            bed.database.name()
        ))
        .await;
    let path = bed.role("warehouse", "1h", "1h").await;
    bed.connection("warehouse", bed.database.server().port()).await;
    let auth = format!("{{token: {{file: {}}}}}", file(ROOT).display());
    let more = format!(
        "stores: {{stage: {{directory: stage}}}}\nwarehouse: {{connection: warehouse, owner_role: {}}}\nstage: {{store: stage}}\n",
        bed.group
    );
    let sankofa = bed.project(&auth, &format!("src: {path}, warehouse: {path}"));
    let yaml = sankofa.read("sankofa.yaml");
    sankofa.write("sankofa.yaml", format!("{yaml}{more}"));
    sankofa.write("pipelines/p.yaml", "source: src\nschema: p\ntables: {public.a: {mode: full_refresh}}\n");
    sankofa.run(&["warehouse", "init"]).await.succeeds();
    for _ in 0..2 {
        let run = sankofa.run(&["sync", "p", "--full-refresh"]).await.succeeds();
        assert!(run.stderr.contains("lives 1 h 00 min at most, by its lease"), "{}", run.told());
    }
    bed.until_no_user().await;
    assert_eq!(bed.database.value("SELECT count(*) FROM p.a").await, "10");
    let owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class WHERE relnamespace IN ('p'::regnamespace, 'sankofa'::regnamespace)";
    assert_eq!(bed.database.value(owners).await, bed.group);
    let verifiers = bed.database.log().join("\n");
    assert!(verifiers.contains("SCRAM-SHA-256$"), "the password came as a verifier");
    let (leases, stuck) = bed.leases().await;
    assert_eq!((leases, stuck), (Value::Null, json!(0)));
    let without = sankofa.read("sankofa.yaml").replace(&format!(", owner_role: {}", bed.group), "");
    sankofa.write("sankofa.yaml", without);
    let doctor = sankofa.run(&["doctor", "--for", "rows"]).await.exits(78);
    assert!(doctor.stdout.contains("owner_role"), "{}", doctor.told());
}

/// One connection, which both classes open: only the group of `backup` may read table `payroll`.
#[tokio::test]
async fn each_class_has_the_user_of_its_own_path_for_a_connection_that_both_open() {
    let Some(bed) = Bed::new(17, "GRANT pg_monitor TO {group}").await else { return };
    if !has_clients(17) {
        return;
    }
    let (group, name) = (bed.group.clone(), bed.database.name().to_owned());
    let keepers = bed.database.server().role("dyn_keepers", "").await;
    let admin = "SELECT member::regrole::text FROM pg_auth_members WHERE roleid = '{}'::regrole LIMIT 1";
    let admin = bed.database.value(&admin.replace("{}", &group)).await;
    bed.database
        .sql(&format!(
            "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE TABLE payroll (id int);
             GRANT SELECT ON a TO {group}; GRANT CREATE ON DATABASE {name} TO {group};
             GRANT {keepers} TO {admin} WITH ADMIN OPTION; GRANT pg_read_all_data TO {keepers}"
        ))
        .await;
    let rows = bed.role("rows", "1h", "1h").await;
    let bed = Bed { group: keepers, ..bed };
    let backup = bed.role("backup", "1h", "1h").await;
    let uri = bed.database.connection_uri();
    bed.vault.write((&bed.mount, 2), "connections/warehouse", json!({ "conn_uri": uri })).await;
    let auth = format!("{{token: {{file: {}}}}}", file(ROOT).display());
    let both = format!("src: {{rows: {rows}, backup: {backup}}}");
    let sankofa = bed
        .project(&auth, &both)
        .file("pipelines/p.yaml", "source: src\nschema: p\ntables: {public.a: {mode: full_refresh}}\n");
    let recipient = age::x25519::Identity::generate().to_public();
    let yaml = sankofa.read("sankofa.yaml");
    sankofa.write(
        "sankofa.yaml",
        format!(
            "{yaml}stores: {{here: {{directory: store}}}}\nwarehouse: {{connection: warehouse}}\n\
         backups: {{databases: {{hr: {{connection: src, store: here, encrypt_to: [{recipient}]}}}}}}\n"
        ),
    );
    let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
    let sankofa = sankofa.env("SANKOFA_PG_BIN", &programs);
    sankofa.run(&["sync", "p"]).await.succeeds();
    sankofa.run(&["backup", "hr", "--skip-globals"]).await.succeeds();
    sankofa.run(&["doctor"]).await.succeeds();
    let told = sankofa.run(&["secrets", "policy"]).await.succeeds().json();
    let has = |class: &str, path: &str| told["classes"][class]["policies"][0]["paths"].get(path).is_some();
    assert!(has("rows", &rows) && !has("rows", &backup) && !has("drill", &backup), "{told}");
    assert!(has("backup", &backup) && !has("backup", &rows), "{told}");
    // One path for both: its user has the rights of one of them.
    sankofa.write("sankofa.yaml", sankofa.read("sankofa.yaml").replace(&both, &format!("src: {rows}")));
    let done = sankofa.run(&["backup", "hr", "--skip-globals"]).await.exits(77);
    assert!(done.stderr.contains("payroll"), "{}", done.told());
    let told = sankofa.run(&["secrets", "policy"]).await.succeeds().json();
    assert!(told["warnings"].to_string().contains("in classes rows and backup"), "{told}");
}

#[tokio::test]
async fn a_signal_gives_the_users_back_too() {
    let Some(bed) = Bed::new(17, "GRANT pg_monitor TO {group}").await else { return };
    bed.database.sql("CREATE TABLE a (id int PRIMARY KEY)").await;
    bed.database
        .sql(&format!(
            "GRANT SELECT ON a TO {0}; GRANT CREATE ON DATABASE {1} TO {0}",
            bed.group,
            bed.database.name()
        ))
        .await;
    let path = bed.role("warehouse", "1h", "1h").await;
    bed.connection("warehouse", bed.database.server().port()).await;
    let auth = format!("{{token: {{file: {}}}}}", file(ROOT).display());
    let sankofa = bed.project(&auth, &format!("src: {path}, warehouse: {path}"));
    let yaml = sankofa.read("sankofa.yaml");
    sankofa.write(
        "sankofa.yaml",
        format!("{yaml}stores: {{stage: {{directory: stage}}}}\nwarehouse: {{connection: warehouse, owner_role: {}}}\nstage: {{store: stage}}\n", bed.group),
    );
    sankofa.write("pipelines/p.yaml", "source: src\nschema: p\ntables: {public.a: {mode: full_refresh}}\n");
    let blocker = bed.database.connect().await;
    blocker.batch_execute("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let running = sankofa.spawn(&["sync", "p"]);
    while bed.users().await.len() < 2 {
        assert!(!running.log_so_far().contains("error:"), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.signal(libc::SIGTERM);
    running.wait().await.exits(143);
    blocker.batch_execute("ROLLBACK").await.unwrap();
    bed.until_no_user().await;
}

#[tokio::test]
async fn a_lease_that_is_lost_in_mid_dump_is_75_and_stores_no_backup() {
    let Some(bed) = Bed::new(17, "GRANT pg_read_all_data TO {group}; GRANT pg_monitor TO {group}").await
    else {
        return;
    };
    if !has_clients(17) {
        return;
    }
    bed.database.sql("CREATE TABLE a AS SELECT g, repeat('x', 60000) FROM generate_series(1, 80) g; CREATE TABLE b AS SELECT 1").await;
    let path = bed.role("backup", "1h", "4h").await;
    let proxy = Proxy::to(bed.database.server().port());
    let slow = Deed::Trickle { bytes: 64 * 1024, pause: Duration::from_millis(25) };
    proxy.add(Rule::on(Direction::FromClient, 'Q').containing("COPY public.a").after(slow));
    bed.connection("src", proxy.port()).await;
    let auth = format!("{{token: {{file: {}}}}}", file(ROOT).display());
    let sankofa = bed.project(&auth, &format!("src: {path}"));
    let yaml = sankofa.read("sankofa.yaml");
    let recipient = age::x25519::Identity::generate().to_public();
    sankofa.write("sankofa.yaml", format!(
        "{yaml}stores: {{here: {{directory: store}}}}\nwarehouse: {{connection: none}}\nbackups:\n  defaults: {{store: here, encrypt_to: [{recipient}]}}\n  databases: {{hr: {{connection: src}}}}\n"
    ));
    let programs = client_program(17, "pg_dump").parent().unwrap().display().to_string();
    let sankofa = sankofa.env("SANKOFA_PG_BIN", &programs);
    let running = sankofa.spawn(&["backup", "hr", "--skip-globals"]);
    while proxy.fired().is_empty() {
        assert!(!running.log_so_far().contains("error:"), "{}", running.log_so_far());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bed.vault.put(&format!("sys/leases/revoke-prefix/{path}"), json!({})).await;
    bed.until_no_user().await;
    let run = running.wait().await.exits(75);
    assert!(
        run.stderr.contains("the user of connection src was taken away while it was in use"),
        "{}",
        run.told()
    );
    let stored = std::process::Command::new("find")
        .arg(sankofa.folder().join("store"))
        .args(["-name", "manifest.json"])
        .output()
        .unwrap();
    assert!(stored.stdout.is_empty(), "{}", String::from_utf8_lossy(&stored.stdout));
}
