//! A Vault that is in trouble, or is none: what each fault is called, and what is tried again.

use super::vault::{failure, file, project, resolver, settings};
use super::vault_logins::Authority;
use crate::support::vault::{Reply, StandIn, VaultServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sankofa::error::Failure;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOKEN: &str = "hvs.MARKED-TOKEN";

fn found() -> Value {
    json!({"data": {"data": {"conn_uri": "postgres://there/x"}, "metadata": {"version": 1}}})
}

/// What asking a stand-in that always answers so ends with; how often it was asked.
async fn against(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (Failure, usize) {
    let stand_in = StandIn::start(move |_, count| reply(count)).await;
    let mut wanted = settings(&stand_in.address, "kv", 2, TOKEN);
    wanted.timeout = Duration::from_millis(600);
    let failure = failure(&resolver(wanted), "a").await;
    assert!(!format!("{failure:?}").contains("MARK"), "{failure:?}");
    (failure, stand_in.asked().len())
}

#[tokio::test]
async fn overload_and_standbys_are_tried_again_and_end_with_75() {
    for (status, error) in [
        (429, "request path quota exceeded"),
        (472, ""),
        (473, ""),
        (412, "required index state not present"),
        (500, "internal error"),
        (502, "bad gateway"),
        (503, "Vault is sealed"),
        (503, "standby"),
    ] {
        let errors = if error.is_empty() { json!([]) } else { json!([error]) };
        let body = json!({ "errors": errors });
        let (failure, count) = against(move |_| Reply::Json(status, body.clone())).await;
        assert_eq!(failure.kind.exit_code(), 75, "{status}: {}", failure.what);
        assert!(failure.what.contains(&format!("({status})")), "{}", failure.what);
        assert!(failure.hint.is_some() && count > 1, "{status}: asked {count} times");
    }
}

#[tokio::test]
async fn trouble_that_passes_is_not_noticed() {
    let stand_in = StandIn::start(|_, count| match count {
        0 => Reply::With(429, "Retry-After", "0".into(), json!({"errors": ["too many"]})),
        1 => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"data\": {".to_vec()),
        2 => Reply::Json(503, json!({"errors": ["Vault is sealed"]})),
        _ => Reply::Json(200, found()),
    })
    .await;
    let asked = resolver(settings(&stand_in.address, "kv", 2, TOKEN));
    assert_eq!(asked.connection("a").await.unwrap().host.as_deref(), Some("there"));
    assert_eq!(stand_in.asked().len(), 4);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_html_or_never_ends_is_75_and_is_not_quoted() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"data\": {\"MARK".to_vec();
    let (failure, count) = against(move |_| Reply::Bytes(cut.clone())).await;
    assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
    assert!(count > 1);
    for status in [200, 403, 404, 502] {
        let page = "<html>MARKED page</html>";
        let text = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{page}",
            page.len()
        );
        let (failure, _) = against(move |_| Reply::Bytes(text.clone().into_bytes())).await;
        assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
        assert!(failure.what.contains("the answer is no JSON"), "{}", failure.what);
    }
    let (failure, count) = against(|_| Reply::Endless(1 << 30)).await;
    assert_eq!((failure.kind.exit_code(), count), (75, 1), "{}", failure.what);
    assert!(failure.what.contains("longer than any of Vault's"), "{}", failure.what);
    let (failure, _) = against(|_| Reply::Json(200, json!({"data": "MARK"}))).await;
    assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
}

#[tokio::test]
async fn nobody_and_nothing_are_75_in_time() {
    let started = Instant::now();
    let (failure, _) = against(|_| Reply::Silence).await;
    assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
    assert!(failure.what.ends_with("no answer in time"), "{}", failure.what);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut wanted = settings(&format!("http://{closed}"), "kv", 2, TOKEN);
    wanted.timeout = Duration::from_millis(300);
    let failure = super::vault::failure(&resolver(wanted), "a").await;
    assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
    assert!(failure.what.contains("refused") && !failure.what.contains("connections/a?"), "{}", failure.what);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_host_and_to_no_other() {
    let target = StandIn::start(|_, _| Reply::Json(200, found())).await;
    let port = target.address.rsplit(':').next().unwrap().to_owned();
    let to = target.address.clone();
    let same = StandIn::start(move |head, _| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        Reply::With(307, "Location", format!("{to}{path}"), json!({}))
    })
    .await;
    let asked = resolver(settings(&same.address, "kv", 2, TOKEN));
    assert_eq!(asked.connection("a").await.unwrap().host.as_deref(), Some("there"));
    assert!(target.asked()[0].contains("x-vault-token: hvs.marked-token"));
    let other = format!("http://localhost:{port}/v1/kv/data/connections/a");
    let (failure, _) = against(move |_| Reply::With(307, "Location", other.clone(), json!({}))).await;
    assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
    assert_eq!(target.asked().len(), 1, "the token went to another host");
}

/// A server with TLS that sends whoever asks to `location`; its port.
fn redirecting(certificate: &str, key: &str, location: String) -> u16 {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
    let (config, listener) = (Arc::new(config), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let answer = format!(
                "HTTP/1.1 307 x\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
            tls.send_close_notify();
            let _ = tls.complete_io(&mut socket);
        }
    });
    port
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_78_and_the_token_never_goes_there() {
    let target = StandIn::start(|_, _| Reply::Json(200, found())).await;
    let plain = target.address.replace("127.0.0.1", "localhost");
    let authority = Authority::new("school");
    let (certificate, key) = authority.server(|_| ());
    let port = redirecting(&certificate, &key, format!("{plain}/v1/kv/data/connections/a"));
    let mut wanted = settings(&format!("https://localhost:{port}"), "kv", 2, TOKEN);
    wanted.ca_cert = Some(file(&authority.pem()));
    let failure = failure(&resolver(wanted), "a").await;
    assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
    assert!(failure.what.contains("redirects"), "{}", failure.what);
    assert!(!format!("{failure:?}").contains("MARK"), "{failure:?}");
    assert!(target.asked().is_empty(), "{:?}", target.asked());
}

#[tokio::test]
async fn ambient_variables_change_nothing() {
    let Some(server) = VaultServer::shared().await else { return };
    let mount = server.kv(2).await;
    server
        .write((&mount, 2), "connections/warehouse", json!({"conn_uri": "postgres://u:p@127.0.0.1:1/x"}))
        .await;
    let sankofa = project(&server, &format!("mount: {mount}, auth: {{token: {{}}}}"))
        .env("VAULT_TOKEN", &server.root)
        .env("VAULT_ADDR", "http://127.0.0.1:1")
        .env("VAULT_NAMESPACE", "elsewhere")
        .env("VAULT_CACERT", "/nowhere")
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1");
    let run = sankofa.run(&["warehouse", "init"]).await.exits(75);
    assert!(run.stderr.contains("cannot connect to warehouse"), "{}", run.told());
    let without = project(&server, &format!("mount: {mount}, auth: {{token: {{}}}}"));
    let run = without.run(&["warehouse", "init"]).await.exits(78);
    assert!(run.stderr.contains("VAULT_TOKEN is not set"), "{}", run.told());
}
