//! Vault as a place to ask.

use super::json::overwrite;
use super::kv::{self, Secret};
use super::lease::Leases;
use super::path::spots;
use super::rights;
use super::session::Session;
use super::settings::Settings;
use crate::error::Failure;
use crate::secret::place::{Answer, Asked, Beyond, Credentials, Place};
use crate::secret::{Connection, grammar};
use anyhow::Result;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;

/// One Vault of `secrets:`.
#[derive(Debug)]
pub struct Vault {
    session: Arc<Session>,
    leases: Leases,
}

impl Vault {
    /// Gets ready; nothing is sent before something is asked for.
    ///
    /// # Errors
    /// 78 for an address or certificates that cannot be used.
    pub fn new(settings: Settings) -> Result<Vault, Failure> {
        Ok(Vault { session: Arc::new(Session::new(settings)?), leases: Leases::default() })
    }

    /// What our login lacks of what asking for `asked` needs.
    ///
    /// # Errors
    /// 75, 77, as a read.
    pub async fn lacking(&self, asked: &[Asked<'_>]) -> Result<Vec<String>, Failure> {
        let wanted = self.session.settings().wanted(asked);
        let paths: Vec<String> = wanted.keys().cloned().collect();
        Ok(rights::lacking(&wanted, &rights::on(&self.session, &paths).await?))
    }

    async fn find(&self, asked: Asked<'_>) -> Result<Option<Secret>, Failure> {
        for spot in spots(self.session.settings(), asked)? {
            if let Some(secret) = kv::read(&self.session, &spot).await? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }
}

impl Place for Vault {
    fn name(&self) -> String {
        format!("Vault at {}", self.session.settings().address)
    }

    fn how_to_add(&self, asked: Asked<'_>) -> String {
        let spot = spots(self.session.settings(), asked).ok().and_then(|spots| spots.into_iter().next());
        let field = if matches!(asked, Asked::Connection(_)) { "conn_uri" } else { "value" };
        match spot {
            Some(spot) => {
                format!("Put it there: `vault kv put -mount={} {} {field}=-`.", spot.mount, spot.path)
            }
            None => "This Vault is not asked for it: see `mount:` and the paths in sankofa.yaml.".to_owned(),
        }
    }

    fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>> {
        Box::pin(async move {
            let Some(secret) = self.find(Asked::Connection(id)).await? else { return Ok(None) };
            let kind = secret.kind.clone();
            Ok(Some(Answer::standing(connection(id, secret)?, kind)))
        })
    }

    fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>> {
        Box::pin(async move {
            let Some(secret) = self.find(Asked::Variable(key)).await? else { return Ok(None) };
            let kind = secret.kind.clone();
            Ok(Some(Answer::standing(variable(key, secret)?, kind)))
        })
    }

    fn credentials<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Credentials>>>> {
        Box::pin(async move {
            let Some(path) = self.session.settings().dynamic.get(id) else { return Ok(None) };
            Ok(Some(self.leases.issue(&self.session, path, id).await?))
        })
    }

    fn lost(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(self.leases.lost(&self.session))
    }

    fn beyond<'a>(&'a self, needed: &'a [Asked<'a>]) -> BoxFuture<'a, Beyond> {
        Box::pin(async {
            let wanted = self.session.settings().wanted(needed);
            match rights::all(&self.session).await {
                Ok(rights) => Beyond::Known(rights::too_much(&wanted, &rights)),
                Err(failure) => Beyond::Unknown(Some(failure.what)),
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.leases.close(&self.session).await;
            self.session.close().await;
        })
    }
}

/// A connection in one of Airflow's two shapes: `conn_uri`, which hides all else, or fields.
fn connection(id: &str, mut secret: Secret) -> Result<Connection> {
    match secret.fields.get("conn_uri") {
        None | Some(Value::Null) => (),
        Some(Value::String(text)) if text.is_empty() => (),
        Some(Value::String(_)) => {
            let mut all = Value::Object(secret.fields);
            let parsed = Connection::parse(id, all["conn_uri"].as_str().unwrap_or_default());
            overwrite(&mut all);
            return parsed;
        }
        Some(_) => return Err(not_text(id, "conn_uri").into()),
    }
    secret.fields.retain(|key, value| key != "conn_uri" || !value.is_null());
    grammar::from_fields(id, secret.fields).map_err(|fault| {
        Failure::config(format!("cannot read connection {id} ({}): {fault}", secret.kind))
            .hint("Airflow's shapes: `conn_uri` alone, or conn_type, host, port, login, password, schema, extra, description.")
            .into()
    })
}

fn variable(key: &str, secret: Secret) -> Result<SecretString> {
    let mut all = Value::Object(secret.fields);
    let value = match all.get("value") {
        Some(Value::String(text)) => Ok(SecretString::from(text.as_str())),
        Some(scalar @ (Value::Number(_) | Value::Bool(_))) => Ok(SecretString::from(scalar.to_string())),
        Some(_) => Err(not_text(key, "value").into()),
        None => Err(Failure::config(format!(
            "cannot read variable {key} ({}): it has no key `value`",
            secret.kind
        ))
        .hint("Airflow keeps a variable as `value`.")
        .into()),
    };
    overwrite(&mut all);
    value
}

fn not_text(id: &str, field: &str) -> Failure {
    Failure::config(format!("cannot read {id}: its {field} is no text"))
        .hint("Write it as a text, in quotes.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::classify;
    use secrecy::ExposeSecret;
    use serde_json::json;

    fn secret(fields: Value) -> Secret {
        Secret { fields: fields.as_object().unwrap().clone(), kind: "KV 2".into() }
    }

    #[test]
    fn a_variable_may_be_a_number_but_no_list_and_nothing_is_quoted() {
        assert_eq!(variable("k", secret(json!({"value": 7}))).unwrap().expose_secret(), "7");
        assert_eq!(variable("k", secret(json!({"value": ""}))).unwrap().expose_secret(), "");
        for bad in
            [json!({"value": ["MARK"]}), json!({"value": {"a": "MARK"}}), json!({"valeu": "MARK"}), json!({})]
        {
            let failure = classify(&variable("k", secret(bad)).unwrap_err());
            assert!(failure.kind.exit_code() == 78 && !failure.what.contains("MARK"), "{}", failure.what);
        }
    }

    #[test]
    fn a_conn_uri_hides_the_fields_beside_it_and_an_empty_one_is_no_key_of_airflow() {
        let both = json!({"conn_uri": "postgres://u:p@a/db", "host": "b", "owner": "x"});
        assert_eq!(connection("x", secret(both)).unwrap().host.as_deref(), Some("a"));
        for bad in [json!({"conn_uri": "", "host": "MARK"}), json!({"conn_uri": 7}), json!({"owner": "MARK"})]
        {
            let failure = classify(&connection("x", secret(bad)).unwrap_err());
            assert!(failure.kind.exit_code() == 78 && !failure.what.contains("MARK"), "{}", failure.what);
        }
    }
}
