//! Asks the places, in the order the project names them; the first that has the id answers.
//!
//! In:    a connection id or a variable key.
//! Out:   its value, remembered for the life of the process.
//! Holds: each id is asked for once; an id that is no id is refused and not repeated.
//! Not here: the order of the places (`config`).

use super::connection::Connection;
use crate::error::Failure;
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// One place that can be asked.
#[derive(Debug)]
pub enum Place {
    /// `AIRFLOW_CONN_<ID>` and `AIRFLOW_VAR_<KEY>`, as Airflow itself.
    Environment(Environment),
}

/// Environment variables: those of this process, or given ones.
pub struct Environment(Option<BTreeMap<String, OsString>>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Environment(given)" } else { "Environment(process)" })
    }
}

impl Environment {
    /// The environment of this process, looked at when asked.
    pub fn process() -> Self {
        Environment(None)
    }

    /// An environment of these variables and no others.
    pub fn given<K: Into<String>, V: Into<OsString>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Environment(Some(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }

    fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        let value = match &self.0 {
            Some(given) => given.get(name).cloned(),
            None => std::env::var_os(name),
        };
        let not_utf8 =
            |_| Failure::config(format!("cannot read {name} from the environment: it is not UTF-8"));
        Ok(value.map(OsString::into_string).transpose().map_err(not_utf8)?)
    }
}

fn connection_variable(id: &str) -> String {
    format!("AIRFLOW_CONN_{}", id.to_uppercase())
}

fn variable_variable(key: &str) -> String {
    format!("AIRFLOW_VAR_{}", key.to_uppercase())
}

impl Place {
    /// How it is named in a sentence.
    pub fn name(&self) -> &'static str {
        match self {
            Place::Environment(_) => "the environment",
        }
    }

    async fn connection(&self, id: &str) -> anyhow::Result<Option<Connection>> {
        match self {
            // An empty text means "not here", as in Airflow.
            Place::Environment(environment) => match environment.text(&connection_variable(id))? {
                Some(text) if !text.is_empty() => Connection::parse(id, &text).map(Some),
                _ => Ok(None),
            },
        }
    }

    async fn variable(&self, key: &str) -> anyhow::Result<Option<SecretString>> {
        match self {
            Place::Environment(environment) => {
                Ok(environment.text(&variable_variable(key))?.map(SecretString::from))
            }
        }
    }
}

type Answers<T> = Mutex<HashMap<String, Arc<OnceCell<T>>>>;

/// Resolves ids by asking its places in order.
#[derive(Debug)]
pub struct Resolver {
    places: Vec<Place>,
    connections: Answers<Connection>,
    variables: Answers<SecretString>,
}

impl Resolver {
    /// Asks `places` in this order.
    pub fn new(places: Vec<Place>) -> Self {
        Resolver { places, connections: Answers::default(), variables: Answers::default() }
    }

    /// The connection `id` of the first place that has it.
    ///
    /// # Errors
    /// 77 if no place has it, naming the places and the environment variable to set; 78 for an
    /// id with characters Airflow does not allow and for a text that is no connection.
    pub async fn connection(&self, id: &str) -> anyhow::Result<Connection> {
        check_id("connection", id)?;
        let ask = || async {
            for place in &self.places {
                if let Some(found) = place.connection(id).await? {
                    return Ok(found);
                }
            }
            let hint = format!("Set {} to its URI or JSON form.", connection_variable(id));
            Err(self.missing(&format!("connection {id}"), hint))
        };
        Ok(slot(&self.connections, id).get_or_try_init(ask).await?.clone())
    }

    /// The variable `key` of the first place that has it; it may be empty.
    ///
    /// # Errors
    /// As [`Resolver::connection`].
    pub async fn variable(&self, key: &str) -> anyhow::Result<SecretString> {
        check_id("variable", key)?;
        let ask = || async {
            for place in &self.places {
                if let Some(found) = place.variable(key).await? {
                    return Ok(found);
                }
            }
            Err(self.missing(&format!("variable {key}"), format!("Set {}.", variable_variable(key))))
        };
        Ok(slot(&self.variables, key).get_or_try_init(ask).await?.clone())
    }

    fn missing(&self, what: &str, hint: String) -> anyhow::Error {
        let asked = match self.places.iter().map(Place::name).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "no place to ask is named under `secrets:`".to_string(),
            names => format!("not found in {names}"),
        };
        Failure::permission(format!("cannot resolve {what}: {asked}")).hint(hint).into()
    }
}

/// The place of one answer; whoever comes second waits for the first.
fn slot<T>(answers: &Answers<T>, id: &str) -> Arc<OnceCell<T>> {
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
    use super::*;
    use crate::error::{Kind, classify};
    use secrecy::ExposeSecret;

    fn resolver(variables: &[(&str, &str)]) -> Resolver {
        Resolver::new(vec![Place::Environment(Environment::given(variables.iter().copied()))])
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
        all.places = vec![Place::Environment(Environment::given(changed))];
        assert_eq!(all.variable("a").await.unwrap().expose_secret(), "first");
        assert_eq!(all.variable("b").await.unwrap().expose_secret(), "late");
    }

    #[tokio::test]
    async fn the_first_place_that_has_the_id_answers() {
        let place = |value| Place::Environment(Environment::given([("AIRFLOW_VAR_A", value)]));
        let all = Resolver::new(vec![
            Place::Environment(Environment::given([("PATH", "")])),
            place("one"),
            place("two"),
        ]);
        assert_eq!(all.variable("a").await.unwrap().expose_secret(), "one");
    }
}
