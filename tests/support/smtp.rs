//! An SMTP server that is not ours: aiosmtpd, with TLS from the start or by STARTTLS, and a login.
//!
//! In:    the packages of the test bed.
//! Out:   a port, the certificate that a client must trust, the messages that came.
//! Holds: nobody is heard before TLS and the right login; it ends with its stand-in here, or with this process.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::bed;

/// Serves until its standard input ends: its port first, then a line for each message.
const SERVER: &str = r#"
import asyncio, email, email.policy, json, os, ssl, sys, threading
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

way, folder, login, password = sys.argv[1:5]
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")

class Handler:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(json.dumps({"to": envelope.rcpt_tos, "from": envelope.mail_from, "subject": message["Subject"],
                          "automatic": message["Auto-Submitted"], "body": message.get_content(),
                          "login": bool(session.authenticated)}), flush=True)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

def judge(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (login.encode(), password.encode())
    return AuthResult(success=good, handled=False)

def protocol():
    by_word = way == "starttls"
    return SMTP(Handler(), tls_context=context if by_word else None, require_starttls=by_word, hostname="mail.test",
                auth_required=way != "plain", authenticator=judge, auth_require_tls=by_word)

async def main():
    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", 0, ssl=context if way == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"#;

/// A running server; dropped, it is ended.
pub struct Smtp {
    folder: TempDir,
    port: u16,
    told: Arc<Mutex<Vec<Value>>>,
    _child: Child,
}

impl Smtp {
    /// Who may log in.
    pub const LOGIN: &str = "sankofa@school.example";
    /// By what.
    pub const PASSWORD: &str = "MARKED-MAIL-PASSWORD";

    /// Starts one that speaks `way`: `tls`, `starttls`, or `plain`, which wants neither TLS nor login.
    pub async fn start(way: &str) -> Smtp {
        let folder = TempDir::new().expect("making a folder");
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("making a certificate");
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).expect("keeping it");
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())
            .expect("keeping its key");
        let mut command = Command::new("python3");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PYTHONPATH", bed::smtp()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-c", SERVER, way]).arg(folder.path()).args([Smtp::LOGIN, Smtp::PASSWORD]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("starting aiosmtpd");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let port = lines.next_line().await.expect("its output").expect("its port").parse().expect("a port");
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().expect("unpoisoned").push(serde_json::from_str(&line).expect("a message"));
            }
        });
        Smtp { folder, port, told, _child: child }
    }

    /// Its port on 127.0.0.1, which its certificate calls `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// All messages since the last call, once there are `count`. They come in the order they were sent in, so one
    /// that should not have been sent is in the next answer at the latest.
    pub async fn take(&self, count: usize) -> Vec<Value> {
        for _ in 0..600 {
            if self.told.lock().expect("unpoisoned").len() >= count {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        std::mem::take(&mut *self.told.lock().expect("unpoisoned"))
    }
}
