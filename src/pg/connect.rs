//! Opens sessions on a server, as libpq would for the same connection.
//!
//! In:    a connection, what the session is for.
//! Out:   a [`Session`] on the first server that fits, settings applied.
//! Holds: names are looked up here, so that a second session can be pinned to the very address
//!        of the first; no password in an error; nothing outlives the dropped session.
//! Not here: what the options mean (`params`), what server errors mean (`public`).

use super::endpoint::Endpoint;
use super::params::{ChannelBinding, ConnectParams, SslMode, Target};
use super::session::Session;
use super::{public, tls};
use crate::error::{Failure, Kind, most_serious};
use crate::secret::Connection;
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;
use tokio_postgres::{Config, config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a session is for.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Shown in `pg_stat_activity`; cut to 63 bytes.
    pub application_name: String,
    /// Parameters set for the session right after login, in this order.
    pub settings: Vec<(String, String)>,
    /// The one server to go to, such as [`Session::endpoint`] of another session.
    pub pin: Option<Endpoint>,
    /// Time for one address to answer, TLS and login included, where the connection names none.
    pub connect_timeout: Duration,
}

impl SessionOptions {
    /// A session named `application_name`, with no settings, and 15 s to answer.
    pub fn named(application_name: impl Into<String>) -> Self {
        SessionOptions {
            application_name: application_name.into(),
            settings: Vec::new(),
            pin: None,
            connect_timeout: Duration::from_secs(15),
        }
    }

    /// Adds a parameter to set.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Goes to this server only.
    #[must_use]
    pub fn pinned(mut self, endpoint: &Endpoint) -> Self {
        self.pin = Some(endpoint.clone());
        self
    }
}

/// Opens a session on the first server of `connection` that answers and fits its
/// `target_session_attrs`.
///
/// # Errors
/// 75: refused, unknown name, no answer in time, starting up or shutting down, out of
/// connections, no server that fits. 77: login or certificate of ours refused, a right missing.
/// 78: no such database; a certificate of the server that does not verify (expired, wrong name,
/// unknown authority: neither a retry nor a grant mends it); an option that the server or a
/// pooler refuses; a connection that [`ConnectParams::of`] refuses.
///
/// A login or password that is refused (28P01, 28000) may have been rotated since the places were
/// asked for it: they are asked once more, and tried once more if they say another.
pub async fn connect(connection: &Connection, options: &SessionOptions) -> anyhow::Result<Session> {
    let tried = connection.newest();
    let refused = match open(connection, options).await {
        Err(error) if matches!(public::sqlstate(&error).as_deref(), Some("28P01" | "28000")) => error,
        other => return other,
    };
    match connection.ask_anew(tried).await {
        Ok(true) => open(connection, options).await,
        Ok(false) => Err(refused),
        Err(why) => Err(why.context(format!("cannot connect to {}", connection.id))),
    }
}

async fn open(connection: &Connection, options: &SessionOptions) -> anyhow::Result<Session> {
    let params = ConnectParams::of(connection)?;
    let tls = tls::connector(&params.tls).map_err(|mut failure| {
        failure.what = format!("cannot use connection {}: {}", params.id, failure.what);
        failure
    })?;
    let dialer = Dialer { params: &params, tls, options };
    let session = dialer.first_that_fits().await?;
    session.set(&options.settings).await?;
    Ok(session)
}

/// One failed attempt: what it was, and the SQLSTATE if the server spoke.
struct Refusal {
    code: Option<String>,
    failure: Failure,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal { code: None, failure }
    }
}

struct Dialer<'a> {
    params: &'a ConnectParams,
    tls: MakeRustlsConnect,
    options: &'a SessionOptions,
}

impl Dialer<'_> {
    async fn first_that_fits(&self) -> anyhow::Result<Session> {
        let target = match self.options.pin {
            Some(_) => Target::Any, // the first session has chosen
            None => self.params.target,
        };
        let first = if target == Target::PreferStandby { Target::Standby } else { target };
        match self.try_each(first).await {
            Err(_) if target == Target::PreferStandby => self.try_each(Target::Any).await,
            other => other,
        }
        .map_err(|refusals| self.told(refusals))
    }

    /// As libpq: the next server is tried only if this one did not answer, is not ready, or does
    /// not fit; a refused login ends the search.
    async fn try_each(&self, target: Target) -> Result<Session, Vec<(Endpoint, Refusal)>> {
        let mut refusals = Vec::new();
        let endpoints =
            self.options.pin.as_ref().map_or(self.params.endpoints.as_slice(), std::slice::from_ref);
        for endpoint in endpoints {
            let addresses = match self.addresses(endpoint).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    refusals.push((endpoint.clone(), failure.into()));
                    continue;
                }
            };
            for address in addresses {
                let at = Endpoint { address, ..endpoint.clone() };
                let refusal = match self.open(&at).await {
                    Ok(session) if fits(target, &session) => return Ok(session),
                    Ok(session) => misfit(target, &session).into(),
                    Err(refusal) => refusal,
                };
                let final_word = refusal.failure.kind != Kind::Temporary;
                refusals.push((at, refusal));
                if final_word {
                    return Err(refusals);
                }
            }
        }
        Err(refusals)
    }

    fn timeout(&self) -> Duration {
        self.params.connect_timeout.unwrap_or(self.options.connect_timeout)
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        let limit = self.timeout();
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| Failure::temporary(format!("no answer within {} s", limit.as_secs_f32())))
    }

    /// The addresses of an endpoint; `None` for a socket.
    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<Option<IpAddr>>, Failure> {
        if endpoint.is_socket() || endpoint.address.is_some() {
            return Ok(vec![endpoint.address]);
        }
        let found = self.in_time(tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))).await?;
        let hint = "Check host in the connection, and this machine's name service.";
        let unknown = || Failure::temporary("its name cannot be looked up").hint(hint);
        let mut addresses: Vec<_> = found.map_err(|_| unknown())?.map(|address| Some(address.ip())).collect();
        addresses.dedup();
        if addresses.is_empty() { Err(unknown()) } else { Ok(addresses) }
    }

    /// `allow` goes plain first, `prefer` encrypted first; the other way is tried only where the
    /// server has no rule for the first (28000), or TLS itself failed.
    async fn open(&self, at: &Endpoint) -> Result<Session, Refusal> {
        let ways: &[config::SslMode] = match self.params.tls.mode {
            _ if at.is_socket() => &[config::SslMode::Disable],
            SslMode::Disable => &[config::SslMode::Disable],
            SslMode::Allow => &[config::SslMode::Disable, config::SslMode::Require],
            SslMode::Prefer => &[config::SslMode::Prefer, config::SslMode::Disable],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[config::SslMode::Require],
        };
        let mut first = None;
        for way in ways {
            let (refusal, try_other) = match self.login(at, *way).await {
                Ok(session) => return Ok(session),
                Err(refused) => refused,
            };
            first.get_or_insert(refusal); // the preferred way says best what is wrong
            if !try_other {
                break;
            }
        }
        Err(first.unwrap_or_else(|| Failure::temporary("no way to log in was tried").into()))
    }

    /// One login; on failure also whether the other of plain and encrypted is worth trying.
    async fn login(&self, at: &Endpoint, mode: config::SslMode) -> Result<Session, (Refusal, bool)> {
        let config = self.config(at, mode);
        let attempt = async {
            let opened = config.connect(self.tls.clone()).await?;
            Session::start(opened, at, &self.params.id, &self.tls).await
        };
        let opened = self.in_time(attempt).await.map_err(|failure| (failure.into(), false))?;
        opened.map_err(|error| self.refusal(&error))
    }

    fn config(&self, at: &Endpoint, mode: config::SslMode) -> Config {
        let params = self.params;
        let mut config = Config::new();
        config.host(&at.host).port(at.port).user(&params.user).dbname(&params.database);
        config.application_name(cut(&self.options.application_name)).ssl_mode(mode);
        config.connect_timeout(self.timeout());
        if let Some(address) = at.address {
            config.hostaddr(address);
        }
        if let Some(password) = &params.password {
            config.password(password.expose_secret());
        }
        if let Some(text) = &params.options {
            config.options(text);
        }
        if params.tls.direct {
            config.ssl_negotiation(config::SslNegotiation::Direct);
        }
        config.channel_binding(match params.channel_binding {
            ChannelBinding::Disable => config::ChannelBinding::Disable,
            ChannelBinding::Prefer => config::ChannelBinding::Prefer,
            ChannelBinding::Require => config::ChannelBinding::Require,
        });
        let keepalives = &params.keepalives;
        config.keepalives(keepalives.on).keepalives_retries(keepalives.count);
        config.keepalives_idle(Duration::from_secs(keepalives.idle_s.into()));
        config.keepalives_interval(Duration::from_secs(keepalives.interval_s.into()));
        if let Some(limit) = params.tcp_user_timeout {
            config.tcp_user_timeout(limit);
        }
        config
    }

    /// What a failed login means; see [`connect`].
    fn refusal(&self, error: &tokio_postgres::Error) -> (Refusal, bool) {
        let code = error.code().map(|state| state.code().to_string());
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        let said = error.to_string();
        let tls_failed = said == "error performing TLS handshake";
        let failure = match (code.as_deref(), tls::tls_error(error)) {
            (Some(code), _) => self.login_refused(code, public::cause(error)),
            (None, Some(tls)) => tls::cause(tls),
            (None, None) if source == "password missing" => {
                Failure::permission("the server asks for a password, and the connection has none")
            }
            (None, None) if said == "authentication error" => authentication_refused(&source),
            (None, None) if source == "server does not support TLS" => {
                Failure::config("the server does not speak TLS")
                    .hint("Turn on `ssl` on the server, or lower sslmode in the connection.")
            }
            (None, None) if socket_denied(error) => Failure::permission("this user may not open the socket"),
            (None, None) => public::cause(error),
        };
        let other_way = tls_failed || code.as_deref() == Some("28000");
        (Refusal { code, failure }, other_way)
    }

    fn login_refused(&self, code: &str, failure: Failure) -> Failure {
        let hint = match code {
            "3D000" => format!("Check the schema of connection {}: it is the database.", self.params.id),
            "28P01" => format!("Check login and password of connection {}.", self.params.id),
            "28000" => "The server's pg_hba.conf must allow this host, user, database and kind of encryption; the role \
                        must exist and may log in."
                .to_string(),
            "42501" => format!("Run GRANT CONNECT ON DATABASE for role {} there.", self.params.user),
            "42704" | "22023" | "55P02" if self.params.options.is_some() => {
                return Failure::config(failure.what).hint("Check options in the connection.");
            }
            _ => return failure,
        };
        failure.hint(hint)
    }

    /// One sentence of all refusals; the most serious one decides.
    fn told(&self, refusals: Vec<(Endpoint, Refusal)>) -> anyhow::Error {
        let failures: Vec<Failure> = refusals.iter().map(|(_, refusal)| refusal.failure.clone()).collect();
        let Some(worst) = most_serious(&failures) else {
            return Failure::temporary(format!("cannot connect to {}: no address", self.params.id)).into();
        };
        let mut told: Vec<String> =
            refusals.iter().map(|(at, refusal)| format!("{at}: {}", refusal.failure.what)).collect();
        told.dedup(); // two addresses of a name that say the same
        let code = refusals.iter().rev().find_map(|(_, refusal)| refusal.code.clone());
        let failure = Failure { what: told.join("; "), ..worst.clone() };
        public::wrap(&format!("cannot connect to {}", self.params.id), code, failure)
    }
}

fn authentication_refused(source: &str) -> Failure {
    match source {
        "server did not use channel binding" => {
            Failure::config("channel_binding=require, and the server did not bind")
                .hint("It needs TLS and a SCRAM password on the server.")
        }
        "unsupported authentication method" | "unsupported SASL mechanism" => {
            Failure::config("the server asks for a kind of login that is not supported")
                .hint("Use scram-sha-256, md5, password, cert, peer or trust in its pg_hba.conf.")
        }
        _ => Failure::permission("the server's half of the login does not verify"),
    }
}

fn socket_denied(error: &tokio_postgres::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied)
}

/// PostgreSQL manual, 32.1.2, `target_session_attrs`.
fn fits(target: Target, session: &Session) -> bool {
    match target {
        Target::Any | Target::PreferStandby => true,
        Target::ReadWrite => !session.read_only,
        Target::ReadOnly => session.read_only,
        Target::Primary => !session.in_recovery,
        Target::Standby => session.in_recovery,
    }
}

fn misfit(target: Target, session: &Session) -> Failure {
    let wanted = match target {
        Target::ReadWrite => "read-write",
        Target::ReadOnly => "read-only",
        Target::Primary => "primary",
        Target::Standby | Target::PreferStandby => "standby",
        Target::Any => "any",
    };
    let is = match (session.in_recovery, session.read_only) {
        (true, _) => "a standby",
        (false, true) => "read only",
        (false, false) => "a primary that takes writes",
    };
    Failure::temporary(format!("it is {is}, and target_session_attrs={wanted}"))
}

// PostgreSQL cuts names at NAMEDATALEN - 1 bytes, and cuts a character in two if need be.
const NAME_BYTES: usize = 63;

fn cut(name: &str) -> &str {
    let end = (0..=NAME_BYTES.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_name_is_cut_between_characters() {
        assert_eq!(cut("sankofa/hr"), "sankofa/hr");
        assert_eq!(cut(&"x".repeat(70)).len(), 63);
        assert_eq!(cut(&"é".repeat(40)).len(), 62);
    }
}
