//! A real S3 server: versitygw on a folder.
//!
//! In:    the program of the test bed.
//! Out:   an endpoint on 127.0.0.1, one key, buckets with versions and Object Lock.
//! Holds: where the server is missing the test says so loudly and ends; in CI that is a failure.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use super::bed;
use super::server::{PASSWORD, free_port};

const KEY_ID: &str = "test-key-id";

/// A running server; dropped, it ends.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    program: Child,
    _folder: tempfile::TempDir,
}

impl S3Server {
    /// Starts one; cost: 0.2 s.
    ///
    /// # Panics
    /// In CI, when the program is missing.
    pub async fn start() -> Option<S3Server> {
        let Some(program) = bed::versitygw() else {
            assert!(!bed::is_ci(), "no S3 server: tests/testbed/s3.sh says why");
            eprintln!("\n!!! NOT TESTED: no S3 server (tests/testbed/s3.sh says why)\n");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["data", "versions"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let port = free_port();
        let mut command = Command::new(program);
        command.env_clear().env("ROOT_ACCESS_KEY", KEY_ID).env("ROOT_SECRET_KEY", PASSWORD);
        command.arg("--port").arg(format!("127.0.0.1:{port}")).arg("posix");
        command.arg("--versioning-dir").arg(folder.path().join("versions")).arg(folder.path().join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = command.spawn().expect("starting the S3 server");
        let server = S3Server { port, program, _folder: folder };
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the S3 server does not start");
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The connection as `AIRFLOW_CONN_<ID>` has it, at `endpoint`.
    pub fn connection(&self, endpoint: &str) -> String {
        let extra = serde_json::json!({"endpoint_url": endpoint, "region_name": "us-east-1"});
        serde_json::json!({"conn_type": "aws", "login": KEY_ID, "password": PASSWORD, "extra": extra})
            .to_string()
    }

    /// Makes a bucket that keeps versions; with Object Lock where asked for.
    pub async fn bucket(&self, name: &str, lock: bool) {
        let headers: &[(&'static str, &'static str)] =
            if lock { &[("x-amz-bucket-object-lock-enabled", "true")] } else { &[] };
        self.put(&format!("/{name}"), "", headers).await;
        let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        if !lock {
            self.put(&format!("/{name}?versioning="), versions, &[]).await;
        }
    }

    async fn put(&self, path: &str, body: &'static str, headers: &[(&'static str, &'static str)]) {
        let url = format!("{}{path}", self.endpoint());
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = Credentials::new(KEY_ID, PASSWORD, None, None, "test").into();
        let params = v4::SigningParams::builder().identity(&identity).region("us-east-1").name("s3");
        let params = params.time(SystemTime::now()).settings(settings).build().expect("parameters").into();
        let host = format!("127.0.0.1:{}", self.port);
        let signed = headers.iter().copied().chain([("host", host.as_str())]);
        let request = SignableRequest::new("PUT", &url, signed, SignableBody::Bytes(body.as_bytes()));
        let (signature, _) = sign(request.expect("a request"), &params).expect("a signature").into_parts();
        let mut request = reqwest::Client::new().put(url).body(body);
        for (name, value) in headers.iter().copied().chain(signature.headers()) {
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        assert!(status.is_success(), "{path}: {status} {}", answer.text().await.unwrap_or_default());
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
