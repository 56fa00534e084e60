//! An AWS of our own: moto's server, for Secrets Manager and STS.
//!
//! In:    the packages of the test bed.
//! Out:   an address, and secrets in it; tests are kept apart by the prefix of their names; its access log.
//! Holds: one server a test process, which ends with it, however that ends; where it is missing a test
//!        says so loudly and ends; in CI that is a failure.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::bed;
use super::server::free_port;

/// Serves on port $1 until its standard input ends.
const SERVER: &str = "
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])
";

/// The region that everything is in.
pub const REGION: &str = "eu-west-1";

/// A running server.
#[derive(Clone, Copy, Debug)]
pub struct Moto {
    port: u16,
    /// What it writes, a line a request; without a name, so it is gone with the processes.
    log: &'static File,
}

impl Moto {
    /// The one of this process; cost: 2 s the first time.
    ///
    /// # Panics
    /// In CI, when it is missing.
    pub async fn shared() -> Option<Moto> {
        static SHARED: OnceCell<Option<Moto>> = OnceCell::const_new();
        *SHARED.get_or_init(Moto::start).await
    }

    #[expect(clippy::zombie_processes, reason = "it ends with this process, when its standard input does")]
    async fn start() -> Option<Moto> {
        let Some(packages) = bed::moto() else {
            assert!(!bed::is_ci(), "no AWS: tests/testbed/moto.sh says why");
            eprintln!("\n!!! NOT TESTED: no AWS (tests/testbed/moto.sh says why)\n");
            return None;
        };
        let port = free_port();
        let mut command = Command::new("python3");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-c", SERVER, &port.to_string()]);
        let log: &'static File = Box::leak(Box::new(tempfile::tempfile().expect("a file")));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log.try_clone().expect("a file"));
        let mut child = command.spawn().expect("starting moto");
        // Held open until this process ends; nobody else has it.
        std::mem::forget(child.stdin.take());
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(Moto { port, log });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("moto does not start: {:?}", child.try_wait());
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its access log so far.
    pub fn log(&self) -> Vec<u8> {
        let mut text = vec![0; self.log.metadata().map_or(0, |about| about.len() as usize)];
        self.log.read_exact_at(&mut text, 0).expect("the log of moto");
        text
    }

    /// Creates a secret.
    pub async fn create(&self, name: &str, text: &str) {
        let token = uuid::Uuid::now_v7().to_string();
        let body = serde_json::json!({"Name": name, "SecretString": text, "ClientRequestToken": token});
        self.call("CreateSecret", body).await;
    }

    /// Makes a secret of bytes.
    pub async fn create_binary(&self, name: &str) {
        self.call("CreateSecret", serde_json::json!({"Name": name, "SecretBinary": "AAEC"})).await;
    }

    /// Marks a secret for deletion.
    pub async fn delete(&self, name: &str) {
        self.call("DeleteSecret", serde_json::json!({"SecretId": name, "RecoveryWindowInDays": 7})).await;
    }

    /// Gives a secret another text.
    pub async fn put(&self, name: &str, text: &str) {
        self.call("PutSecretValue", serde_json::json!({"SecretId": name, "SecretString": text})).await;
    }

    async fn call(&self, action: &str, body: serde_json::Value) {
        let scope = format!("Credential=test/20260101/{REGION}/secretsmanager/aws4_request");
        let signature = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"); // moto reads the scope
        let request = reqwest::Client::new().post(self.url()).body(body.to_string());
        let request = request.header("x-amz-target", format!("secretsmanager.{action}"));
        let request = request.header("content-type", "application/x-amz-json-1.1");
        let answer = request.header("authorization", signature).send().await.expect("an answer of moto");
        let status = answer.status();
        assert!(status.is_success(), "{action}: {status} {}", answer.text().await.unwrap_or_default());
    }
}
