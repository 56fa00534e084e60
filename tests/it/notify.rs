//! Who is told by webhook, how often, and what never.

use crate::warehouse::Platform;
use serde_json::Value;
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

    fn connection(&self) -> String {
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
    assert!(!receiver.told.lock().unwrap()[0].1.to_string().contains("MARKED"));
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
