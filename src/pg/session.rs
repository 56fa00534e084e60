//! One open session: its server, its settings, its notices, and how it is cancelled.
//!
//! In:    a logged-in client and the wire under it.
//! Out:   [`Session`], [`Canceller`].
//! Holds: a dropped session closes its socket; when the server ends a session, the reason it
//!        gave is kept for whoever asks next.
//! Not here: finding a server and logging in (`connect`).

use super::endpoint::Endpoint;
use super::public;
use crate::error::Failure;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, CancelToken, Client, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// One open session; dropping it closes the socket.
#[derive(Debug)]
pub struct Session {
    /// To talk to the server.
    pub client: Client,
    /// Where the session is, address included.
    pub endpoint: Endpoint,
    /// `server_version_num`, such as 150020.
    pub version_num: u32,
    /// Whether the server was in recovery (a standby) at login.
    pub in_recovery: bool,
    /// Whether transactions were read only at login.
    pub read_only: bool,
    id: String,
    tls: Tls,
    journal: Arc<Journal>,
    driver: Driver,
}

impl Session {
    /// Drives `wire` in a task of its own, and asks what kind of server this is.
    pub(super) async fn start(
        (client, wire): (Client, Wire),
        endpoint: &Endpoint,
        id: &str,
        tls: &MakeRustlsConnect,
    ) -> Result<Session, tokio_postgres::Error> {
        let journal = Arc::new(Journal::default());
        let driver = drive(wire, journal.clone());
        let facts = facts(&client).await?;
        Ok(Session {
            client,
            endpoint: endpoint.clone(),
            version_num: facts.version_num,
            in_recovery: facts.in_recovery,
            read_only: facts.read_only,
            id: id.to_string(),
            tls: Tls(tls.clone()),
            journal,
            driver,
        })
    }

    /// Major version, such as 15.
    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }

    /// Id of the connection it was opened from.
    pub fn connection_id(&self) -> &str {
        &self.id
    }

    /// Sets parameters for the rest of the session, in one round trip.
    ///
    /// # Errors
    /// 78 for a parameter the server does not know, 77 for one the role may not set.
    pub async fn set(&self, settings: &[(String, String)]) -> anyhow::Result<()> {
        if settings.is_empty() {
            return Ok(());
        }
        let calls = settings
            .iter()
            .map(|(name, value)| format!("set_config({}, {}, false)", literal(name), literal(value)));
        let sql = format!("SELECT {}", calls.collect::<Vec<_>>().join(", "));
        let done = self.client.simple_query(&sql).await;
        done.map_err(|error| {
            self.failure(error, &format!("cannot set parameters of the session on {}", self.id))
        })?;
        Ok(())
    }

    /// Ends the query this session is running; the session stays usable.
    ///
    /// # Errors
    /// 75 if the server cannot be told within 3 s.
    pub async fn cancel(&self) -> anyhow::Result<()> {
        self.canceller().cancel().await
    }

    /// A handle that cancels this session's query from another task.
    pub fn canceller(&self) -> Canceller {
        Canceller { id: self.id.clone(), token: self.client.cancel_token(), tls: self.tls.clone() }
    }

    /// Public texts of the notices the server has sent since the last call, oldest first, at
    /// most 100.
    pub fn take_notices(&self) -> Vec<String> {
        self.journal.lock().notices.drain(..).collect()
    }

    /// As [`public::failure`], and better where a session is at hand: says why the connection is
    /// gone if the server said so, and that a standby is read only until it is promoted (75).
    pub fn failure(&self, error: tokio_postgres::Error, cannot: &str) -> anyhow::Error {
        let told = self.journal.lock().end.clone();
        match (error.is_closed(), told) {
            (true, Some((code, failure))) => public::wrap(cannot, code, failure),
            _ if self.in_recovery => public::failure_on_standby(error, cannot),
            _ => public::failure(error, cannot),
        }
    }

    /// Says goodbye to the server; waits at most 1 s for it.
    pub async fn close(self) {
        let Session { client, mut driver, .. } = self;
        drop(client);
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut driver.0).await;
    }
}

/// Cancels one session's query, from anywhere.
#[derive(Clone)]
pub struct Canceller {
    id: String,
    token: CancelToken,
    tls: Tls,
}

const CANCEL_WITHIN: Duration = Duration::from_secs(3);

impl Canceller {
    /// As [`Session::cancel`].
    pub async fn cancel(&self) -> anyhow::Result<()> {
        let cannot = format!("cannot cancel the query on {}", self.id);
        match tokio::time::timeout(CANCEL_WITHIN, self.token.cancel_query(self.tls.0.clone())).await {
            Ok(done) => done.map_err(|error| public::failure(error, &cannot)),
            Err(_) => {
                Err(Failure::temporary(format!("{cannot}: no answer within {} s", CANCEL_WITHIN.as_secs()))
                    .into())
            }
        }
    }
}

#[derive(Clone)]
struct Tls(MakeRustlsConnect);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// What the server said outside of answers.
#[derive(Debug, Default)]
struct Journal(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    notices: VecDeque<String>,
    end: Option<(Option<String>, Failure)>,
}

const NOTICES_KEPT: usize = 100;

impl Journal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, text: String) {
        let mut said = self.lock();
        if said.notices.len() == NOTICES_KEPT {
            said.notices.pop_front();
        }
        said.notices.push_back(text);
    }
}

/// The task that moves bytes; aborted with the session.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Wire = tokio_postgres::Connection<
    Socket,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream,
>;

fn drive(mut wire: Wire, journal: Arc<Journal>) -> Driver {
    Driver(tokio::spawn(async move {
        while let Some(message) = std::future::poll_fn(|cx| wire.poll_message(cx)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => journal.note(public::public_text(&notice)),
                Ok(_) => {}
                Err(error) => {
                    let code = error.code().map(|state| state.code().to_string());
                    journal.lock().end = Some((code, public::cause(&error)));
                    return;
                }
            }
        }
    }))
}

struct Facts {
    version_num: u32,
    in_recovery: bool,
    read_only: bool,
}

/// Asked by the simple protocol: one round trip, and poolers understand it.
async fn facts(client: &Client) -> Result<Facts, tokio_postgres::Error> {
    let sql = "SELECT current_setting('server_version_num'), pg_catalog.pg_is_in_recovery(), \
               current_setting('transaction_read_only')";
    let answer = client.simple_query(sql).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = |nth| row.and_then(|row| row.get(nth)).unwrap_or_default();
    Ok(Facts {
        version_num: text(0).parse().unwrap_or(0),
        in_recovery: text(1) == "t",
        read_only: text(2) == "on",
    })
}

/// A string constant that reads the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_cannot_break_out_of_its_quotes() {
        assert_eq!(literal(r"a'b\c"), r"E'a''b\\c'");
    }
}
