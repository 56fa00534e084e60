//! AWS Secrets Manager: moto for what it does, stand-ins for what it cannot be made to do.
//!
//! Holds: no fault quotes what was planted; every fault has the exit status that a scheduler needs.

use std::time::{Duration, SystemTime};

use sankofa::error::{Failure, Kind, classify};
use sankofa::secret::aws::{Ambient, Chain, SecretsManager, Settings, Who};
use sankofa::secret::{Place, Resolver};
use secrecy::ExposeSecret;
use std::sync::Arc;

use crate::support::moto::{Moto, REGION};
use crate::support::stand_in::{Asked, Reply, StandIn};
use crate::support::*;

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "MARKkey")];

fn settings(prefix: &str, endpoint: &str) -> Settings {
    Settings {
        connections: Some(format!("{prefix}/connections")),
        variables: Some(format!("{prefix}/variables")),
        sep: "/".into(),
        endpoint_url: Some(endpoint.into()),
        who: Who { region: Some(REGION.into()), ..Who::default() },
        ..Settings::default()
    }
}

fn place(prefix: &str, endpoint: &str, ambient: &[(&str, &str)]) -> SecretsManager {
    SecretsManager::new(settings(prefix, endpoint), Ambient::given(ambient.iter().copied()))
}

/// The failure of asking `place` for connection x; nothing that was planted is in it.
async fn refused(place: &SecretsManager) -> Failure {
    let error = place.connection("x").await.expect_err("a failure");
    assert!(!format!("{error:?} {error:#} {place:?}").contains("MARK"), "{error:?}");
    classify(&error)
}

#[tokio::test]
async fn a_secret_is_a_connection_or_a_variable_and_a_missing_one_is_left_to_the_next_place() {
    let Some(moto) = Moto::shared().await else { return };
    moto.create("t1/connections/uri", "postgres://u:p%40@h:1/db?sslmode=require").await;
    moto.create(
        "t1/connections/json",
        r#"{"username": "u", "pass": "p", "engine": "postgres", "host": "j"}"#,
    )
    .await;
    moto.create("t1/connections/broken", "{\"MARK\": ").await;
    moto.create("t1/variables/key", "a value\n").await;
    moto.create_binary("t1/variables/binary").await;
    let place = place("t1", &moto.url(), &KEYS);
    let uri = place.connection("uri").await.unwrap().unwrap();
    assert_eq!(uri.value.password().unwrap().expose_secret(), "p@");
    assert!(
        uri.kind.starts_with("secret t1/connections/uri, version ") && uri.life.is_none(),
        "{}",
        uri.kind
    );
    let json = place.connection("json").await.unwrap().unwrap().value;
    assert_eq!((json.login.as_deref(), json.host.as_deref()), (Some("u"), Some("j")));
    assert_eq!(place.variable("key").await.unwrap().unwrap().value.expose_secret(), "a value\n");
    assert!(
        place.connection("none").await.unwrap().is_none() && place.variable("uri").await.unwrap().is_none()
    );
    for (error, told) in [
        (place.connection("broken").await.unwrap_err(), "its JSON breaks off at line 1"),
        (place.variable("binary").await.unwrap_err(), "it is binary"),
    ] {
        let failure = classify(&error);
        assert!(failure.kind == Kind::Config && failure.what.contains(told), "{}", failure.what);
        assert!(!format!("{error:?}").contains("MARK"), "{error:?}");
    }
}

#[tokio::test]
async fn a_secret_marked_for_deletion_ends_the_search_with_77() {
    let Some(moto) = Moto::shared().await else { return };
    moto.create("t2/connections/x", "postgres://u:MARK@h/db").await;
    moto.delete("t2/connections/x").await;
    let failure = refused(&place("t2", &moto.url(), &KEYS)).await;
    assert!(
        failure.kind == Kind::Permission && failure.what.contains("marked for deletion"),
        "{}",
        failure.what
    );
    assert!(failure.hint.unwrap().contains("restore-secret --secret-id t2/connections/x"));
}

/// A stand-in of Secrets Manager that says who signed and with which session.
async fn who_signs() -> StandIn {
    StandIn::start(|_, _| Reply::ok(r#"{"SecretString": "postgres://u:p@h/db", "VersionId": "v"}"#)).await
}

fn signer(asked: &Asked) -> (String, String) {
    let authorization = asked.header("authorization");
    let id =
        authorization.split("Credential=").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    (id.to_owned(), asked.header("x-amz-security-token").to_owned())
}

/// Who signs when the environment is `ambient`; the secret key is in no header.
async fn signs(ambient: &[(&str, &str)]) -> (String, String) {
    let service = who_signs().await;
    place("s", &service.url(), ambient).connection("x").await.unwrap().unwrap();
    let asked = service.asked();
    assert!(asked.len() == 1 && !format!("{asked:?}").contains("MARKkey"), "{asked:?}");
    signer(&asked[0])
}

#[tokio::test]
async fn keys_of_the_environment_sign_with_their_session() {
    let with_token: Vec<_> = KEYS.into_iter().chain([("AWS_SESSION_TOKEN", "session")]).collect();
    assert_eq!(signs(&with_token).await, ("AKIDTEST".into(), "session".into()));
}

#[tokio::test]
async fn a_web_identity_and_a_role_of_a_profile_are_assumed_through_sts() {
    let Some(moto) = Moto::shared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("token"), "header.payload.signature\n").unwrap();
    let config = "[default]\naws_access_key_id = AKIDTEST\naws_secret_access_key = MARKkey\n\
                  [profile ops]\nrole_arn = arn:aws:iam::123456789012:role/ops\nsource_profile = default\n";
    std::fs::write(at("config"), config).unwrap();
    let sts = ("AWS_ENDPOINT_URL_STS", moto.url());
    let (token, config) = (at("token"), at("config"));
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/rows"),
        (sts.0, sts.1.as_str()),
    ];
    let profile = [("AWS_PROFILE", "ops"), ("AWS_CONFIG_FILE", config.as_str()), (sts.0, sts.1.as_str())];
    for ambient in [&web[..], &profile[..]] {
        let (id, session) = signs(ambient).await;
        assert!(id.starts_with("ASIA") && session.len() > 50, "{ambient:?}: {id}");
    }
    let who = Who { role_arn: Some("arn:aws:iam::123456789012:role/x".into()), ..Who::default() };
    let ambient: Vec<_> = KEYS.into_iter().chain([(sts.0, sts.1.as_str())]).collect();
    let keys = Chain::new(who, Ambient::given(ambient)).credentials().await.unwrap();
    assert!(keys.access_key_id().starts_with("ASIA") && keys.expiry().unwrap() > SystemTime::now());
}

fn endpoint_keys(seconds: i64) -> String {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    serde_json::json!({"Code": "Success", "AccessKeyId": "ASIAENDPOINT", "SecretAccessKey": "MARKkey",
        "Token": "session", "Expiration": end.to_string()})
    .to_string()
}

#[tokio::test]
async fn a_container_gives_credentials_for_the_token_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "eks-token\n").unwrap();
    let endpoint = StandIn::start(|_, asked| match asked.header("authorization") {
        "eks-token" => Reply::ok(endpoint_keys(3600)),
        _ => Reply::status(401, r#"{"code": "AccessDenied", "message": "no token"}"#),
    });
    let endpoint = endpoint.await;
    let url = format!("{}/v1/credentials", endpoint.url());
    let path = file.display().to_string();
    let ambient = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.as_str()),
    ];
    assert_eq!(signs(&ambient).await, ("ASIAENDPOINT".into(), "session".into()));
    let failure = refused(&place("s", &endpoint.url(), &ambient[..1])).await;
    assert!(
        failure.kind == Kind::Permission && failure.what.contains("container's endpoint"),
        "{}",
        failure.what
    );
}

async fn instance(role: &'static str) -> StandIn {
    StandIn::start(move |_, asked| match (asked.line.as_str(), asked.header("x-aws-ec2-metadata-token")) {
        ("PUT /latest/api/token", "") => Reply::ok("imds-token"),
        ("GET /latest/meta-data/iam/security-credentials/", "imds-token") if role.is_empty() => {
            Reply::status(404, "")
        }
        ("GET /latest/meta-data/iam/security-credentials/", "imds-token") => Reply::ok(role),
        ("GET /latest/meta-data/iam/security-credentials/rows", "imds-token") => {
            Reply::ok(endpoint_keys(3600))
        }
        _ => Reply::status(401, ""),
    })
    .await
}

#[tokio::test]
async fn an_instance_is_asked_for_a_token_first_and_not_at_all_where_that_is_turned_off() {
    let metadata = instance("rows").await;
    let url = metadata.url();
    let ambient =
        [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")];
    assert_eq!(signs(&ambient[..1]).await, ("ASIAENDPOINT".into(), "session".into()));
    assert_eq!(metadata.asked().len(), 3);
    let failure = refused(&place("s", &url, &ambient)).await;
    assert!(failure.kind == Kind::Permission && failure.what.contains("no credentials"), "{}", failure.what);
    assert_eq!(metadata.asked().len(), 3);
    let bare = instance("").await;
    let failure = refused(&place("s", &url, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &bare.url())])).await;
    assert!(failure.kind == Kind::Permission && failure.what.contains("has no role"), "{}", failure.what);
}

#[tokio::test]
async fn credentials_are_kept_until_they_near_their_end_and_asked_for_anew_when_refused_as_expired() {
    let endpoint = StandIn::start(|n, _| Reply::ok(endpoint_keys(if n == 0 { 200 } else { 3600 }))).await;
    let url = endpoint.url();
    let ambient = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str())];
    let chain = Chain::new(Who::default(), Ambient::given(ambient));
    for _ in 0..4 {
        chain.credentials().await.unwrap();
    }
    assert_eq!(endpoint.asked().len(), 2); // the first lasted less than five minutes
    let service = StandIn::start(|n, _| match n {
        0 => Reply::status(400, r#"{"__type": "ExpiredTokenException", "message": "MARK"}"#),
        _ => Reply::ok(r#"{"SecretString": "postgres://h"}"#),
    });
    let service = service.await;
    place("s", &service.url(), &ambient).connection("x").await.unwrap().unwrap();
    assert_eq!(service.asked().len(), 2);
    assert_eq!(endpoint.asked().len(), 4);
}

#[tokio::test]
async fn throttling_and_overload_are_tried_again() {
    let said = |status, body: &str| Reply::status(status, body);
    let storm = [
        said(400, r#"{"__type": "ThrottlingException"}"#),
        said(503, "<html>busy</html>"),
        said(500, r#"{"__type": "InternalServiceError"}"#),
        Reply::Cut,
    ];
    let service = StandIn::start(move |n, _| {
        storm.get(n).cloned().unwrap_or_else(|| Reply::ok(r#"{"SecretString": "postgres://h"}"#))
    });
    let service = service.await;
    assert!(place("s", &service.url(), &KEYS).connection("x").await.unwrap().is_some());
    assert_eq!(service.asked().len(), 5);
}

/// The failure that comes of an AWS that always says `reply`.
async fn always(reply: Reply) -> Failure {
    let service = StandIn::start(move |_, _| reply.clone()).await;
    refused(&place("s", &service.url(), &KEYS)).await
}

#[tokio::test]
async fn every_fault_of_the_service_has_its_status_and_quotes_nothing() {
    let json = |status: u16, code: &str, message: &str| {
        Reply::status(
            status,
            serde_json::json!({"__type": format!("com.amazon#{code}"), "message": message}).to_string(),
        )
    };
    let denied =
        "User: arn:aws:sts::1:assumed-role/rows is not authorized to perform: secretsmanager:GetSecretValue";
    let cases = [
        (json(400, "AccessDeniedException", denied), Kind::Permission, "is not authorized"),
        (json(400, "DecryptionFailure", ""), Kind::Permission, "KMS key"),
        (json(400, "UnrecognizedClientException", "MARK"), Kind::Permission, "does not know the access key"),
        (json(400, "InvalidSignatureException", "MARK"), Kind::Permission, "refuses the signature"),
        (
            json(400, "InvalidSignatureException", "Signature expired: MARK"),
            Kind::Temporary,
            "more than five minutes",
        ),
        (json(400, "InvalidRequestException", "MARK"), Kind::Permission, "marked for deletion"),
        (json(400, "ExpiredTokenException", "MARK"), Kind::Permission, "have expired"),
        (json(429, "TooManyRequestsException", "MARK"), Kind::Temporary, "TooManyRequestsException"),
        (Reply::status(503, "MARK"), Kind::Temporary, "status 503"),
        (Reply::status(403, "<html>MARK</html>"), Kind::Temporary, "a proxy's page"),
        (Reply::ok("<html>MARK</html>"), Kind::Temporary, "a proxy's page"),
        (Reply::Cut, Kind::Temporary, ""),
        (Reply::Endless, Kind::Temporary, "more than 1048576 bytes"),
        (
            Reply::Whole(302, "location: http://127.0.0.1:1/\r\n".into(), String::new()),
            Kind::Temporary,
            "302",
        ),
    ];
    let asked = cases.map(|(reply, kind, told)| async move {
        let failure = always(reply.clone()).await;
        assert!(failure.kind == kind && failure.what.contains(told), "{reply:?}: {failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
    });
    futures_util::future::join_all(asked).await;
}

#[tokio::test]
async fn a_clock_that_is_ten_minutes_off_is_said_in_words() {
    for (seconds, side) in [(610, "behind"), (-610, "ahead of")] {
        let theirs = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let date = theirs.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string();
        let body = r#"{"__type": "InvalidSignatureException", "message": "MARK"}"#;
        let failure = always(Reply::Whole(403, date, body.into())).await;
        let told = format!("this machine's clock is 10 minutes {side} AWS's");
        assert!(failure.kind == Kind::Temporary && failure.what.contains(&told), "{}", failure.what);
    }
}

#[tokio::test]
async fn an_aws_that_is_not_there_is_75_and_an_address_in_clear_elsewhere_78() {
    let gone = StandIn::start(|_, _| Reply::Cut).await.url(); // dropped: the port is closed
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(refused(&place("s", &gone, &KEYS)).await.kind, Kind::Temporary);
    for url in ["http://aws.example", "https://u:MARK@aws.example", "MARK"] {
        assert_eq!(refused(&place("s", url, &KEYS)).await.kind, Kind::Config, "{url}");
    }
    let no_region = SecretsManager::new(
        Settings { connections: Some(String::new()), ..Settings::default() },
        Ambient::given(KEYS),
    );
    let failure = refused(&no_region).await;
    assert!(failure.kind == Kind::Config && failure.what.contains("no region"), "{}", failure.what);
}

#[tokio::test]
async fn ten_ids_cost_the_time_of_one() {
    let together = Arc::new(tokio::sync::Semaphore::new(0));
    let service = StandIn::start({
        let together = together.clone();
        move |n, _| {
            together.add_permits(1);
            Reply::ok(format!(r#"{{"SecretString": "postgres://h{n}"}}"#))
        }
    });
    let service = service.await;
    let resolver = Resolver::new(vec![Arc::new(place("s", &service.url(), &KEYS))]);
    let ids: Vec<String> = (0..10).map(|n| format!("c{n}")).collect();
    let needed: Vec<_> = ids.iter().map(|id| sankofa::secret::Asked::Connection(id)).collect();
    resolver.fetch_ahead(needed).await;
    for id in &ids {
        resolver.connection(id).await.unwrap();
    }
    assert_eq!((service.asked().len(), together.available_permits()), (10, 10));
}

#[tokio::test]
async fn a_bucket_without_a_key_in_its_connection_is_opened_as_whoever_the_machine_is() {
    let Some(server) = S3Server::start().await else { return };
    server.bucket("machine", false).await;
    let full: serde_json::Value = serde_json::from_str(&server.connection(&server.endpoint())).unwrap();
    let (id, key) = (full["login"].as_str().unwrap(), full["password"].as_str().unwrap());
    let bare = serde_json::json!({"conn_type": "aws", "extra": full["extra"]}).to_string();
    let project = "version: 1\nstores: {offsite: {s3: {connection: s3, bucket: machine}}}\n\
                   backups: {databases: {hr: {connection: hr_db}}, defaults: {store: offsite, \
                   encrypt_to: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p], keep: {days: 1, at_least: 1}, \
                   expected_every: 26h}}\n";
    let sankofa = Sankofa::new().file("sankofa.yaml", project).env("AIRFLOW_CONN_S3", &bare);
    let sankofa = sankofa.env("AWS_EC2_METADATA_DISABLED", "true");
    let nobody = sankofa.run(&["backups", "list"]).await;
    assert!(nobody.exits(77).stderr.contains("no credentials"));
    let sankofa = sankofa.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", key);
    sankofa.run(&["backups", "list"]).await.succeeds();
}
