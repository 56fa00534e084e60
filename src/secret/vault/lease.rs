//! Database users that Vault makes for us, and takes away again.
//!
//! In:    the path that gives them, such as `database/creds/sankofa-rows`.
//! Out:   user and password.
//! Holds: a lease is renewed at half of its life while we use it, and revoked by `close`; whether it
//!        was lost on the way is asked of Vault itself.
//! Not here: host and database, which the connection knows.

use super::call::Other;
use super::fault::Fault;
use super::json::Json;
use super::kv;
use super::session::{MOST, Renewing, Session, told};
use crate::error::Failure;
use crate::secret::place::{Answer, Credentials};
use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{debug, warn};

/// How long revoking may take at the end.
const FAREWELL: Duration = Duration::from_millis(1300);
/// A user that can live this long is not worth a warning.
const LONG_ENOUGH: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_secs(1);

/// One user, as long as we have it.
#[derive(Debug)]
struct Lease {
    id: String,
    connection: String,
    /// What every renewal asks for.
    life: Duration,
    is_renewable: bool,
    is_lost: AtomicBool,
    /// Another was asked for in its place.
    is_replaced: AtomicBool,
}

/// The users of one Vault that we have.
#[derive(Debug, Default)]
pub struct Leases(Mutex<Vec<(Arc<Lease>, Option<Renewing>)>>);

impl Leases {
    /// Asks `path` for a user for connection `id`.
    ///
    /// # Errors
    /// 77 where the policy forbids it; 78 for a role that does not exist; 75 where Vault, or the
    /// database behind it, does not answer.
    pub async fn issue(
        &self,
        session: &Arc<Session>,
        path: &str,
        id: &str,
    ) -> Result<Answer<Credentials>, Failure> {
        let doing = format!(
            "cannot get a user for connection {id} from {path} of Vault at {}",
            session.settings().address
        );
        let request = || Other { path: path.to_owned(), body: None };
        let answer = session.ask(request, false).await?.map_err(|fault| kv::refused(&fault, &doing, path))?;
        let credentials = credentials(&answer);
        let Some(credentials) = credentials else {
            return Err(Failure::config(format!("{doing}: the answer has no username and password")).hint(
                "Under `dynamic:` stands a path such as database/creds/ROLE or database/static-creds/ROLE.",
            ));
        };
        let lease_id = answer.text("/lease_id").unwrap_or_default().to_owned();
        if lease_id.is_empty() {
            let life = Some(answer.seconds("/data/ttl")).filter(|life| !life.is_zero());
            return Ok(Answer { value: credentials, kind: format!("user of {path}"), life });
        }
        let lease = Arc::new(Lease {
            id: lease_id,
            connection: id.to_owned(),
            life: answer.seconds("/lease_duration"),
            is_renewable: answer.is("/renewable"),
            is_lost: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
        });
        debug!(connection = id, life_s = lease.life.as_secs(), "got a user by lease");
        let life = Some(lease.life);
        let renewing = Renewing::start(keep(session.clone(), lease.clone()));
        let mut all = self.lock();
        all.iter()
            .filter(|(old, _)| old.connection == id)
            .for_each(|(old, _)| old.is_replaced.store(true, Ordering::Relaxed));
        all.push((lease, Some(renewing)));
        drop(all);
        Ok(Answer { value: credentials, kind: format!("user by lease, {path}"), life })
    }

    /// The connection whose user was taken from us while we had it, if there is one.
    pub async fn lost(&self, session: &Session) -> Option<String> {
        for lease in self.all().into_iter().filter(|lease| !lease.is_replaced.load(Ordering::Relaxed)) {
            if !lease.is_lost.load(Ordering::Relaxed) {
                let asked = tokio::time::timeout(FAREWELL, renew(session, &lease, lease.life)).await;
                if !matches!(asked, Ok(Err(fault)) if is_gone(&fault)) {
                    continue;
                }
            }
            return Some(lease.connection.clone());
        }
        None
    }

    /// Gives all users back.
    pub async fn close(&self, session: &Session) {
        let all: Vec<Arc<Lease>> =
            std::mem::take(&mut *self.lock()).into_iter().map(|(lease, _)| lease).collect();
        let revoke = async |lease: Arc<Lease>| {
            // Not `sync`: Vault puts it into its queue and goes on by itself, whether or not we live to see it.
            let body = json!({"lease_id": lease.id});
            let request = || Other { path: "sys/leases/revoke".into(), body: Some(body.clone()) };
            match tokio::time::timeout(FAREWELL, session.ask(request, true)).await {
                Ok(Ok(Ok(_))) => debug!(connection = lease.connection, "gave the user back to Vault"),
                Ok(Ok(Err(fault))) => {
                    told("revoke", &format!("the user of {}", lease.connection), "sys/leases/revoke", &fault);
                }
                Ok(Err(failure)) => warn!("cannot revoke the user of {}: {}", lease.connection, failure.what),
                Err(_) => warn!(
                    "cannot revoke the user of {} in time: it lives to its lease's end",
                    lease.connection
                ),
            }
        };
        join_all(all.into_iter().map(revoke)).await;
    }

    fn all(&self) -> Vec<Arc<Lease>> {
        self.lock().iter().map(|(lease, _)| lease.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<Lease>, Option<Renewing>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(answer: &Json) -> Option<Credentials> {
    let login = answer.text("/data/username")?.to_owned();
    Some(Credentials { login, password: SecretString::from(answer.text("/data/password")?) })
}

/// Renews `lease` at half of its life, until it cannot be or is lost.
async fn keep(session: Arc<Session>, lease: Arc<Lease>) {
    if !lease.is_renewable {
        return tell_longest(&lease.connection, Some(lease.life), None);
    }
    match renew(&session, &lease, MOST).await {
        Ok(most) => {
            let _ = renew(&session, &lease, lease.life).await;
            tell_longest(&lease.connection, Some(most), session.longest().await);
        }
        Err(fault) if is_gone(&fault) || fault.is_passing(true) => (),
        Err(fault) => {
            told("renew", &format!("the user of {}", lease.connection), "sys/leases/renew", &fault);
            return tell_longest(&lease.connection, Some(lease.life), None);
        }
    }
    let mut left = lease.life;
    while left > SHORTEST {
        tokio::time::sleep(left / 2).await;
        left = match renew(&session, &lease, lease.life).await {
            Ok(life) => life,
            Err(fault) if is_gone(&fault) => {
                lease.is_lost.store(true, Ordering::Relaxed);
                return warn!("the user of {} was taken from us: its lease is gone", lease.connection);
            }
            Err(fault) if fault.is_passing(true) => left / 2,
            Err(fault) => {
                return told(
                    "renew",
                    &format!("the user of {}", lease.connection),
                    "sys/leases/renew",
                    &fault,
                );
            }
        };
    }
}

/// Says at the start how long a run can be at most, where that is not long.
fn tell_longest(connection: &str, lease: Option<Duration>, token: Option<Duration>) {
    let (what, most) = match (lease, token) {
        (Some(lease), Some(token)) if token < lease => ("token", token),
        (Some(lease), _) => ("lease", lease),
        (None, _) => return,
    };
    if most < LONG_ENOUGH {
        let most = crate::report::duration(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
        warn!(
            "the user of {connection} lives {most} at most, by its {what}: a run that takes longer ends with 75"
        );
    }
}

fn is_gone(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { status: 400 | 404, .. })
}

async fn renew(session: &Session, lease: &Lease, increment: Duration) -> Result<Duration, Fault> {
    let body = json!({"lease_id": lease.id, "increment": increment.as_secs()});
    let request = || Other { path: "sys/leases/renew".into(), body: Some(body.clone()) };
    let answer = session.ask(request, true).await;
    let answer = answer.map_err(|failure| Fault::Broken { what: failure.what, reached: false })??;
    Ok(answer.seconds("/lease_duration"))
}
