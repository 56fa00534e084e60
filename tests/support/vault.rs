//! A real Vault, and something that is none but answers as a broken one would.
//!
//! In:    the program of the test bed, VAULT_BIN, or `vault` or `bao` on PATH.
//! Out:   one server in memory for all tests of the process, a mount per test; servers with TLS and a seal of their own.
//! Holds: a server ends with the test process, however that ends; where the program is missing the test
//!        says so loudly and ends; in CI that is a failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

use super::bed;
use super::server::free_port;

/// The token that may do everything on the server in memory: obviously not a secret.
pub const ROOT: &str = "not-a-secret-root";

/// Runs $2.. and ends it when its own standard input ends, which only the test process holds open.
const WATCHER: &str = r#"
folder=$1
shift
"$@" </dev/null >"$folder/log" 2>&1 &
pid=$!
read -r _
kill -TERM $pid
( sleep 3; kill -KILL $pid ) 2>/dev/null &
wait $pid
rm -rf "$folder"
"#;

/// One running Vault.
#[derive(Debug)]
pub struct VaultServer {
    /// Its URL.
    pub address: String,
    /// The token of whoever set it up; empty while it is not initialised.
    pub root: String,
    folder: PathBuf,
    http: reqwest::Client,
    watcher: Child,
}

impl Drop for VaultServer {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
    }
}

impl VaultServer {
    /// The server in memory that all tests of this process share.
    ///
    /// Cost: 0.6 s the first time, then nothing.
    ///
    /// # Panics
    /// In CI, when the program is missing.
    pub async fn shared() -> Option<Arc<VaultServer>> {
        static SHARED: OnceCell<Option<Arc<VaultServer>>> = OnceCell::const_new();
        SHARED.get_or_init(|| async { VaultServer::own().await.map(Arc::new) }).await.clone()
    }

    /// A server in memory for one test, whose mounts are then called as that likes.
    ///
    /// # Panics
    /// In CI, when the program is missing.
    pub async fn own() -> Option<VaultServer> {
        let program = program()?;
        let port = free_port();
        let mut args = vec![
            "server".to_owned(),
            "-dev".into(),
            format!("-dev-root-token-id={ROOT}"),
            format!("-dev-listen-address=127.0.0.1:{port}"),
            "-dev-no-store-token".into(),
        ];
        let plugins = program.with_file_name("plugins");
        if plugins.exists() {
            args.push(format!("-dev-plugin-dir={}", plugins.display()));
        }
        let http = client().build().expect("a client");
        let mut server = start(&program, &args, format!("http://127.0.0.1:{port}"), http, folder());
        server.until_it_says(200).await;
        server.root = ROOT.to_owned();
        Some(server)
    }

    /// A server of its own with TLS: certificate and key for localhost (PEM), the authority of clients.
    /// It is neither initialised nor unsealed.
    pub async fn with_tls(certificate: &str, key: &str, clients: &str) -> Option<VaultServer> {
        let program = program()?;
        let (port, folder) = (free_port(), folder());
        for (name, text) in [("cert.pem", certificate), ("key.pem", key), ("clients.pem", clients)] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        let at = |name: &str| folder.join(name).display().to_string();
        let config = json!({
            "storage": {"inmem": {}}, "disable_mlock": true, "api_addr": format!("https://localhost:{port}"),
            "listener": [{"tcp": {
                "address": format!("127.0.0.1:{port}"), "tls_cert_file": at("cert.pem"), "tls_key_file": at("key.pem"),
                "tls_client_ca_file": at("clients.pem"),
            }}],
        });
        std::fs::write(folder.join("config.json"), config.to_string()).expect("a file");
        let args = ["server".to_owned(), format!("-config={}", at("config.json"))];
        // Only here: some of these certificates are bad on purpose.
        let http = client().tls_danger_accept_invalid_certs(true).build().expect("a client");
        let server = start(&program, &args, format!("https://localhost:{port}"), http, folder);
        server.until_it_says(501).await;
        Some(server)
    }

    /// Initialises it; returns the key that unseals it.
    pub async fn initialise(&mut self) -> String {
        let made = self.put("sys/init", json!({"secret_shares": 1, "secret_threshold": 1})).await;
        self.root = text(&made, "/root_token");
        text(&made, "/keys/0")
    }

    /// Unseals it.
    pub async fn unseal(&self, key: &str) {
        self.put("sys/unseal", json!({ "key": key })).await;
        self.until_it_says(200).await;
    }

    /// Writes `body` to `path` as root; the answer.
    ///
    /// # Panics
    /// When Vault refuses.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("PUT", path, &self.root, Some(body)).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Reads `path` as root; status and answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &self.root, None).await
    }

    /// Deletes `path` as root.
    pub async fn delete(&self, path: &str) {
        let (status, answer) = self.ask("DELETE", path, &self.root, None).await;
        assert!(status < 300, "{path}: {status} {answer}");
    }

    /// Any request with any token.
    pub async fn ask(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("{}/v1/{path}", self.address);
        let request = self.http.request(method, url).header("X-Vault-Token", token);
        let request = match &body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        let answer = request.send().await.expect("an answer of Vault");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A key-value engine of this version at a mount of its own.
    pub async fn kv(&self, version: u8) -> String {
        let mount = unique("kv");
        self.kv_at(&mount, version).await;
        mount
    }

    /// A key-value engine of this version at `mount`.
    pub async fn kv_at(&self, mount: &str, version: u8) {
        let body = json!({"type": "kv", "options": {"version": version.to_string()}});
        self.put(&format!("sys/mounts/{mount}"), body).await;
        if version == 2 {
            // A new engine of version 2 refuses for a moment, while it gets ready.
            for _ in 0..200 {
                if self.get(&format!("{mount}/config")).await.0 == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Writes a secret to engine `mount` of this version.
    pub async fn write(&self, (mount, version): (&str, u8), path: &str, fields: Value) {
        match version {
            1 => self.put(&format!("{mount}/{path}"), fields).await,
            _ => self.put(&format!("{mount}/data/{path}"), json!({ "data": fields })).await,
        };
    }

    /// An auth method of type `kind` at a mount of its own.
    pub async fn auth(&self, kind: &str) -> String {
        let mount = unique(kind.rsplit('-').next().unwrap_or(kind));
        self.put(&format!("sys/auth/{mount}"), json!({ "type": kind })).await;
        mount
    }

    /// A policy with this text; its name.
    pub async fn policy(&self, text: &str) -> String {
        let name = unique("policy");
        self.put(&format!("sys/policies/acl/{name}"), json!({ "policy": text })).await;
        name
    }

    /// A token with these policies and no others, that lives `ttl` and at most `max`.
    pub async fn token(&self, policies: &[&str], ttl: &str, max: &str) -> String {
        let body = json!({"policies": policies, "ttl": ttl, "explicit_max_ttl": max, "no_default_policy": true, "no_parent": true});
        text(&self.put("auth/token/create", body).await, "/auth/client_token")
    }

    /// A role of approle whose tokens have this policy alone: mount, role id.
    pub async fn approle(&self, policy: &str, more: Value) -> Approle {
        let (mount, policy) = (self.auth("approle").await, self.policy(policy).await);
        let mut body =
            json!({"token_policies": [policy], "token_no_default_policy": true, "token_ttl": "10m"});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.put(&format!("auth/{mount}/role/rows"), body).await;
        let role_id = text(&self.get(&format!("auth/{mount}/role/rows/role-id")).await.1, "/data/role_id");
        Approle { mount, role_id, policy }
    }

    /// A secret id of `approle`.
    pub async fn secret_id(&self, approle: &Approle) -> String {
        let made = self.put(&format!("auth/{}/role/rows/secret-id", approle.mount), json!({})).await;
        text(&made, "/data/secret_id")
    }

    /// A secret id of `approle`, wrapped for `ttl`: the whole answer.
    pub async fn wrapped(&self, path: &str, ttl: &str) -> Value {
        self.wrapped_as(path, ttl, &self.root).await
    }

    /// What `path` answers to `token`, wrapped for `ttl`.
    pub async fn wrapped_as(&self, path: &str, ttl: &str, token: &str) -> Value {
        let url = format!("{}/v1/{path}", self.address);
        let request = self.http.put(url).header("X-Vault-Token", token).header("X-Vault-Wrap-TTL", ttl);
        let answer = request.body("{}").send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Its own log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    async fn until_it_says(&self, status: u16) {
        for _ in 0..600 {
            let asked = self.http.get(format!("{}/v1/sys/health", self.address)).send().await;
            if asked.is_ok_and(|answer| answer.status().as_u16() == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("Vault does not say {status}:\n{}", self.log());
    }
}

/// A role of approle.
#[derive(Clone, Debug)]
pub struct Approle {
    /// Where the method is mounted.
    pub mount: String,
    /// The role's id.
    pub role_id: String,
    /// Its one policy.
    pub policy: String,
}

/// The text at `pointer`.
#[track_caller]
pub fn text(value: &Value, pointer: &str) -> String {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("nothing at {pointer} of {value}")).to_owned()
}

/// A name that no other test has.
pub fn unique(hint: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{hint}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn client() -> reqwest::ClientBuilder {
    // Each test has a runtime of its own, so no connection is kept.
    reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy()
}

fn program() -> Option<PathBuf> {
    let found = bed::vault();
    if found.is_none() {
        assert!(!bed::is_ci(), "no Vault: tests/testbed/vault.sh says why");
        eprintln!("\n!!! NOT TESTED: no Vault (tests/testbed/vault.sh says why)\n");
    }
    found
}

fn folder() -> PathBuf {
    tempfile::Builder::new().prefix("sankofa-vault-").tempdir().expect("a folder").keep()
}

fn start(
    program: &Path,
    args: &[String],
    address: String,
    http: reqwest::Client,
    folder: PathBuf,
) -> VaultServer {
    use std::os::unix::process::CommandExt;
    let mut sh = Command::new("/bin/sh");
    sh.args(["-c", WATCHER, "watcher"]).arg(&folder).arg(program).args(args);
    sh.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &folder);
    sh.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    sh.process_group(0); // Ctrl-C ends the tests, not what cleans up after them
    let watcher = sh.spawn().expect("starting Vault");
    VaultServer { address, root: String::new(), folder, http, watcher }
}

/// How something that is not Vault answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// Status, JSON.
    Json(u16, Value),
    /// A header more than [`Reply::Json`].
    With(u16, &'static str, String, Value),
    /// [`Reply::Json`], once so many requests in all have come; 500 when they do not.
    Together(usize, u16, Value),
    /// A body without end, of which the header says this many bytes.
    Endless(u64),
    /// Nothing, for ever.
    Silence,
}

/// Something that answers as it is told, and remembers what it was asked.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// Its URL.
    pub address: String,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

impl StandIn {
    /// Starts one; `reply` gets each request's head and how many came before.
    pub async fn start(reply: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (noted, reply) = (asked.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, noted.clone(), reply.clone()));
            }
        });
        StandIn { address, asked }
    }

    /// The heads of all requests so far, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    reply: Arc<impl Fn(&str, usize) -> Reply>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body).await;
    let count = {
        let mut asked = asked.lock().expect("unpoisoned");
        asked.push(head.clone());
        asked.len() - 1
    };
    let answer = reply(&head, count);
    let bytes = match answer {
        Reply::Silence => return std::future::pending().await,
        Reply::Endless(length) => return endless(stream, length).await,
        Reply::Bytes(bytes) => bytes,
        Reply::Json(status, body) => json_answer(status, "", &body),
        Reply::Together(count, status, body) => {
            let mut waited = 0;
            while asked.lock().expect("unpoisoned").len() < count && waited < 1500 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                waited += 1;
            }
            json_answer(if waited < 1500 { status } else { 500 }, "", &body)
        }
        Reply::With(status, name, value, body) => json_answer(status, &format!("{name}: {value}\r\n"), &body),
    };
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

fn json_answer(status: u16, header: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let mut bytes = Vec::new();
    let length = body.len();
    write!(
        bytes,
        "HTTP/1.1 {status} x\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .expect("writing to memory");
    bytes
}

async fn endless(mut stream: TcpStream, length: u64) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{{\"data\": \"");
    let piece = vec![b'x'; 1 << 16];
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(&piece).await;
    }
}
