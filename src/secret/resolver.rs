//! Asks the places, in the order the project names them; the first that has the id answers.
//!
//! In:    a connection id or a variable key.
//! Out:   its value, remembered for the life of the process.
//! Holds: each id is asked for once, several side by side; a connection that a server refuses is asked
//!        for once more; an id that is no id is refused and not repeated.
//! Not here: the order of the places (`config`).

use super::connection::Connection;
use super::place::{Answer, Asked, Place};
use super::renewal::Renewal;
use crate::error::{Failure, classify};
use futures_util::FutureExt;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// An answer, and the name of the place that gave it.
pub type Given<T> = (Answer<T>, String);

/// What is kept of an id: its answer, and what came of asking for it once more.
#[derive(Debug)]
struct Slot<T> {
    given: OnceCell<Given<T>>,
    /// Why it could not be fetched ahead; told once, to whoever asks for it.
    ahead: Mutex<Option<Failure>>,
    fresh: Arc<OnceCell<T>>,
}

type Answers<T> = Mutex<HashMap<String, Arc<Slot<T>>>>;

/// Resolves ids by asking its places in order. Copies share what they know.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Vec<Arc<dyn Place>>,
    connections: Answers<Connection>,
    variables: Answers<SecretString>,
}

impl Resolver {
    /// Asks `places` in this order.
    pub fn new(places: Vec<Arc<dyn Place>>) -> Self {
        let (connections, variables) = (Answers::default(), Answers::default());
        Resolver(Arc::new(Inner { places, connections, variables }))
    }

    /// The places, in the order they are asked.
    pub fn places(&self) -> &[Arc<dyn Place>] {
        &self.0.places
    }

    /// The connection `id` of the first place that has it.
    ///
    /// # Errors
    /// 77 if no place has it, naming the places and what to do; 75 if a place cannot be reached;
    /// 78 for an id with characters Airflow does not allow and for a text that is no connection.
    pub async fn connection(&self, id: &str) -> anyhow::Result<Connection> {
        Ok(self.connection_told(id).await?.0.value)
    }

    /// The connection `id` of any place that has it: for who is told that a place has refused or is not there.
    ///
    /// # Errors
    /// As [`Resolver::connection`], when no place gives it.
    pub async fn connection_from_any(&self, id: &str) -> anyhow::Result<Connection> {
        let refused = match self.connection(id).await {
            Ok(connection) => return Ok(connection),
            Err(refused) => refused,
        };
        for place in self.0.places.iter().rev() {
            // The last of them first: one of the first has just said no.
            if let Ok(Some(found)) = place.connection(id).await {
                return Ok(found.value);
            }
        }
        Err(refused)
    }

    /// The connection `id`, with its kind and life and the name of the place that gave it.
    ///
    /// # Errors
    /// As [`Resolver::connection`].
    pub async fn connection_told(&self, id: &str) -> anyhow::Result<Given<Connection>> {
        check_id("connection", id)?;
        let slot = slot(&self.0.connections, id);
        let ask = || async {
            slot.said_ahead()?;
            for place in &self.0.places {
                if let Some(found) = place.connection(id).await? {
                    return self.with_credentials(id, found, place.name()).await;
                }
            }
            Err(self.missing(Asked::Connection(id)))
        };
        let (mut answer, place) = slot.given.get_or_try_init(ask).await?.clone();
        answer.value.renewal = Some(self.renewal(id, &slot));
        Ok((answer, place))
    }

    /// The way back here, for when a server refuses the connection `id`.
    fn renewal(&self, id: &str, slot: &Slot<Connection>) -> Renewal {
        let (resolver, id) = (self.clone(), id.to_owned());
        let ask = move || {
            let (resolver, id) = (resolver.clone(), id.clone());
            async move {
                tracing::info!(connection = %id, "asks for the connection anew: its login was refused");
                resolver.forget_connection(&id);
                resolver.connection(&id).await
            }
            .boxed()
        };
        Renewal::new(Arc::new(ask), slot.fresh.clone())
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
        check_id("variable", key)?;
        let slot = slot(&self.0.variables, key);
        let ask = || async {
            slot.said_ahead()?;
            for place in &self.0.places {
                if let Some(found) = place.variable(key).await? {
                    return Ok((found, place.name()));
                }
            }
            Err(self.missing(Asked::Variable(key)))
        };
        Ok(slot.given.get_or_try_init(ask).await?.clone())
    }

    /// Asks for all of `needed` side by side, so that they cost the time of the slowest. What goes wrong
    /// is told to whoever asks for that id.
    pub async fn fetch_ahead<'a>(&self, needed: impl IntoIterator<Item = Asked<'a>>) {
        futures_util::future::join_all(needed.into_iter().map(|asked| self.fetch_one(asked))).await;
    }

    async fn fetch_one(&self, asked: Asked<'_>) {
        match asked {
            Asked::Connection(id) => {
                let failed = self.connection_told(id).await.err();
                slot(&self.0.connections, id).remember(failed.as_ref());
            }
            Asked::Variable(key) => {
                let failed = self.variable_told(key).await.err();
                slot(&self.0.variables, key).remember(failed.as_ref());
            }
        }
    }

    /// Forgets the connection `id`, so that the next question is asked anew.
    pub fn forget_connection(&self, id: &str) {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// `found`, with the user and password that a place makes for it, if one does.
    async fn with_credentials(
        &self,
        id: &str,
        found: Answer<Connection>,
        name: String,
    ) -> anyhow::Result<Given<Connection>> {
        for place in &self.0.places {
            if let Some(made) = place.credentials(id).await? {
                let mut value = found.value.with_password(made.value.password);
                value.login = Some(made.value.login);
                value.extra.retain(|key, _| !matches!(key.as_str(), "user" | "password"));
                let kind = format!("{}; {}", found.kind, made.kind);
                return Ok((Answer { value, kind, life: made.life }, name));
            }
        }
        Ok((found, name))
    }

    /// The connection whose user a place took away while it was in use, if there is one. It asks the
    /// places that made users; others cost nothing.
    pub async fn lost(&self) -> Option<String> {
        for place in &self.0.places {
            if let Some(id) = place.lost().await {
                return Some(id);
            }
        }
        None
    }

    /// Gives back what the places were made to hand out: logins and leases. Never fails, warns; a
    /// second time does nothing.
    pub async fn close(&self) {
        futures_util::future::join_all(self.0.places.iter().map(|place| place.close())).await;
    }

    fn missing(&self, asked: Asked<'_>) -> anyhow::Error {
        let names: Vec<String> = self.0.places.iter().map(|place| place.name()).collect();
        let Some(first) = self.0.places.first() else {
            let what = format!("cannot resolve {asked}: no place to ask is named under `secrets:`");
            return Failure::permission(what).into();
        };
        Failure::permission(format!("cannot resolve {asked}: not found in {}", names.join(", ")))
            .hint(first.how_to_add(asked))
            .into()
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { given: OnceCell::new(), ahead: Mutex::default(), fresh: Arc::default() }
    }
}

impl<T> Slot<T> {
    fn remember(&self, failed: Option<&anyhow::Error>) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = failed.map(classify);
    }

    /// What went wrong when it was fetched ahead, once.
    fn said_ahead(&self) -> Result<(), Failure> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The place of one answer; whoever comes second waits for the first.
fn slot<T>(answers: &Answers<T>, id: &str) -> Arc<Slot<T>> {
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
    use crate::error::Kind;
    use anyhow::Result;
    use futures_util::future::BoxFuture;
    use secrecy::ExposeSecret;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Barrier;

    fn place(variables: &[(&str, &str)]) -> Arc<dyn Place> {
        Arc::new(Environment::given(variables.iter().copied()))
    }

    fn resolver(variables: &[(&str, &str)]) -> Resolver {
        Resolver::new(vec![place(variables)])
    }

    /// Counts what it is asked, and says another password every time; `late` is not there at first.
    #[derive(Debug, Default)]
    struct Rotating {
        asked: AtomicUsize,
        together: Option<Barrier>,
    }

    impl Rotating {
        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        async fn count(&self) -> usize {
            if let Some(together) = &self.together {
                together.wait().await;
            }
            self.asked.fetch_add(1, Ordering::SeqCst)
        }
    }

    impl Place for Rotating {
        fn name(&self) -> String {
            "a test".into()
        }

        fn how_to_add(&self, _: Asked<'_>) -> String {
            "Wait.".into()
        }

        fn connection<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Answer<Connection>>>> {
            let answer = |n| Connection::parse(id, &format!("postgres://u:{n}@h/db"));
            async move { Ok(Some(Answer::standing(answer(self.count().await)?, "test"))) }.boxed()
        }

        fn variable<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Answer<SecretString>>>> {
            let answer = |n: usize| Answer::standing(SecretString::from(n.to_string()), "test");
            async move { Ok(Some(self.count().await).filter(|n| key != "late" || *n > 0).map(answer)) }
                .boxed()
        }
    }

    fn password(of: &Connection) -> &str {
        of.newest().password().unwrap().expose_secret()
    }

    #[tokio::test]
    async fn a_refused_connection_is_asked_for_once_more_and_all_its_copies_know() {
        let place = Arc::new(Rotating::default());
        let all = Resolver::new(vec![place.clone()]);
        let (first, copy) = (all.connection("x").await.unwrap(), all.connection("x").await.unwrap());
        assert!(first.ask_anew(&first).await.unwrap());
        assert_eq!((password(&first), password(&copy), place.asked()), ("1", "1", 2));
        // A session that began before sees that there is another; one that was refused with it, none.
        assert!(copy.ask_anew(&copy).await.unwrap());
        assert!(!copy.ask_anew(copy.newest()).await.unwrap());
        assert_eq!((password(&all.connection("x").await.unwrap()), place.asked()), ("1", 2));
    }

    #[tokio::test]
    async fn the_same_password_again_is_not_tried_again() {
        let all = resolver(&[("AIRFLOW_CONN_X", "postgres://u:p@h/db")]);
        let connection = all.connection("x").await.unwrap();
        assert!(!connection.ask_anew(&connection).await.unwrap());
    }

    #[tokio::test]
    async fn ids_fetched_ahead_are_asked_side_by_side_and_once() {
        let place = Arc::new(Rotating { together: Some(Barrier::new(3)), ..Rotating::default() });
        let all = Resolver::new(vec![place.clone()]);
        all.fetch_ahead([Asked::Connection("a"), Asked::Variable("a"), Asked::Connection("b")]).await;
        all.connection("a").await.unwrap();
        all.variable("a").await.unwrap();
        assert_eq!(place.asked(), 3);
    }

    #[tokio::test]
    async fn what_went_wrong_ahead_is_told_without_asking_again() {
        let place = Arc::new(Rotating::default());
        let all = Resolver::new(vec![place.clone()]);
        all.fetch_ahead([Asked::Variable("late")]).await;
        assert_eq!(classify(&all.variable("late").await.unwrap_err()).kind, Kind::Permission);
        assert_eq!(place.asked(), 1);
        assert_eq!(all.variable("late").await.unwrap().expose_secret(), "1");
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
        let place = Arc::new(Rotating::default());
        let all = Resolver::new(vec![place.clone()]);
        assert!(all.variable("late").await.is_err());
        assert_eq!(all.variable("late").await.unwrap().expose_secret(), "1");
        assert_eq!(all.variable("late").await.unwrap().expose_secret(), "1");
        assert_eq!(place.asked(), 2);
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
