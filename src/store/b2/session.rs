//! What one login to B2 gives: a token, addresses, and what the key may do.
//!
//! In:    the connection; the answer of `b2_authorize_account`, version 4, or in the shape of version 3.
//! Out:   a [`Session`]; the refusal of a call that the key has no right to, with the right's name.
//! Holds: neither key nor token is ever shown; over plain HTTP they go to this machine only.
//! Not here: the login itself and its renewal (`api`).

use crate::error::Failure;
use crate::secret::Connection;
use crate::store::http::is_safe;
use anyhow::Result;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::fmt;

const BACKBLAZE: &str = "https://api.backblazeb2.com";
const AUTHORIZE: &str = "/b2api/v4/b2_authorize_account";

/// How to log in.
#[derive(Clone)]
pub(super) struct Login {
    /// Address of `b2_authorize_account`.
    pub url: Url,
    /// Application key id.
    pub key_id: String,
    /// Application key.
    pub key: SecretString,
    /// The connection, for messages.
    pub connection: String,
}

impl Login {
    /// Reads what `connection` says: login, password, and `endpoint` of its extras.
    pub fn of(connection: &Connection) -> Result<Login> {
        let id = &connection.id;
        let missing = |what: &str| {
            let hint = "A B2 connection has the key id as login and the application key as password.";
            Failure::config(format!("cannot use connection {id} for B2: it has no {what}")).hint(hint)
        };
        let key_id = connection.login.clone().filter(|id| !id.is_empty()).ok_or_else(|| missing("login"))?;
        let key = connection.password().filter(|key| !key.expose_secret().is_empty());
        let key = key.cloned().ok_or_else(|| missing("password"))?;
        let url = endpoint(connection).and_then(authorize_url).map_err(|why| {
            Failure::config(format!("cannot use connection {id} for B2: its `endpoint` {why}")).hint(format!(
                "Leave `endpoint` out for Backblaze itself, or write it as {BACKBLAZE}{AUTHORIZE}."
            ))
        })?;
        Ok(Login { url, key_id, key, connection: id.clone() })
    }

    /// What stands between a host and the name of a call: of the version that the login is made with.
    pub fn api_path(&self) -> &str {
        let path = self.url.path();
        path.rfind('/').map_or("/", |end| &path[..=end])
    }
}

/// What the connection says; extras that cannot be read are an error, lest a key go where it should not.
fn endpoint(connection: &Connection) -> Result<&str, &'static str> {
    if connection.unusable_extra.is_some() {
        return Err("cannot be looked for, since its extras are no JSON object");
    }
    match connection.extra.get("endpoint") {
        None | Some(Value::Null) => Ok(BACKBLAZE),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(BACKBLAZE),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err("is no text"),
    }
}

/// The address to log in at: `endpoint` itself, or with the usual path where it has none.
fn authorize_url(endpoint: &str) -> Result<Url, &'static str> {
    let mut url = Url::parse(endpoint.trim()).map_err(|_| "is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password");
    }
    if !is_safe(&url) {
        return Err("is not https, and not on this machine");
    }
    if url.path() == "/" {
        url.set_path(AUTHORIZE);
    }
    Ok(url)
}

/// One login.
#[derive(Clone)]
pub(super) struct Session {
    /// For every call but uploads.
    pub token: SecretString,
    /// The account, which is not the key id.
    pub account_id: String,
    /// Where calls go.
    pub api_url: String,
    /// Where downloads come from.
    pub download_url: String,
    /// The smallest part but the last, in bytes.
    pub minimum_part: u64,
    /// What the key may do. Names that nobody here knows are kept.
    pub capabilities: Vec<String>,
    /// (id, name) of the buckets that the key is bound to; a deleted one has no name.
    pub buckets: Option<Vec<(String, Option<String>)>>,
    /// The names that the key is bound to begin so.
    pub name_prefix: Option<String>,
}

impl Session {
    /// Reads the answer of `b2_authorize_account`.
    ///
    /// # Errors
    /// What is wrong with it, never quoting it.
    pub fn read(answer: &Value) -> Result<Session, String> {
        let storage = &answer["apiInfo"]["storageApi"];
        let text = |value: &Value, name: &str| match value[name].as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("it has no {name}")),
        };
        let address = |name: &str| {
            let text = text(storage, name)?;
            let is_safe = Url::parse(&text).is_ok_and(|url| is_safe(&url));
            if is_safe {
                Ok(text.trim_end_matches('/').to_owned())
            } else {
                Err(format!("its {name} is not https"))
            }
        };
        // Version 4 moved what the key may do into `allowed`; version 3 knows one bucket at most.
        let allowed = if storage["allowed"].is_object() { &storage["allowed"] } else { storage };
        let capabilities = allowed["capabilities"].as_array().ok_or("it has no capabilities")?;
        Ok(Session {
            token: text(answer, "authorizationToken")?.into(),
            account_id: text(answer, "accountId")?,
            api_url: address("apiUrl")?,
            download_url: address("downloadUrl")?,
            minimum_part: storage["absoluteMinimumPartSize"].as_u64().unwrap_or(5_000_000),
            capabilities: capabilities.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            buckets: buckets(allowed),
            name_prefix: allowed["namePrefix"]
                .as_str()
                .filter(|prefix| !prefix.is_empty())
                .map(str::to_owned),
        })
    }

    /// Whether the key has a right.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|name| name == capability)
    }
}

fn buckets(allowed: &Value) -> Option<Vec<(String, Option<String>)>> {
    let name = |bucket: &Value, key: &str| bucket[key].as_str().map(str::to_owned);
    match allowed["buckets"].as_array() {
        Some(rows) => {
            Some(rows.iter().filter_map(|row| Some((name(row, "id")?, name(row, "name")))).collect())
        }
        None => Some(vec![(name(allowed, "bucketId")?, name(allowed, "bucketName"))]),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("api_url", &self.api_url)
            .field("capabilities", &self.capabilities)
            .field("name_prefix", &self.name_prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, classify};
    use serde_json::json;

    fn login(text: &str) -> Result<Login> {
        Login::of(&Connection::parse("offsite", text).unwrap())
    }

    fn with_endpoint(endpoint: &str) -> Result<Login> {
        let text =
            json!({"conn_type": "b2", "login": "k", "password": "MARK", "extra": {"endpoint": endpoint}});
        login(&text.to_string())
    }

    #[test]
    fn a_connection_without_endpoint_logs_in_at_backblaze_and_another_may_be_short_or_whole() {
        let url = |login: Result<Login>| login.unwrap().url.to_string();
        let backblaze = "https://api.backblazeb2.com/b2api/v4/b2_authorize_account";
        assert_eq!(url(login("b2://k:MARK@")), backblaze);
        assert_eq!(url(with_endpoint(backblaze)), backblaze);
        assert_eq!(
            url(with_endpoint("http://127.0.0.1:9/")),
            "http://127.0.0.1:9/b2api/v4/b2_authorize_account"
        );
    }

    #[test]
    fn a_connection_that_cannot_work_is_config_and_quotes_no_secret() {
        let cases = [
            (login("b2://k@"), "password"),
            (login("b2://:MARK@"), "login"),
            (with_endpoint("http://b2.example.com"), "https"),
            (with_endpoint("https://MARK:MARK@b2.example.com"), "password"),
            (with_endpoint("MARK"), "no URL"),
            (login(r#"{"login": "k", "password": "MARK", "extra": {"endpoint": 7}}"#), "no text"),
            (login(r#"{"login": "k", "password": "MARK", "extra": "MARK"}"#), "no JSON object"),
        ];
        for (result, word) in cases {
            let failure = classify(&result.err().unwrap());
            assert_eq!(failure.kind, Kind::Config);
            assert!(failure.what.contains(word) && !failure.what.contains("MARK"), "{}", failure.what);
        }
    }

    fn answer(storage: Value) -> Value {
        let mut whole =
            json!({"apiUrl": "https://api5.example.com", "downloadUrl": "https://f5.example.com/", "new": 1});
        whole.as_object_mut().unwrap().extend(storage.as_object().unwrap().clone());
        json!({"accountId": "a", "authorizationToken": "MARK", "apiInfo": {"storageApi": whole, "groupsApi": {}}})
    }

    #[test]
    fn both_shapes_of_the_login_answer_say_the_same() {
        let v4 = answer(
            json!({"allowed": {"buckets": [{"id": "b1", "name": "school"}, {"id": "b2", "name": null}],
            "capabilities": ["listFiles", "dreamOfFiles"], "namePrefix": "prod/"}}),
        );
        let v3 = answer(json!({"bucketId": "b1", "bucketName": "school", "capabilities": ["listFiles"],
            "namePrefix": "prod/", "infoType": "storageApi"}));
        let school = ("b1".to_owned(), Some("school".to_owned()));
        let (v4, v3) = (Session::read(&v4).unwrap(), Session::read(&v3).unwrap());
        assert_eq!(v4.buckets, Some(vec![school.clone(), ("b2".to_owned(), None)]));
        assert_eq!(v3.buckets, Some(vec![school]));
        for session in [v4, v3] {
            assert!(session.has("listFiles") && !session.has("writeFiles"));
            assert_eq!((session.name_prefix.as_deref(), session.minimum_part), (Some("prod/"), 5_000_000));
            assert_eq!(session.download_url, "https://f5.example.com");
            assert!(!format!("{session:?}").contains("MARK"));
        }
    }

    #[test]
    fn an_unbound_key_has_no_buckets_in_either_shape() {
        let v4 = answer(json!({"allowed": {"buckets": null, "capabilities": [], "namePrefix": null}}));
        let v3 =
            answer(json!({"bucketId": null, "bucketName": null, "capabilities": [], "namePrefix": null}));
        for shape in [v4, v3] {
            let session = Session::read(&shape).unwrap();
            assert_eq!((session.buckets, session.name_prefix), (None, None));
        }
    }

    #[test]
    fn an_answer_that_would_send_the_token_in_clear_is_refused() {
        let plain = answer(json!({"capabilities": [], "apiUrl": "http://api5.example.com"}));
        assert_eq!(Session::read(&plain).unwrap_err(), "its apiUrl is not https");
        assert!(Session::read(&json!("MARK")).is_err_and(|why| !why.contains("MARK")));
    }
}
