//! Asks the places, in the order the project names them; the first that has the id answers.
//!
//! In:    a connection id or a variable key.
//! Out:   its value, remembered for the life of the process.
//! Holds: each id is asked for once; an id that is no id is refused and not repeated.
//! Not here: the order of the places (`config`).

use super::connection::Connection;
use super::place::{Answer, Asked, Place};
use crate::error::Failure;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// An answer, and the name of the place that gave it.
type Given<T> = (Answer<T>, String);
type Answers<T> = Mutex<HashMap<String, Arc<OnceCell<Given<T>>>>>;

/// Resolves ids by asking its places in order. A clone is the same.
#[derive(Clone, Debug)]
pub struct Resolver {
    places: Vec<Arc<dyn Place>>,
    connections: Arc<Answers<Connection>>,
    variables: Arc<Answers<SecretString>>,
}

impl Resolver {
    /// Asks `places` in this order.
    pub fn new(places: Vec<Arc<dyn Place>>) -> Self {
        Resolver { places, connections: Arc::default(), variables: Arc::default() }
    }

    /// The connection `id` of the first place that has it.
    ///
    /// # Errors
    /// 77 if no place has it, naming the places and what to do; 75 if a place cannot be reached;
    /// 78 for an id with characters Airflow does not allow and for a text that is no connection.
    pub async fn connection(&self, id: &str) -> anyhow::Result<Connection> {
        Ok(self.connection_told(id).await?.0.value)
    }

    /// The connection `id`, with its kind and life and the name of the place that gave it.
    ///
    /// # Errors
    /// As [`Resolver::connection`].
    pub async fn connection_told(&self, id: &str) -> anyhow::Result<Given<Connection>> {
        let asked = Asked::Connection(id);
        check_id("connection", id)?;
        let ask = || async {
            for place in &self.places {
                if let Some(found) = place.connection(id).await? {
                    return self.with_credentials(id, found, place.name()).await;
                }
            }
            Err(self.missing(asked))
        };
        Ok(slot(&self.connections, id).get_or_try_init(ask).await?.clone())
    }

    /// The variable `key` of the first place that has it; it may be empty.
    ///
    /// # Errors
    /// As [`Resolver::connection`].
    pub async fn variable(&self, key: &str) -> anyhow::Result<SecretString> {
        Ok(self.variable_told(key).await?.0.value)
    }

    /// The variable `key`, with its kind and life and the name of the place that gave it.
    ///
    /// # Errors
    /// As [`Resolver::connection`].
    pub async fn variable_told(&self, key: &str) -> anyhow::Result<Given<SecretString>> {
        let asked = Asked::Variable(key);
        check_id("variable", key)?;
        let ask = || async {
            for place in &self.places {
                if let Some(found) = place.variable(key).await? {
                    return Ok((found, place.name()));
                }
            }
            Err(self.missing(asked))
        };
        Ok(slot(&self.variables, key).get_or_try_init(ask).await?.clone())
    }

    /// Forgets the connection `id`, so that the next question is asked anew: after a server
    /// refused its password (28P01, 28000), for it may have been rotated.
    pub fn forget_connection(&self, id: &str) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// `found`, with the user and password that a place makes for it, if one does.
    async fn with_credentials(
        &self,
        id: &str,
        found: Answer<Connection>,
        name: String,
    ) -> anyhow::Result<Given<Connection>> {
        for place in &self.places {
            if let Some(made) = place.credentials(id).await? {
                let mut value = found.value.with_password(made.value.password);
                value.login = Some(made.value.login);
                let kind = format!("{}; {}", found.kind, made.kind);
                return Ok((Answer { value, kind, life: made.life }, name));
            }
        }
        Ok((found, name))
    }

    /// The connection whose user a place took away while it was in use, if there is one. It asks the
    /// places that made users; others cost nothing.
    pub async fn lost(&self) -> Option<String> {
        for place in &self.places {
            if let Some(id) = place.lost().await {
                return Some(id);
            }
        }
        None
    }

    /// Gives back what the places were made to hand out: logins and leases. Never fails, warns; a
    /// second time does nothing.
    pub async fn close(&self) {
        futures_util::future::join_all(self.places.iter().map(|place| place.close())).await;
    }

    fn missing(&self, asked: Asked<'_>) -> anyhow::Error {
        let names: Vec<String> = self.places.iter().map(|place| place.name()).collect();
        let Some(first) = self.places.first() else {
            let what = format!("cannot resolve {asked}: no place to ask is named under `secrets:`");
            return Failure::permission(what).into();
        };
        Failure::permission(format!("cannot resolve {asked}: not found in {}", names.join(", ")))
            .hint(first.how_to_add(asked))
            .into()
    }
}

/// The place of one answer; whoever comes second waits for the first.
fn slot<T>(answers: &Answers<T>, id: &str) -> Arc<OnceCell<Given<T>>> {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    answers.entry(id.to_string()).or_default().clone()
}

// Airflow, `sanitize_conn_id`: word characters and these, at most 250.
const ID_MARKS: &str = "_#!()-.:/\\";
const ID_LENGTH: usize = 250;

/// Refuses what is no id without repeating it: people paste the secret where its name belongs.
fn check_id(what: &str, id: &str) -> anyhow::Result<()> {
    let legal = |c: char| c.is_alphanumeric() || ID_MARKS.contains(c);
    let fault = match () {
        () if id.is_empty() => "its id is empty".to_string(),
        () if id.contains("://") => "a URI stands where its id belongs".to_string(),
        () if id.chars().count() > ID_LENGTH => format!("its id is longer than {ID_LENGTH} characters"),
        () => match id.chars().position(|c| !legal(c)) {
            None => return Ok(()),
            Some(at) => format!("character {} of its id is not allowed", at + 1),
        },
    };
    let hint = "An id is made of letters, digits and any of `_ - . / : # ! ( ) \\`, as in Airflow.";
    Err(Failure::config(format!("cannot resolve a {what}: {fault}")).hint(hint).into())
}

#[cfg(test)]
mod tests {
    use super::super::environment::Environment;
    use super::*;
    use crate::error::{Kind, classify};
    use secrecy::ExposeSecret;

    fn place(variables: &[(&str, &str)]) -> Arc<dyn Place> {
        Arc::new(Environment::given(variables.iter().copied()))
    }

    fn resolver(variables: &[(&str, &str)]) -> Resolver {
        Resolver::new(vec![place(variables)])
    }

    #[tokio::test]
    async fn an_id_is_looked_for_under_airflows_own_variable_name() {
        let all = resolver(&[("AIRFLOW_CONN_HR_DB", "postgres://u:p@h/db"), ("AIRFLOW_VAR_MASK_KEY", "k")]);
        assert_eq!(all.connection("hr_db").await.unwrap().host.as_deref(), Some("h"));
        assert_eq!(all.variable("mask_key").await.unwrap().expose_secret(), "k");
    }

    #[tokio::test]
    async fn a_missing_id_is_77_and_says_which_variable_to_set() {
        let failure = classify(&resolver(&[("AIRFLOW_CONN_X", "")]).connection("x").await.unwrap_err());
        assert_eq!(failure.kind, Kind::Permission);
        assert_eq!(failure.what, "cannot resolve connection x: not found in the environment");
        assert_eq!(failure.hint.as_deref(), Some("Set AIRFLOW_CONN_X to its URI or JSON form."));
        let failure = classify(&resolver(&[]).variable("mask_key").await.unwrap_err());
        assert_eq!(failure.hint.as_deref(), Some("Set AIRFLOW_VAR_MASK_KEY."));
    }

    #[tokio::test]
    async fn what_is_no_id_is_78_and_is_not_repeated() {
        for bad in ["", "MARK db", "postgres://u:MARK", "MARK@h", &"M".repeat(251)] {
            let failure = classify(&resolver(&[]).connection(bad).await.unwrap_err());
            assert_eq!(failure.kind, Kind::Config, "{bad}");
            assert!(!failure.what.contains("MARK"), "{}", failure.what);
        }
        assert_eq!(
            classify(&resolver(&[]).connection("team-1/hr.db:é").await.unwrap_err()).kind,
            Kind::Permission
        );
    }

    #[tokio::test]
    async fn a_text_that_is_no_connection_is_78() {
        let all = resolver(&[("AIRFLOW_CONN_X", "postgres://u:MA/RK@h/db")]);
        let failure = classify(&all.connection("x").await.unwrap_err());
        assert_eq!(failure.kind, Kind::Config);
        assert!(!failure.what.contains("MA") && failure.what.starts_with("cannot read connection x: "));
    }

    #[tokio::test]
    async fn an_id_is_asked_for_once_and_a_missing_one_again() {
        let mut all = resolver(&[("AIRFLOW_VAR_A", "first")]);
        assert_eq!(all.variable("a").await.unwrap().expose_secret(), "first");
        assert!(all.variable("b").await.is_err());
        let changed = [("AIRFLOW_VAR_A", "second"), ("AIRFLOW_VAR_B", "late")];
        all.places = vec![place(&changed)];
        assert_eq!(all.variable("a").await.unwrap().expose_secret(), "first");
        assert_eq!(all.variable("b").await.unwrap().expose_secret(), "late");
    }

    #[tokio::test]
    async fn the_first_place_that_has_the_id_answers() {
        let all = Resolver::new(vec![
            place(&[("PATH", "")]),
            place(&[("AIRFLOW_VAR_A", "one")]),
            place(&[("AIRFLOW_VAR_A", "two")]),
        ]);
        assert_eq!(all.variable("a").await.unwrap().expose_secret(), "one");
    }
}
