//! Who is told by webhook and mail, how often, and what never.

use crate::support::Sankofa;
use crate::support::smtp::Smtp;
use crate::support::vault::{VaultServer, text};
use crate::warehouse::Platform;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A token that nobody but the receiver may see.
const TOKEN: &str = "MARKED-TOKEN-not-a-secret";

/// A receiver that keeps what it was told: head and body of each request.
pub struct Receiver {
    pub port: u16,
    pub told: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
                    loop {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        if let Some((head, body)) = text.split_once("\r\n\r\n")
                            && let Ok(body) = serde_json::from_str(body)
                        {
                            kept.lock().unwrap().push((head.to_lowercase(), body));
                            let _ = stream
                                .write_all(
                                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                                )
                                .await;
                            return;
                        }
                        match stream.read(&mut buffer).await {
                            Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                            _ => return,
                        }
                    }
                });
            }
        });
        Receiver { port, told }
    }

    /// The connection of this receiver.
    pub fn connection(&self) -> String {
        format!(
            r#"{{"conn_type": "http", "host": "127.0.0.1", "port": {}, "schema": "http", "password": "{TOKEN}", "extra": {{"endpoint": "hooks/x"}}}}"#,
            self.port
        )
    }

    /// Events and subjects since the last call.
    fn take(&self) -> Vec<String> {
        let text = |body: &Value, key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        told.iter().map(|(_, body)| format!("{} {}", text(body, "event"), text(body, "subject"))).collect()
    }
}

const NOTIFY: &str =
    "warehouse: {connection: wh}\nnotify: [{webhook: {connection: alerts}, when: [failure, late]}]\n";

async fn platform(receiver: &Receiver) -> Platform {
    let bed = Platform::new((17, 17)).await;
    let project = bed.project.connection_uri("alerts", &receiver.connection());
    let bed = Platform { project, ..bed };
    bed.write_with("servers: []", NOTIFY);
    bed
}

const NOWHERE: &str = "postgres://a:MARKED-PASSWORD@127.0.0.1:1/x";

#[tokio::test]
async fn a_failure_is_told_once_a_run_and_again_when_it_is_well() {
    let receiver = Receiver::start().await;
    let bed = platform(&receiver).await;
    let good = bed.source.connection_uri();
    let down = Platform { project: bed.project.connection_uri("source", NOWHERE), ..bed };
    let once = down.run(&["backup", "db", "--run", "one"]).await.exits(75);
    {
        let told = receiver.told.lock().unwrap();
        let (head, body) = &told[0];
        assert!(
            head.starts_with("post /hooks/x ") && head.contains(&format!("bearer {}", TOKEN.to_lowercase())),
            "{head}"
        );
        assert_eq!(
            (&body["exit"], &body["run_id"], &body["environment"]),
            (&75.into(), &"one".into(), &"default".into())
        );
        assert!(!body.to_string().contains("MARKED") && !once.told().contains(TOKEN), "{body}");
    }
    assert_eq!(receiver.take(), ["failure backup db"]);
    down.run(&["backup", "db", "--run", "one"]).await.exits(75);
    assert!(receiver.take().is_empty(), "the same run was told of twice");
    down.run(&["backup", "db", "--run", "two"]).await.exits(75);
    assert_eq!(receiver.take(), ["failure backup db"]);
    down.run(&["backup", "db", "--dry-run"]).await.exits(75);
    down.run(&["backup", "nosuch"]).await.exits(78);
    assert_eq!(receiver.take(), ["failure backup nosuch"]);
    let well = Platform { project: down.project.connection_uri("source", &good), ..down };
    well.run(&["backup", "db", "--run", "two"]).await.succeeds();
    assert_eq!(receiver.take(), ["recovered backup db"]);
    well.run(&["backup", "db"]).await.succeeds();
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn what_is_late_is_told_once_until_something_else_is_and_when_it_is_no_more() {
    let receiver = Receiver::start().await;
    let bed = platform(&receiver).await;
    for _ in 0..2 {
        bed.run(&["status"]).await.exits(65);
    }
    assert_eq!(receiver.take(), ["late status"]);
    bed.run(&["backup", "db"]).await.succeeds();
    bed.run(&["status"]).await.exits(65); // still no drill
    assert_eq!(receiver.take(), ["late status"]);
    bed.run(&["drill", "db"]).await.succeeds();
    bed.run(&["status"]).await.succeeds();
    assert_eq!(receiver.take(), ["recovered status"]);
    bed.run(&["status"]).await.succeeds();
    assert!(receiver.take().is_empty());
}

#[tokio::test]
async fn a_check_that_refuses_a_run_is_told_without_a_cell_and_only_a_publication_is_a_recovery() {
    let receiver = Receiver::start().await;
    let bed = platform(&receiver).await;
    bed.source.sql("UPDATE t SET v = 'MARKED-CELL'").await;
    let pipeline = |rule: &str| {
        format!(
            "source: source\nschema: w\ntables:\n  public.t: {{mode: full_refresh, checks: {{{rule}}}}}\n"
        )
    };
    bed.project.write("pipelines/p.yaml", pipeline("unique: [v]"));
    bed.run(&["sync", "p", "--run", "one"]).await.exits(65);
    {
        let told = receiver.told.lock().unwrap();
        let (missed, text) = (told[0].1["missed"][0].as_str().unwrap(), told[0].1.to_string());
        assert!(
            missed.starts_with("public.t: unique(v): since ") && missed.contains("rows id=1; id=2"),
            "{missed}"
        );
        assert!(!text.contains("MARKED"), "{text}");
    }
    assert_eq!(receiver.take(), ["failure pipeline p"]);
    bed.project.write("pipelines/p.yaml", pipeline("unique: [id]"));
    bed.run(&["sync", "p", "--run", "two"]).await.succeeds();
    assert_eq!(receiver.take(), ["recovered pipeline p"]);
}

#[tokio::test]
async fn a_dead_a_silent_or_a_misspelt_receiver_and_a_launcher_that_notifies_change_nothing() {
    let receiver = Receiver::start().await;
    let bed = platform(&receiver).await;
    let launched = bed.project.env("SANKOFA_LAUNCHER", "nomad").connection_uri("source", NOWHERE);
    let bed = Platform { project: launched, ..bed };
    bed.run(&["backup", "db"]).await.exits(75);
    assert!(receiver.take().is_empty());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // takes connections, never answers
    let silent_port = silent.local_addr().unwrap().port();
    let mut project = bed.project.env("SANKOFA_LAUNCHER", "");
    for uri in [
        "http://127.0.0.1:1".to_owned(),
        format!("http://127.0.0.1:{silent_port}"),
        "http://".to_owned(),
        r#"{"conn_type": "http", "host": "ftp://x"}"#.to_owned(),
    ] {
        project = project.connection_uri("alerts", &uri);
        let done = project.run(&["backup", "db"]).await.exits(75);
        assert!(done.stderr.contains("nobody could be told"), "{}", done.told());
    }
}

/// A platform that tells two people by mail through `server`, whose connection has `extra`.
async fn with_mail(server: &Smtp, extra: &str) -> Platform {
    let bed = Platform::new((17, 17)).await;
    let connection = format!(
        r#"{{"conn_type": "smtp", "host": "localhost", "port": {}, "login": "{}", "password": "{}", "extra": {extra}}}"#,
        server.port(),
        Smtp::LOGIN,
        Smtp::PASSWORD
    );
    let certificate = server.certificate().display().to_string();
    let project = bed.project.connection_uri("post", &connection).env("SSL_CERT_FILE", &certificate);
    let bed = Platform { project, ..bed };
    bed.write_with(
        "servers: [source]",
        "warehouse: {connection: wh}\nnotify: [{mail: {connection: post, to: [ama@school.example, 'Kofi <kofi@school.example>']}, when: [failure, late]}]\n",
    );
    bed
}

/// Subjects and receivers of messages.
fn subjects(told: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = told
        .iter()
        .map(|one| format!("{} > {}", one["to"][0].as_str().unwrap(), one["subject"].as_str().unwrap()))
        .collect();
    all.sort();
    all
}

const TLS_AT_ONCE: &str = r#"{"from_email": "platform@school.example"}"#;
const STARTTLS: &str = r#"{"disable_ssl": true}"#;

#[tokio::test]
async fn people_are_told_by_mail_once_a_run_with_the_rows_of_a_check_and_again_when_it_is_well() {
    let server = Smtp::start("starttls").await;
    let bed = with_mail(&server, STARTTLS).await;
    bed.source.sql("UPDATE t SET v = 'MARKED-CELL' WHERE id < 3").await;
    let pipeline = |rule: &str| {
        format!(
            "source: source\nschema: w\ntables:\n  public.t: {{mode: full_refresh, checks: {{{rule}}}}}\n"
        )
    };
    bed.project.write("pipelines/p.yaml", pipeline("unique: [v]"));
    for _ in 0..2 {
        let done = bed.run(&["sync", "p", "--run", "monday"]).await.exits(65);
        assert!(!done.told().contains("nobody could be told"), "{}", done.told());
    }
    let told = server.take(2).await;
    let failed =
        ["ama", "kofi"].map(|who| format!("{who}@school.example > Sankofa (default): pipeline p failed"));
    assert_eq!(subjects(&told), failed);
    let body = told[0]["body"].as_str().unwrap();
    for words in
        ["unique(v) is 1", "rows id=1; id=2", "since 2", "run: monday", "hint: Nothing was published."]
    {
        assert!(body.contains(words), "no {words:?} in {body}");
    }
    assert_eq!((&told[0]["from"], &told[0]["automatic"]), (&Smtp::LOGIN.into(), &"auto-generated".into()));
    assert!(told.iter().all(|one| one["login"] == true && !one.to_string().contains("MARKED")), "{told:?}");
    bed.project.write("pipelines/p.yaml", pipeline("unique: [id]"));
    bed.run(&["sync", "p"]).await.succeeds();
    let well = ["ama", "kofi"]
        .map(|who| format!("{who}@school.example > Sankofa (default): pipeline p is well again"));
    assert_eq!(subjects(&server.take(2).await), well);
}

#[tokio::test]
async fn what_is_late_and_what_nobody_backs_up_is_mailed_once_over_tls_from_the_start() {
    let server = Smtp::start("tls").await;
    let bed = with_mail(&server, TLS_AT_ONCE).await;
    for _ in 0..2 {
        bed.run(&["status"]).await.exits(65);
    }
    bed.run(&["backups", "coverage"]).await.exits(65); // the warehouse, for one, is on that server
    let told = server.take(4).await;
    let late = |what: &str| {
        ["ama", "kofi"].map(|who| format!("{who}@school.example > Sankofa (default): {what} is late"))
    };
    assert_eq!(subjects(&told), {
        let mut all = [late("status"), late("coverage")].concat();
        all.sort();
        all
    });
    assert_eq!(told[0]["from"], "platform@school.example");
}

#[tokio::test]
async fn a_mail_server_that_is_dead_not_trusted_or_wants_another_login_fails_no_run_and_hears_no_password() {
    let server = Smtp::start("tls").await;
    let bed = with_mail(&server, TLS_AT_ONCE).await;
    let plain = Smtp::start("plain").await;
    let of = |host: &str, port: u16, password: &str, extra: &str| {
        format!(
            r#"{{"conn_type": "smtp", "host": "{host}", "port": {port}, "login": "{}", "password": "{password}", "extra": {extra}}}"#,
            Smtp::LOGIN
        )
    };
    let mut project = bed.project.connection_uri("source", NOWHERE);
    for (connection, why) in [
        (of("localhost", 1, "x", "{}"), "no connection"),
        (of("127.0.0.1", server.port(), Smtp::PASSWORD, "{}"), "does not verify"),
        (of("localhost", server.port(), "MARKED-WRONG", "{}"), "status 535"),
        (of("localhost", plain.port(), Smtp::PASSWORD, STARTTLS), "neither STARTTLS"),
        (
            of("localhost", plain.port(), Smtp::PASSWORD, r#"{"disable_ssl": true, "disable_tls": true}"#),
            "in the clear",
        ),
    ] {
        project = project.connection_uri("post", &connection);
        let done = project.run(&["backup", "db"]).await.exits(75);
        assert!(
            done.stderr.contains("nobody could be told") && done.stderr.contains(why),
            "{why}: {}",
            done.told()
        );
        assert!(!done.told().contains("MARKED"), "{}", done.told());
    }
    // One of two is refused by the server: the other is told.
    let text = "warehouse: {connection: wh}\nnotify: [{mail: {connection: post, to: [nobody@school.example, ama@school.example]}, when: [failure]}]\n";
    let bed = Platform {
        project: project.connection_uri("post", &of("localhost", server.port(), Smtp::PASSWORD, "{}")),
        ..bed
    };
    bed.write_with("servers: []", text);
    let done = bed.run(&["backup", "db"]).await.exits(75);
    assert!(done.stderr.contains("1 of 2 messages: status 550"), "{}", done.told());
    assert_eq!(subjects(&server.take(1).await), ["ama@school.example > Sankofa (default): backup db failed"]);
}

/// The place that would know whom to tell is the one that refuses: another that the project names has it too.
#[tokio::test]
async fn a_wrapped_secret_id_that_somebody_else_has_taken_is_told_though_vault_opens_for_nobody() {
    let Some(vault) = VaultServer::shared().await else { return };
    let receiver = Receiver::start().await;
    let role = vault.approle("path \"kv/*\" { capabilities = [\"read\"] }", json!({})).await;
    let wrapped = vault.wrapped(&format!("auth/{}/role/rows/secret-id", role.mount), "120s").await;
    let token = text(&wrapped, "/wrap_info/token");
    vault.ask("PUT", "sys/wrapping/unwrap", &token, None).await; // somebody else
    let yaml = format!(
        "version: 1\nsecrets:\n  - vault:\n      address: \"{}\"\n      \
         auth: {{approle: {{role_id: \"{}\", secret_id_env: WRAPPED, wrapped: true, mount: {}}}}}\n      mount: kv\n  - environment\n\
         warehouse: {{connection: wh}}\nnotify: [{{webhook: {{connection: alerts}}, when: [failure]}}]\n",
        vault.address, role.role_id, role.mount
    );
    let sankofa = Sankofa::new()
        .file("sankofa.yaml", yaml)
        .file("pipelines/p.yaml", "source: src\nschema: p\ntables: {public.a: {mode: full_refresh}}\n")
        .connection_uri("alerts", &receiver.connection())
        .env("WRAPPED", &wrapped.to_string());
    let done = sankofa.run(&["sync", "p"]).await.exits(77);
    assert!(done.stderr.contains("taken by somebody else"), "{}", done.told());
    let told = receiver.told.lock().unwrap().clone();
    assert_eq!(told.len(), 1, "{}", done.told());
    assert!(told[0].1.to_string().contains("taken by somebody else"), "{told:?}");
    assert!(!format!("{told:?}").contains(&token));
}
