//! What libpq would make of a connection: hosts, database, user, TLS and the other options.
//!
//! In:    one connection of type `postgres`.
//! Out:   [`ConnectParams`], checked; nothing is opened or looked up.
//! Holds: pure; no part of a connection that could be a piece of its password is quoted.
//! Not here: which options there are (`options`), opening a session (`connect`), reading
//!        certificates (`tls`).

use super::endpoint::{Endpoint, endpoints};
use super::options::{Checked, Extra, check_extra};
use crate::error::Failure;
use crate::secret::Connection;
use secrecy::SecretString;
use std::path::PathBuf;
use std::time::Duration;

/// `sslmode`, from none to full verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses plain text.
    Allow,
    /// TLS if the server has it.
    Prefer,
    /// TLS; verified only against a given root certificate.
    Require,
    /// TLS, certificate verified, name not.
    VerifyCa,
    /// TLS, certificate and name verified.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// Not given: the system's, where something is to be verified.
    Unset,
    /// The system's own.
    System,
    /// A file of PEM certificates.
    File(PathBuf),
}

/// What is checked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// That the server holds its key; nothing else.
    Nothing,
    /// That a root certificate vouches for it.
    Chain,
    /// That, and that it names the host.
    ChainAndName,
}

/// Everything about TLS.
#[derive(Clone, Debug)]
pub struct TlsParams {
    /// `sslmode`; libpq's default, `prefer`, if not given.
    pub mode: SslMode,
    /// `sslrootcert`.
    pub roots: RootCertificates,
    /// `sslcert` and `sslkey`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `sslnegotiation=direct` (servers from 17).
    pub direct: bool,
    /// `ssl_min_protocol_version=TLSv1.3`.
    pub only_tls13: bool,
}

impl TlsParams {
    /// As libpq: a given root certificate is verified against in every mode.
    pub fn verification(&self) -> Verification {
        match (self.mode, &self.roots) {
            (SslMode::VerifyFull, _) => Verification::ChainAndName,
            (SslMode::VerifyCa, _) => Verification::Chain,
            (_, RootCertificates::Unset) => Verification::Nothing,
            (_, _) => Verification::Chain,
        }
    }
}

/// `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Or no session.
    Require,
}

/// `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first that answers.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that does not.
    ReadOnly,
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
    /// In recovery, or any if none is.
    PreferStandby,
}

/// TCP keepalives; always on unless `keepalives=0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether they are sent.
    pub on: bool,
    /// Silence before the first, s.
    pub idle_s: u32,
    /// Between two, s.
    pub interval_s: u32,
    /// Unanswered ones that end the connection.
    pub count: u32,
}

// A dead server is noticed after 30 + 3 * 10 = 60 s.
const KEEPALIVES: Keepalives = Keepalives { on: true, idle_s: 30, interval_s: 10, count: 3 };

/// A connection as it will be opened. Safe to print.
#[derive(Clone, Debug)]
pub struct ConnectParams {
    /// Id of the connection, for messages.
    pub id: String,
    /// Servers, to be tried in this order.
    pub endpoints: Vec<Endpoint>,
    /// Database.
    pub database: String,
    /// Role to log in as.
    pub user: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// TLS.
    pub tls: TlsParams,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
    /// `target_session_attrs`.
    pub target: Target,
    /// `options`, sent in the startup packet; poolers refuse it.
    pub options: Option<String>,
    /// `connect_timeout`, per address; none if not given, zero or negative.
    pub connect_timeout: Option<Duration>,
    /// TCP keepalives.
    pub keepalives: Keepalives,
    /// `tcp_user_timeout`.
    pub tcp_user_timeout: Option<Duration>,
}

// Types a message may name; another could be the first half of a password without its scheme.
const AIRFLOW_TYPES: &[&str] = &[
    "aws",
    "azure",
    "b2",
    "databricks",
    "docker",
    "elasticsearch",
    "ftp",
    "generic",
    "google_cloud_platform",
    "http",
    "https",
    "jdbc",
    "kubernetes",
    "mongo",
    "mssql",
    "mysql",
    "nomad",
    "odbc",
    "oracle",
    "redis",
    "redshift",
    "s3",
    "sftp",
    "smtp",
    "snowflake",
    "sqlite",
    "ssh",
    "trino",
    "vault",
];

impl ConnectParams {
    /// Reads `connection` as libpq reads its options.
    ///
    /// # Errors
    /// 78: another type, no database, no user, no host, an option that is unknown, refused or malformed.
    pub fn of(connection: &Connection) -> anyhow::Result<ConnectParams> {
        read(connection).map_err(|mut failure| {
            failure.what = format!("cannot use connection {}: {}", connection.id, failure.what);
            failure.into()
        })
    }
}

fn read(connection: &Connection) -> Checked<ConnectParams> {
    check_type(connection)?;
    check_extra(connection)?;
    check_for_stray_at(connection)?;
    let extra = Extra(&connection.extra);
    let newest = connection.newest();
    let newest_extra = Extra(&newest.extra);
    let wanted = |key, field: &Option<String>, name| {
        match if key == "user" { &newest_extra } else { &extra }
        .text(key)?
        .or(field.clone())
        .filter(|text| !text.is_empty())
    {
        Some(text) => Ok(text),
        None => Err(Failure::config(format!("it names no {name}"))
            .hint("An Airflow connection names the user as `login`, the database as `schema`; `postgres` is on every server.")),
    }
    };
    Ok(ConnectParams {
        id: connection.id.clone(),
        endpoints: endpoints(
            &wanted("host", &connection.host, "host")?,
            &extra.text("port")?,
            connection.port,
        )?,
        database: wanted("dbname", &connection.schema, "database (its schema)")?,
        user: wanted("user", &newest.login, "user (its login)")?,
        password: newest_extra
            .text("password")?
            .map(SecretString::from)
            .or_else(|| newest.password().cloned()),
        tls: tls(&extra)?,
        channel_binding: extra.word("channel_binding", CHANNEL_BINDING)?.unwrap_or(ChannelBinding::Prefer),
        target: extra.word("target_session_attrs", TARGET)?.unwrap_or(Target::Any),
        options: extra.text("options")?.filter(|text| !text.trim().is_empty()),
        connect_timeout: extra
            .number("connect_timeout")?
            .filter(|&s| s > 0)
            .map(|s| Duration::from_secs(s.unsigned_abs())),
        keepalives: keepalives(&extra)?,
        tcp_user_timeout: extra
            .number("tcp_user_timeout")?
            .filter(|&ms| ms > 0)
            .map(|ms| Duration::from_millis(ms.unsigned_abs())),
    })
}

impl SslMode {
    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        word_of(SSL_MODE, self)
    }
}

impl ChannelBinding {
    /// libpq's word for it.
    pub fn word(self) -> &'static str {
        word_of(CHANNEL_BINDING, self)
    }
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, known)| *known == meaning).map_or("", |(word, _)| word)
}

const SSL_MODE: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];
const CHANNEL_BINDING: &[(&str, ChannelBinding)] = &[
    ("disable", ChannelBinding::Disable),
    ("prefer", ChannelBinding::Prefer),
    ("require", ChannelBinding::Require),
];
const TARGET: &[(&str, Target)] = &[
    ("any", Target::Any),
    ("read-write", Target::ReadWrite),
    ("read-only", Target::ReadOnly),
    ("primary", Target::Primary),
    ("standby", Target::Standby),
    ("prefer-standby", Target::PreferStandby),
];
const MIN_TLS: &[(&str, bool)] =
    &[("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", false), ("TLSv1.3", true)];
const NEGOTIATION: &[(&str, bool)] = &[("postgres", false), ("direct", true)];

fn check_type(connection: &Connection) -> Checked<()> {
    let kind = connection.conn_type.as_deref().unwrap_or_default();
    let base = kind.split('+').next().unwrap_or_default();
    match kind {
        "postgres" => Ok(()),
        "" => Err(Failure::config("it has no type; postgres is needed")),
        _ if matches!(base, "postgres" | "postgresql") => {
            Err(Failure::config("its type is an SQLAlchemy dialect, not postgres")
                .hint("Begin its URI with postgres://."))
        }
        known if AIRFLOW_TYPES.contains(&known) => {
            Err(Failure::config(format!("its type is {known}, not postgres")))
        }
        _ => Err(Failure::config("its type is not postgres").hint("Begin its URI with postgres://.")),
    }
}

/// `postgres://u:a/b@h/db` puts half a password where host and database belong: nothing of it may be shown.
fn check_for_stray_at(connection: &Connection) -> Checked<()> {
    let stray = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('@'));
    let shifted = connection.login.is_none() && (stray(&connection.schema) || stray(&connection.host));
    match shifted {
        true => Err(Failure::config("it names no user, and an `@` stands behind its host")
            .hint("Percent-encode each of `/ ? #` in its password.")),
        false => Ok(()),
    }
}

fn tls(extra: &Extra) -> Checked<TlsParams> {
    let roots = match extra.text("sslrootcert")?.filter(|text| !text.is_empty()) {
        None => RootCertificates::Unset,
        Some(word) if word == "system" => RootCertificates::System,
        Some(path) => RootCertificates::File(path.into()),
    };
    let given = extra.word("sslmode", SSL_MODE)?;
    let mode = match (given, &roots) {
        (None, RootCertificates::System) => SslMode::VerifyFull,
        (Some(weak), RootCertificates::System) if weak != SslMode::VerifyFull => {
            return Err(Failure::config("sslrootcert=system needs sslmode=verify-full"));
        }
        (given, _) => given.unwrap_or(SslMode::Prefer),
    };
    let path = |key| Ok(extra.text(key)?.filter(|text| !text.is_empty()).map(PathBuf::from));
    let identity = match (path("sslcert")?, path("sslkey")?) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err(Failure::config("it has sslcert and no sslkey")),
        (None, Some(_)) => return Err(Failure::config("it has sslkey and no sslcert")),
    };
    let direct = extra.word("sslnegotiation", NEGOTIATION)?.unwrap_or(false);
    if direct && mode < SslMode::Require {
        return Err(Failure::config("sslnegotiation=direct needs sslmode=require or stronger"));
    }
    let only_tls13 = extra.word("ssl_min_protocol_version", MIN_TLS)?.unwrap_or(false);
    Ok(TlsParams { mode, roots, identity, direct, only_tls13 })
}

fn keepalives(extra: &Extra) -> Checked<Keepalives> {
    let number = |key, otherwise: u32| {
        // libpq: zero or negative is the system's default, here ours.
        let given = extra.number(key)?.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
        Ok::<u32, Failure>(given.unwrap_or(otherwise))
    };
    Ok(Keepalives {
        on: extra.number("keepalives")? != Some(0),
        idle_s: number("keepalives_idle", KEEPALIVES.idle_s)?,
        interval_s: number("keepalives_interval", KEEPALIVES.interval_s)?,
        count: number("keepalives_count", KEEPALIVES.count)?,
    })
}

#[cfg(test)]
#[path = "params_test.rs"]
mod tests;
