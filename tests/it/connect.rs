//! Sessions on real servers: login, TLS, several hosts, and what each refusal is called.

use crate::support::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use sankofa::error::{Failure, Kind, classify};
use sankofa::pg::{Session, SessionOptions, connect};
use sankofa::secret::Connection;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;

async fn open(uri: &str) -> anyhow::Result<Session> {
    connect(&Connection::parse("hr_db", uri).unwrap(), &SessionOptions::named("sankofa/test")).await
}

async fn refused(uri: &str) -> Failure {
    let failure = classify(&open(uri).await.expect_err("a session was opened"));
    let all = format!("{} {:?}", failure.what, failure.hint);
    assert!(!all.contains(PASSWORD), "{all}");
    assert!(failure.what.starts_with("cannot "), "{all}");
    failure
}

async fn ask(session: &Session, sql: &str) -> String {
    session.client.query_one(sql, &[]).await.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

/// The same URI with another host, and with options.
fn elsewhere(uri: &str, host: &str, query: &str) -> String {
    let (before, after) = uri.split_once("127.0.0.1").expect("a URI with its host");
    format!("{before}{host}{after}?{query}")
}

#[tokio::test]
async fn a_password_opens_a_session_on_every_major() {
    for major in 13..=18 {
        let database = Server::major(major).fresh_database("login").await;
        let session = open(&database.connection_uri()).await.unwrap();
        assert_eq!(session.major(), u32::from(major));
        assert_eq!(ask(&session, "SELECT current_database()::text").await, database.name());
        assert_eq!(ask(&session, "SHOW application_name").await, "sankofa/test");
        assert!(!session.in_recovery && !session.read_only);
        session.close().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_77_and_an_unknown_database_78() {
    let database = Server::major(17).fresh_database("refusals").await;
    let uri = database.connection_uri();
    let failure = refused(&uri.replace("secret", "MARK")).await;
    assert_eq!(failure.kind, Kind::Permission);
    assert!(failure.what.contains("SQLSTATE 28P01") && !failure.what.contains("MARK"), "{}", failure.what);

    let missing = uri.rsplit_once('/').map(|(server, _)| format!("{server}/nowhere")).unwrap();
    let failure = refused(&missing).await;
    assert_eq!(failure.kind, Kind::Config);
    assert!(
        failure.what.contains("\"nowhere\"") && failure.hint.unwrap().contains("schema"),
        "{}",
        failure.what
    );

    let without = uri.replace(&uri[uri.find(":not").unwrap()..uri.find('@').unwrap()], "");
    let failure = classify(&open(&without).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Permission);
    assert!(failure.what.ends_with("the connection has none"), "{}", failure.what);
}

#[tokio::test]
async fn a_role_without_the_right_to_connect_is_77_with_the_grant() {
    let server = Server::major(16);
    let database = server.fresh_database("closed").await;
    let role = server.role("outsider", "").await;
    database.sql(&format!("REVOKE CONNECT ON DATABASE \"{}\" FROM PUBLIC", database.name())).await;
    let failure = refused(&database.connection_uri_as(&role)).await;
    assert_eq!(failure.kind, Kind::Permission);
    assert!(failure.hint.unwrap().contains("GRANT CONNECT ON DATABASE"));
}

#[tokio::test]
async fn a_refused_port_an_unknown_host_and_a_silent_server_are_75() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    let silent = refused(&format!("postgres://u:p@127.0.0.1:{port}/db?connect_timeout=1")).await;
    assert_eq!(silent.kind, Kind::Temporary);
    assert!(silent.what.ends_with(": no answer within 1 s"), "{}", silent.what);
    drop(unused);
    let failure = refused(&format!("postgres://u:p@127.0.0.1:{port}/db")).await;
    assert_eq!(failure.kind, Kind::Temporary);
    assert_eq!(failure.what, format!("cannot connect to hr_db: 127.0.0.1:{port}: connection refused"));
    let failure = refused("postgres://u:p@nowhere.invalid/db").await;
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(failure.what.contains("cannot be looked up"), "{}", failure.what);
    let failure = refused("postgres://u:p@%2Fnowhere/db").await;
    assert_eq!(failure.kind, Kind::Temporary);
}

#[tokio::test]
async fn a_server_out_of_connections_is_75() {
    let settings = [
        ("max_connections", "3"),
        ("superuser_reserved_connections", "1"),
        ("max_wal_senders", "0"),
        ("wal_level", "minimal"),
    ];
    let server = Server::with_settings(17, &settings);
    let database = server.fresh_database("full").await;
    let role = server.role("one_of_many", "").await;
    let uri = database.connection_uri_as(&role);
    let mut open_ones = Vec::new();
    let failure = loop {
        match open(&uri).await {
            Ok(session) => open_ones.push(session),
            Err(error) => break classify(&error),
        }
        assert!(open_ones.len() < 5);
    };
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(failure.what.contains("SQLSTATE 53300"), "{}", failure.what);
}

#[tokio::test]
async fn a_socket_directory_is_a_host_and_no_tls_is_spoken_there() {
    let server = Server::major(15);
    let database = server.fresh_database("socket").await;
    let folder = server.socket_folder().display().to_string().replace('/', "%2F");
    let uri = format!("postgres://{USER}@{folder}:{}/{}?sslmode=verify-full", server.port(), database.name());
    let session = open(&uri).await.unwrap();
    assert_eq!(ask(&session, "SELECT inet_server_addr()::text").await, "");
    assert!(session.endpoint.to_string().ends_with(&format!("/.s.PGSQL.{}", server.port())));
}

#[tokio::test]
async fn options_and_settings_hold_for_the_session_and_an_unknown_one_is_78() {
    let database = Server::major(13).fresh_database("settings").await;
    let uri = format!("{}?options=-c%20statement_timeout%3D1234", database.connection_uri());
    let connection = Connection::parse("hr_db", &uri).unwrap();
    let long = format!("sankofa/{}", "é".repeat(60));
    let options =
        SessionOptions::named(long).set("TimeZone", "Africa/Accra").set("search_path", "a, \"b'\\\"");
    let session = connect(&connection, &options).await.unwrap();
    assert_eq!(ask(&session, "SHOW statement_timeout").await, "1234ms");
    assert_eq!(ask(&session, "SHOW TimeZone").await, "Africa/Accra");
    assert_eq!(ask(&session, "SHOW search_path").await, "a, \"b'\\\"");
    assert!(ask(&session, "SHOW application_name").await.starts_with("sankofa/"));

    let unknown = SessionOptions::named("x").set("client_connection_check_interval", "1000");
    let failure = classify(&connect(&connection, &unknown).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Config, "{}", failure.what);
    let failure = refused(&format!("{}?options=-c%20nonsense%3D1", database.connection_uri())).await;
    assert_eq!(failure.kind, Kind::Config, "{}", failure.what);
    assert_eq!(failure.hint.as_deref(), Some("Check options in the connection."));
}

#[tokio::test]
async fn the_first_of_several_hosts_that_answers_is_taken_and_can_be_pinned() {
    let database = Server::major(17).fresh_database("several").await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let port = database.server().port();
    let uri = database.connection_uri().replace(&format!("127.0.0.1:{port}"), "127.0.0.1,localhost");
    let uri = format!("{uri}?port={dead},{port}");
    let session = open(&uri).await.unwrap();
    assert_eq!((session.endpoint.host.as_str(), session.endpoint.port), ("localhost", port));
    assert_eq!(session.endpoint.address, Some("127.0.0.1".parse().unwrap()));

    let pinned = SessionOptions::named("second").pinned(&session.endpoint);
    let second = connect(&Connection::parse("hr_db", &uri).unwrap(), &pinned).await.unwrap();
    assert_eq!(second.endpoint, session.endpoint);
}

#[tokio::test]
async fn a_refused_login_ends_the_search_among_hosts() {
    let database = Server::major(17).fresh_database("search").await;
    let port = database.server().port();
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let uri = database
        .connection_uri()
        .replace(&format!("127.0.0.1:{port}"), "127.0.0.1,127.0.0.1")
        .replace("secret", "MARK");
    let failure = classify(&open(&format!("{uri}?port={port},{dead}")).await.unwrap_err());
    assert_eq!(failure.kind, Kind::Permission);
    assert!(!failure.what.contains(&dead.to_string()), "{}", failure.what);
}

/// A server that has put itself into recovery: a standby of nobody.
fn standby(major: u16) -> Server {
    let server = Server::new(major).start();
    server.stop(Stop::Fast);
    std::fs::write(server.data_folder().join("standby.signal"), "").unwrap();
    server.start();
    server
}

#[tokio::test]
async fn target_session_attrs_chooses_the_server_as_libpq_does() {
    let (standby, primary) = (standby(13), Server::major(17));
    let read_only = Server::with_settings(17, &[("default_transaction_read_only", "on")]);
    let ports = [standby.port(), read_only.port(), primary.port()];
    let all = format!("{},{},{}", ports[0], ports[1], ports[2]);
    let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1,127.0.0.1,127.0.0.1/postgres?port={all}");
    let expected = [
        ("any", ports[0]),
        ("read-write", ports[2]),
        ("read-only", ports[0]),
        ("primary", ports[1]),
        ("standby", ports[0]),
        ("prefer-standby", ports[0]),
    ];
    for (attrs, port) in expected {
        let session = open(&format!("{uri}&target_session_attrs={attrs}")).await.unwrap();
        assert_eq!(session.endpoint.port, port, "{attrs}");
        assert_eq!(session.in_recovery, port == ports[0]);
    }
    let alone = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", ports[0]);
    let failure = refused(&format!("{alone}?target_session_attrs=read-write")).await;
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(
        failure.what.ends_with("it is a standby, and target_session_attrs=read-write"),
        "{}",
        failure.what
    );
    let primary_only = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", ports[2]);
    open(&format!("{primary_only}?target_session_attrs=prefer-standby")).await.unwrap();

    let session = open(&alone).await.unwrap();
    let error = session.client.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    assert_eq!(classify(&session.failure(error, "cannot write")).kind, Kind::Temporary);
}

#[tokio::test]
async fn a_server_that_takes_no_sessions_yet_is_75_and_the_next_host_is_tried() {
    let server = Server::with_settings(17, &[("hot_standby", "off")]);
    server.stop(Stop::Fast);
    std::fs::write(server.data_folder().join("standby.signal"), "").unwrap();
    server.start();
    let uri = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port());
    let failure = refused(&uri).await;
    assert_eq!(failure.kind, Kind::Temporary);
    assert!(failure.what.contains("SQLSTATE 57P03"), "{}", failure.what);

    let ready = Server::major(17).port();
    let both =
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1,127.0.0.1/postgres?port={},{ready}", server.port());
    assert_eq!(open(&both).await.unwrap().endpoint.port, ready);
}

#[tokio::test]
async fn a_pooler_that_refuses_a_startup_option_is_78() {
    let database = Server::major(17).fresh_database("pooled").await;
    let Some(pooler) = Pooler::before(database.server()) else { return };
    let uri = database.connection_uri_through(pooler.port());
    assert_eq!(open(&uri).await.unwrap().major(), 17);
    let failure = refused(&format!("{uri}?options=-c%20statement_timeout%3D5000")).await;
    assert_eq!(failure.kind, Kind::Config, "{}", failure.what);
    assert!(failure.hint.as_deref().unwrap_or_default().contains("`options`"), "{}", failure.what);
}

/// An authority, a server certificate of its own for `localhost`, and files of both.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn named(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { folder: TempDir::new().unwrap(), issuer };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Certificate and key in PEM.
    pub fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

pub fn for_localhost() -> CertificateParams {
    CertificateParams::new(vec!["localhost".to_string()]).unwrap()
}

/// A server about to be started with TLS; more can be added first.
pub fn tls_server(major: u16, (certificate, key): (String, String)) -> Builder {
    Server::new(major).file("server.crt", certificate).file("server.key", key).setting("ssl", "on")
}

async fn encrypted(session: &Session) -> bool {
    ask(session, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await == "true"
}

fn uri_of(server: &Server) -> String {
    format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", server.port())
}

#[tokio::test]
async fn every_sslmode_verifies_what_libpq_verifies() {
    let (ours, other) = (Authority::named("ours"), Authority::named("other"));
    let server = tls_server(17, ours.sign(for_localhost())).start();
    let (right, wrong) = (ours.file("ca.pem"), other.file("ca.pem"));
    let uri = uri_of(&server);
    let at = |host: &str, query: String| elsewhere(&uri, host, &query);
    // host, mode, root certificate, encrypted or the word in the refusal
    let cases: &[(&str, &str, &str, Result<bool, &str>)] = &[
        ("127.0.0.1", "disable", "", Ok(false)),
        ("127.0.0.1", "allow", "", Ok(false)),
        ("127.0.0.1", "prefer", "", Ok(true)),
        ("127.0.0.1", "require", "", Ok(true)),
        ("127.0.0.1", "require", &right, Ok(true)),
        ("127.0.0.1", "require", &wrong, Err("no root certificate vouches for it")),
        ("127.0.0.1", "verify-ca", &right, Ok(true)),
        ("127.0.0.1", "verify-ca", &wrong, Err("no root certificate vouches for it")),
        ("127.0.0.1", "verify-full", &right, Err("it is not for this host name")),
        ("localhost", "verify-full", &right, Ok(true)),
        ("localhost", "verify-full", &wrong, Err("no root certificate vouches for it")),
        ("localhost", "verify-full", "", Err("no root certificate vouches for it")),
    ];
    for (host, mode, root, expected) in cases {
        let root = if root.is_empty() { String::new() } else { format!("&sslrootcert={root}") };
        let uri = at(host, format!("sslmode={mode}{root}"));
        match (open(&uri).await, expected) {
            (Ok(session), Ok(tls)) => assert_eq!(encrypted(&session).await, *tls, "{host} {mode}"),
            (Err(error), Err(word)) => {
                let failure = classify(&error);
                assert!(failure.what.contains(word), "{host} {mode}: {}", failure.what);
                assert_eq!(failure.kind, Kind::Config);
                assert!(failure.hint.is_some());
            }
            (Ok(_), Err(word)) => panic!("{host} {mode} was not refused: {word}"),
            (Err(error), Ok(_)) => panic!("{host} {mode}: {error:#}"),
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_require_and_taken_by_prefer() {
    let uri = uri_of(&Server::major(16));
    assert!(!encrypted(&open(&format!("{uri}?sslmode=prefer")).await.unwrap()).await);
    let failure = refused(&format!("{uri}?sslmode=require")).await;
    assert_eq!(failure.kind, Kind::Config);
    assert!(failure.what.ends_with("the server does not speak TLS"), "{}", failure.what);
}

#[tokio::test]
async fn prefer_and_allow_go_the_other_way_where_pg_hba_wants_it() {
    let ours = Authority::named("ours");
    let only_plain = tls_server(16, ours.sign(for_localhost())).hba("hostssl all all all reject").start();
    let only_tls = tls_server(16, ours.sign(for_localhost())).hba("hostnossl all all all reject").start();
    let opened = open(&format!("{}?sslmode=prefer", uri_of(&only_plain))).await.unwrap();
    assert!(!encrypted(&opened).await);
    let opened = open(&format!("{}?sslmode=allow", uri_of(&only_tls))).await.unwrap();
    assert!(encrypted(&opened).await);
    let failure = refused(&format!("{}?sslmode=disable", uri_of(&only_tls))).await;
    assert_eq!(failure.kind, Kind::Permission);
    assert!(failure.hint.unwrap().contains("pg_hba.conf"));
}

#[tokio::test]
async fn an_expired_certificate_is_78_and_says_so() {
    let ours = Authority::named("ours");
    let mut expired = for_localhost();
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let server = tls_server(17, ours.sign(expired)).start();
    let failure =
        refused(&format!("{}?sslmode=verify-ca&sslrootcert={}", uri_of(&server), ours.file("ca.pem"))).await;
    assert_eq!(failure.kind, Kind::Config);
    assert!(
        failure.what.ends_with("the server's certificate is not trusted: it has expired"),
        "{}",
        failure.what
    );
    open(&format!("{}?sslmode=require", uri_of(&server))).await.unwrap();
}

#[tokio::test]
async fn a_self_signed_certificate_made_as_the_manual_says_is_its_own_root() {
    let folder = TempDir::new().unwrap();
    let self_signed = |year: i32| {
        let key = KeyPair::generate().unwrap();
        let mut params = for_localhost();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained); // what `openssl req -x509` makes
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let [good, expired] =
        [("good.crt", self_signed(2999)), ("expired.crt", self_signed(2021))].map(|(name, pair)| {
            let path = folder.path().join(name);
            std::fs::write(&path, &pair.0).unwrap();
            (tls_server(16, pair).start(), path.display().to_string())
        });
    for mode in ["verify-ca", "verify-full"] {
        let uri = elsewhere(&uri_of(&good.0), "localhost", &format!("sslmode={mode}&sslrootcert={}", good.1));
        assert!(encrypted(&open(&uri).await.unwrap()).await);
    }
    let uri = |query: String| format!("{}?{query}", uri_of(&good.0));
    let failure = refused(&uri(format!("sslmode=verify-full&sslrootcert={}", good.1))).await;
    assert!(failure.what.contains("not for this host name"), "{}", failure.what);
    let failure = refused(&uri(format!("sslmode=verify-ca&sslrootcert={}", expired.1))).await;
    assert_eq!(failure.kind, Kind::Config);
    let failure =
        refused(&format!("{}?sslmode=verify-ca&sslrootcert={}", uri_of(&expired.0), expired.1)).await;
    assert!(failure.what.contains("it has expired"), "{}", failure.what);
}

#[tokio::test]
async fn channel_binding_is_used_where_required_and_refused_where_it_cannot_be() {
    let ours = Authority::named("ours");
    let server = tls_server(17, ours.sign(for_localhost())).hba("hostssl postgres unbound all trust").start();
    server.sql("CREATE ROLE unbound LOGIN").await;
    let uri = uri_of(&server);
    assert!(encrypted(&open(&format!("{uri}?sslmode=require&channel_binding=require")).await.unwrap()).await);
    for query in ["sslmode=disable&channel_binding=require", "sslmode=require&channel_binding=require"] {
        let uri = if query.contains("disable") { uri.clone() } else { uri.replace(USER, "unbound") };
        let failure = refused(&format!("{uri}?{query}")).await;
        assert_eq!(failure.kind, Kind::Config);
        assert!(failure.what.contains("channel_binding=require"), "{}", failure.what);
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_a_foreign_one_is_77() {
    let (ours, other, namesake) =
        (Authority::named("ours"), Authority::named("other"), Authority::named("ours"));
    let server = tls_server(16, ours.sign(for_localhost()))
        .file("ca.pem", ours.issuer.pem())
        .setting("ssl_ca_file", "ca.pem")
        .hba("hostssl all certified all cert")
        .start();
    server.sql("CREATE ROLE certified LOGIN").await;
    let client_files = |authority: &Authority| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "certified");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = authority.sign(params);
        let (certificate, key) = (authority.write("c.pem", &certificate), authority.write("k.pem", &key));
        format!("sslcert={}&sslkey={}", certificate.display(), key.display())
    };
    let uri = format!("postgres://certified@127.0.0.1:{}/postgres?sslmode=require", server.port());
    assert!(encrypted(&open(&format!("{uri}&{}", client_files(&ours))).await.unwrap()).await);
    for query in [client_files(&other), client_files(&namesake), String::new()] {
        let failure = refused(&format!("{uri}&{query}")).await;
        assert_eq!(failure.kind, Kind::Permission, "{}", failure.what);
    }
    let failure = refused(&format!("{uri}&sslcert={}&sslkey=/nowhere.pem", ours.file("c.pem"))).await;
    assert_eq!(failure.kind, Kind::Config);
    assert!(
        failure.what.ends_with("its sslkey /nowhere.pem cannot be used: no such file or directory"),
        "{}",
        failure.what
    );
}

#[tokio::test]
async fn direct_tls_is_spoken_to_a_server_of_17() {
    let server = tls_server(17, Authority::named("ours").sign(for_localhost())).start();
    let session = open(&format!("{}?sslmode=require&sslnegotiation=direct", uri_of(&server))).await.unwrap();
    assert!(encrypted(&session).await);
}

#[tokio::test]
async fn a_query_is_cancelled_over_tls_and_the_session_lives_on() {
    let server = tls_server(17, Authority::named("ours").sign(for_localhost())).start();
    let session = open(&format!("{}?sslmode=require", uri_of(&server))).await.unwrap();
    let canceller = session.canceller();
    let began = Instant::now();
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        canceller.cancel().await.unwrap();
    };
    let (done, ()) = tokio::join!(session.client.simple_query("SELECT pg_sleep(60)"), cancel);
    let error = session.failure(done.unwrap_err(), "cannot sleep");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(sankofa::pg::public::sqlstate(&error).as_deref(), Some("57014"));
    assert_eq!(ask(&session, "SELECT 'alive'::text").await, "alive");
}

#[tokio::test]
async fn a_session_ended_by_the_server_says_why_even_to_the_next_query() {
    let database = Server::major(17).fresh_database("ended").await;
    let session = open(&database.connection_uri()).await.unwrap();
    let pid = ask(&session, "SELECT pg_backend_pid()::text").await;
    database.sql(&format!("SELECT pg_terminate_backend({pid})")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = session.client.simple_query("SELECT 1").await.unwrap_err();
    let error = session.failure(error, "cannot read hr.employee");
    let failure = classify(&error);
    assert_eq!(failure.kind, Kind::Temporary);
    assert_eq!(sankofa::pg::public::sqlstate(&error).as_deref(), Some("57P01"));
    assert!(failure.what.starts_with("cannot read hr.employee: SQLSTATE 57P01: "), "{}", failure.what);
}

#[tokio::test]
async fn a_dropped_session_is_gone_from_the_server() {
    let database = Server::major(17).fresh_database("dropped").await;
    let session = open(&database.connection_uri()).await.unwrap();
    drop(session);
    let count = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name = 'sankofa/test' AND datname = current_database()";
    for _ in 0..50 {
        if database.value(count).await == "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the session is still open");
}

#[tokio::test]
async fn notices_are_kept_for_whoever_asks() {
    let database = Server::major(17).fresh_database("notices").await;
    let session = open(&database.connection_uri()).await.unwrap();
    session.client.batch_execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$").await.unwrap();
    assert_eq!(session.take_notices(), ["SQLSTATE 00000: hello"]);
    assert!(session.take_notices().is_empty());
}
