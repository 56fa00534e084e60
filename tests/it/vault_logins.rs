//! Every way to log in to a real Vault, what refuses it, and what becomes of its token.

use super::vault::{accessors_with, failure, file, project, resolver, settings};
use crate::support::vault::{Reply, StandIn, VaultServer, text};
use crate::support::*;
use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SigningKey,
    date_time_ymd,
};
use sankofa::error::Failure;
use sankofa::secret::Asked;
use sankofa::secret::vault::{Auth, SecretId, Settings};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const READ: &str = "{ capabilities = [\"read\"] }";

/// A mount with one connection `a`, and the policy that reads it.
async fn with_secret(server: &VaultServer) -> (String, String) {
    let mount = server.kv(2).await;
    server.write((&mount, 2), "connections/a", json!({"conn_uri": "postgres://there/x"})).await;
    let policy = format!(
        "path \"{mount}/data/connections/*\" {READ}\npath \"auth/token/revoke-self\" {{ capabilities = [\"update\"] }}"
    );
    (mount, policy)
}

fn with(server: &VaultServer, mount: &str, auth: Auth) -> Settings {
    Settings { auth, ..settings(&server.address, mount, 2, "unused") }
}

/// Reads connection `a`, and gives the login back.
async fn reads(settings: Settings) {
    let asked = resolver(settings);
    assert_eq!(asked.connection("a").await.unwrap().host.as_deref(), Some("there"));
    asked.close().await;
}

async fn refused(settings: Settings) -> Failure {
    let failure = failure(&resolver(settings), "a").await;
    assert!(!format!("{failure:?}").contains("MARK"), "{failure:?}");
    failure
}

fn approle(mount: &str, role_id: &str, file: PathBuf, wrapped: bool) -> Auth {
    let secret_id = Some(SecretId { file: Some(file), variable: None, wrapped });
    Auth::Approle { mount: mount.to_owned(), role_id: role_id.to_owned(), secret_id }
}

#[tokio::test]
async fn approle_takes_its_secret_id_from_a_file_and_gives_its_token_back() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    let role = server.approle(&policy, json!({})).await;
    let secret_id = file(&format!(" {}\n", server.secret_id(&role).await));
    let auth = approle(&role.mount, &role.role_id, secret_id, false);
    let asked = resolver(with(&server, &mount, auth));
    asked.connection("a").await.unwrap();
    assert_eq!(accessors_with(&server, &role.policy).await, 1);
    asked.close().await;
    assert_eq!(accessors_with(&server, &role.policy).await, 0);
    let wrong =
        refused(with(&server, &mount, approle(&role.mount, &role.role_id, file("MARK"), false))).await;
    assert_eq!(wrong.kind.exit_code(), 77);
    let said =
        format!("cannot log in to Vault at {} by approle: invalid role or secret ID (400)", server.address);
    assert_eq!(wrong.what, said);
    for bad in [file(""), PathBuf::from("/nowhere/secret_id")] {
        let failure = refused(with(&server, &mount, approle(&role.mount, &role.role_id, bad, false))).await;
        assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
    }
}

/// Vault locks a role out that was refused five times.
#[tokio::test]
async fn a_login_that_is_refused_is_not_repeated_however_many_ids_are_asked_for() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    let role = server.approle(&policy, json!({})).await;
    let asked = resolver(with(&server, &mount, approle(&role.mount, &role.role_id, file("MARK"), false)));
    let ids: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    asked.fetch_ahead(ids.iter().map(|id| Asked::Connection(id))).await;
    for _ in 0..2 {
        for id in &ids {
            assert_eq!(failure(&asked, id).await.kind.exit_code(), 77, "{id}");
        }
    }
    let secret_id = file(&server.secret_id(&role).await);
    reads(with(&server, &mount, approle(&role.mount, &role.role_id, secret_id, false))).await;
}

#[tokio::test]
async fn a_token_that_is_revoked_in_mid_run_is_replaced_by_another_login() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    server.write((&mount, 2), "connections/b", json!({"conn_uri": "postgres://also/x"})).await;
    let role = server.approle(&policy, json!({})).await;
    let secret_id = file(&server.secret_id(&role).await);
    let asked = resolver(with(&server, &mount, approle(&role.mount, &role.role_id, secret_id, false)));
    asked.connection("a").await.unwrap();
    server.put(&format!("sys/leases/revoke-prefix/auth/{}", role.mount), json!({})).await;
    assert_eq!(asked.connection("b").await.unwrap().host.as_deref(), Some("also"));
    asked.close().await;
    assert_eq!(accessors_with(&server, &role.policy).await, 0);
    // A token that somebody else made cannot be had anew: 77.
    let policy = server.policy(&policy).await;
    let token = server.token(&[&policy], "1h", "1h").await;
    let asked = resolver(settings(&server.address, &mount, 2, &token));
    asked.connection("a").await.unwrap();
    server.put("auth/token/revoke", json!({ "token": token })).await;
    assert_eq!(failure(&asked, "b").await.kind.exit_code(), 77);
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_a_stolen_or_false_one_is_77() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    let role = server.approle(&policy, json!({})).await;
    let path = format!("auth/{}/role/rows/secret-id", role.mount);
    let auth = |text: &str| approle(&role.mount, &role.role_id, file(text), true);
    for whole in [true, false] {
        let answer = server.wrapped(&path, "120s").await;
        let given = if whole { answer.to_string() } else { text(&answer, "/wrap_info/token") };
        reads(with(&server, &mount, auth(&given))).await;
        let again = refused(with(&server, &mount, auth(&given))).await;
        assert_eq!(again.kind.exit_code(), 77, "{}", again.what);
        assert!(again.what.contains("taken by somebody else"), "{}", again.what);
    }
    let expired = server.wrapped(&path, "1s").await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let late = refused(with(&server, &mount, auth(&expired.to_string()))).await;
    assert_eq!(late.kind.exit_code(), 75, "{}", late.what);
    // Somebody took the secret id, and put a wrapping of his own in its place.
    let false_one = server.wrapped("sys/wrapping/wrap", "120s").await;
    let given = text(&false_one, "/wrap_info/token");
    let failure = refused(with(&server, &mount, auth(&given))).await;
    assert_eq!(failure.kind.exit_code(), 77);
    assert!(failure.what.contains("does not wrap a secret id"), "{}", failure.what);
    let lookup = server.ask("PUT", "sys/wrapping/lookup", "", Some(json!({ "token": given }))).await;
    assert_eq!(lookup.0, 200, "it was spent before it was looked up");
}

/// A key pair, and JSON web tokens signed by it (ES256).
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Issuer {
        Issuer(KeyPair::generate().unwrap())
    }

    fn public(&self) -> String {
        self.0.public_key_pem()
    }

    fn sign(&self, claims: Value) -> String {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!(
            "{}.{}",
            encode(br#"{"alg":"ES256","typ":"JWT"}"#),
            encode(claims.to_string().as_bytes())
        );
        let der = self.0.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(&of_der(&der)))
    }
}

/// An ECDSA signature as JWS has it: two numbers of 32 bytes.
fn of_der(der: &[u8]) -> Vec<u8> {
    let (mut rest, mut both) = (&der[2..], Vec::new());
    while let [2, length, tail @ ..] = rest {
        let (number, tail) = tail.split_at(usize::from(*length));
        let number = &number[number.len().saturating_sub(32)..];
        both.extend(vec![0; 32 - number.len()]);
        both.extend_from_slice(number);
        rest = tail;
    }
    both
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_json_web_token_is_read_from_its_file_at_every_login() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    server.write((&mount, 2), "connections/b", json!({"conn_uri": "postgres://also/x"})).await;
    let (issuer, method) = (Issuer::new(), server.auth("jwt").await);
    server.put(&format!("auth/{method}/config"), json!({"jwt_validation_pubkeys": [issuer.public()]})).await;
    let policy = server.policy(&policy).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "nomad_job_id", "bound_audiences": ["vault.io"], "token_policies": [policy],
        "token_no_default_policy": true,
    });
    server.put(&format!("auth/{method}/role/rows"), role).await;
    let claims = |audience: &str, lives: i64| json!({"aud": audience, "nomad_job_id": "rows", "exp": seconds().saturating_add_signed(lives), "iat": seconds() - 600});
    let jwt = file(&issuer.sign(claims("vault.io", 300)));
    let auth = Auth::Jwt { mount: method.clone(), role: Some("rows".into()), file: Some(jwt.clone()) };
    let asked = resolver(with(&server, &mount, auth.clone()));
    asked.connection("a").await.unwrap();
    // The token is revoked, and meanwhile the file holds another than at the start.
    server.put(&format!("sys/leases/revoke-prefix/auth/{method}"), json!({})).await;
    std::fs::write(&jwt, issuer.sign(claims("vault.io", 301))).unwrap();
    asked.connection("b").await.unwrap();
    for bad in [claims("another", 300), claims("vault.io", -300)] {
        std::fs::write(&jwt, issuer.sign(bad)).unwrap();
        let failure = refused(with(&server, &mount, auth.clone())).await;
        assert_eq!(failure.kind.exit_code(), 77, "{}", failure.what);
    }
    std::fs::write(&jwt, Issuer::new().sign(claims("vault.io", 300))).unwrap();
    assert_eq!(refused(with(&server, &mount, auth)).await.kind.exit_code(), 77);
}

#[tokio::test]
async fn a_service_account_logs_in_where_the_api_server_knows_its_token() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    // The API server is a stand-in: it takes any token for that of default/sankofa, but "other".
    let reviewer = StandIn::start(|head, _| {
        assert!(head.starts_with("post /apis/authentication.k8s.io/v1/tokenreviews"), "{head}");
        let user = json!({"username": "system:serviceaccount:default:sankofa", "uid": "1", "groups": []});
        let status = json!({"authenticated": true, "user": user, "audiences": ["vault"]});
        Reply::With(
            201,
            "content-type",
            "application/json".into(),
            json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}),
        )
    })
    .await;
    let (_, catalog) = server.ask("LIST", "sys/plugins/catalog/auth", &server.root, None).await;
    let ours = "vault-plugin-auth-kubernetes";
    let has_ours = catalog["data"]["keys"].as_array().is_some_and(|keys| keys.contains(&json!(ours)));
    let method = server.auth(if has_ours { ours } else { "kubernetes" }).await;
    let config = json!({"kubernetes_host": reviewer.address, "disable_local_ca_jwt": true, "token_reviewer_jwt": "x.y.z"});
    server.put(&format!("auth/{method}/config"), config).await;
    let policy = server.policy(&policy).await;
    let role = json!({
        "bound_service_account_names": ["sankofa"], "bound_service_account_namespaces": ["default"], "audience": "vault",
        "token_policies": [policy], "token_no_default_policy": true,
    });
    server.put(&format!("auth/{method}/role/rows"), role).await;
    let issuer = Issuer::new();
    let token = |account: &str| {
        let about = json!({"namespace": "default", "serviceaccount": {"name": account, "uid": "1"}});
        issuer.sign(json!({
            "aud": ["vault"], "exp": seconds() + 300, "iat": seconds(), "iss": "https://kubernetes.default.svc",
            "kubernetes.io": about, "sub": format!("system:serviceaccount:default:{account}"),
        }))
    };
    let auth = |account: &str| Auth::Kubernetes {
        mount: method.clone(),
        role: "rows".into(),
        file: Some(file(&token(account))),
    };
    reads(with(&server, &mount, auth("sankofa"))).await;
    assert_eq!(refused(with(&server, &mount, auth("other"))).await.kind.exit_code(), 77);
}

/// An authority and what it signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Certificate of localhost with that of the authority, and its key.
    pub fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let (certificate, key) = self.sign(params);
        (format!("{certificate}{}", self.0.pem()), key)
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn client(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(params);
        (file(&certificate), file(&key))
    }
}

#[tokio::test]
async fn tls_certificates_seal_and_audit_of_a_server_of_its_own() {
    let authority = Authority::new("school");
    let (certificate, key) = authority.server(|_| ());
    let Some(mut server) = VaultServer::with_tls(&certificate, &key, &authority.0.pem()).await else {
        return;
    };
    let wanted = |auth: Auth, client: Option<(PathBuf, PathBuf)>| Settings {
        ca_cert: Some(file(&authority.0.pem())),
        client_cert: client,
        timeout: Duration::from_secs(2),
        auth,
        ..settings(&server.address, "kv", 2, "unused")
    };
    let token = || Auth::Token { file: Some(file("hvs.unknown")) };
    let uninitialised = refused(wanted(token(), None)).await;
    assert_eq!(uninitialised.kind.exit_code(), 75, "{}", uninitialised.what);
    let mut other = wanted(token(), None);
    other.ca_cert = Some(file(&Authority::new("school").0.pem()));
    let (unknown, sealed) = (refused(other).await, wanted(token(), None));
    assert_eq!(unknown.kind.exit_code(), 78, "{}", unknown.what);
    assert!(unknown.what.contains("certificate does not verify"), "{}", unknown.what);
    let mut misnamed = wanted(token(), None);
    misnamed.address = misnamed.address.replace("localhost", "127.0.0.1");
    assert_eq!(refused(misnamed).await.kind.exit_code(), 78);
    let (good, stranger) =
        (authority.client("sankofa-rows"), Authority::new("school").client("sankofa-rows"));
    let cert = || Auth::Cert { mount: "cert".into(), role: Some("rows".into()) };
    let (by_good, by_stranger) = (wanted(cert(), Some(good)), wanted(cert(), Some(stranger)));

    let unseal = server.initialise().await;
    let failure = refused(sealed.clone()).await;
    assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
    assert!(failure.what.contains("sealed"), "{}", failure.what);
    server.unseal(&unseal).await;
    server.put("sys/mounts/kv", json!({"type": "kv", "options": {"version": "2"}})).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.write(("kv", 2), "connections/a", json!({"conn_uri": "postgres://there/x"})).await;
    server.put("sys/auth/cert", json!({"type": "cert"})).await;
    let policy = server.policy(&format!("path \"kv/data/connections/*\" {READ}\npath \"auth/token/revoke-self\" {{ capabilities = [\"update\"] }}")).await;
    let role = json!({"certificate": authority.0.pem(), "allowed_common_names": ["sankofa-rows"], "token_policies": [policy]});
    server.put("auth/cert/certs/rows", role).await;
    reads(by_good.clone()).await;
    let failure = refused(by_stranger).await;
    assert!([77, 78].contains(&failure.kind.exit_code()), "{}", failure.what);
    let unknown_token = refused(sealed.clone()).await;
    assert_eq!(unknown_token.kind.exit_code(), 77, "{}", unknown_token.what);
    server.put("sys/seal", json!({})).await;
    let failure = refused(by_good).await;
    assert_eq!(failure.kind.exit_code(), 75, "{}", failure.what);
    assert!(failure.hint.unwrap().contains("unseal"));
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_78() {
    let authority = Authority::new("school");
    let (certificate, key) = authority.server(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let Some(server) = VaultServer::with_tls(&certificate, &key, &authority.0.pem()).await else { return };
    let token = Auth::Token { file: Some(file("hvs.unknown")) };
    let ca_cert = Some(file(&authority.0.pem()));
    let failure =
        refused(Settings { ca_cert, auth: token, ..settings(&server.address, "kv", 2, "unused") }).await;
    assert_eq!(failure.kind.exit_code(), 78, "{}", failure.what);
    assert!(failure.what.contains("expired"), "{}", failure.what);
}

#[tokio::test]
async fn an_agent_that_adds_the_token_needs_no_login() {
    let stand_in = StandIn::start(|_, _| {
        Reply::Json(
            200,
            json!({"data": {"data": {"conn_uri": "postgres://there/x"}, "metadata": {"version": 1}}}),
        )
    })
    .await;
    let asked = Settings { auth: Auth::Agent, ..settings(&stand_in.address, "kv", 2, "unused") };
    reads(asked).await;
    let heads = stand_in.asked();
    assert!(heads.len() == 1 && !heads[0].contains("x-vault-token"), "{heads:?}");
}

#[tokio::test]
async fn a_token_of_a_short_life_is_renewed_and_one_without_the_right_warns_and_still_succeeds() {
    let Some(server) = VaultServer::shared().await else { return };
    let (mount, policy) = with_secret(&server).await;
    let renewing = format!("{policy}\npath \"auth/token/renew-self\" {{ capabilities = [\"update\"] }}");
    server.write((&mount, 2), "connections/b", json!({"conn_uri": "postgres://also/x"})).await;
    let role = server.approle(&renewing, json!({"token_ttl": "2s", "secret_id_num_uses": 1})).await;
    let secret_id = file(&server.secret_id(&role).await);
    let asked = resolver(with(&server, &mount, approle(&role.mount, &role.role_id, secret_id, false)));
    asked.connection("a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    // The secret id is spent, so only the first token can have read this.
    asked.connection("b").await.unwrap();
    asked.close().await;
    let bare = format!("path \"{mount}/data/connections/*\" {READ}");
    let role = server.approle(&bare, json!({})).await;
    let secret_id = server.secret_id(&role).await;
    let auth = format!(
        "auth: {{approle: {{role_id: \"{}\", secret_id_env: THE_ID, mount: {}}}}}",
        role.role_id, role.mount
    );
    let sankofa = project(&server, &format!("mount: {mount}, {auth}")).env("THE_ID", &secret_id);
    let database = Server::major(17).fresh_database("vault_warn").await;
    server.write((&mount, 2), "connections/warehouse", json!({"conn_uri": database.connection_uri()})).await;
    let run = sankofa.run(&["warehouse", "init"]).await.succeeds();
    assert!(
        run.stderr.contains("cannot revoke the token of Vault: permission denied (403)"),
        "{}",
        run.told()
    );
    assert!(run.stderr.contains("auth/token/revoke-self"), "{}", run.told());
}
