//! What libpq would make of a connection: hosts, database, user, TLS and the other options.
//!
//! In:    one connection of type `postgres`.
//! Out:   [`ConnectParams`], checked; nothing is opened or looked up.
//! Holds: pure; an option is obeyed, harmless, or refused by name, never silently dropped; no
//!        value is quoted, nor a key that resembles no option.
//! Not here: opening a session (`connect`), reading certificates (`tls`).
//!
//! Source: PostgreSQL 18 manual, 32.1.2 "Parameter Key Words"; Airflow's PostgresHook hands every
//! extra to libpq except those of [`AIRFLOW_ONLY`].

use crate::error::Failure;
use crate::secret::{Connection, UnusableExtra};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One server: a host and port, or a socket directory and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name, address, or directory of a Unix socket (starts with `/`).
    pub host: String,
    /// Port; also part of a socket's file name.
    pub port: u16,
    /// The address a name stood for when a session was opened; a pinned endpoint goes there.
    pub address: Option<IpAddr>,
}

impl Endpoint {
    /// Whether it is a Unix socket, where TLS is never spoken.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.as_str() {
            directory if self.is_socket() => write!(f, "{directory}/.s.PGSQL.{}", self.port),
            address if address.contains(':') => write!(f, "[{address}]:{}", self.port),
            name => write!(f, "{name}:{}", self.port),
        }
    }
}

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

/// Extras that Airflow's hooks read themselves and never hand to libpq.
pub const AIRFLOW_ONLY: &[&str] = &[
    "iam",
    "redshift",
    "redshift-serverless",
    "cursor",
    "cluster-identifier",
    "workgroup-name",
    "aws_conn_id",
    "azure_conn_id",
    "sqlalchemy_scheme",
    "sqlalchemy_query",
];

/// What becomes of a libpq option.
enum Treatment {
    /// It is obeyed.
    Obeyed,
    /// It changes nothing here.
    Ignored,
    /// These values change nothing here; any other is refused.
    Only(&'static [&'static str]),
    /// It is refused, for this reason.
    Refused(&'static str),
}

use Treatment::{Ignored, Obeyed, Only, Refused};

const OPTIONS: &[(&str, Treatment)] = &[
    ("host", Obeyed),
    ("port", Obeyed),
    ("dbname", Obeyed),
    ("user", Obeyed),
    ("password", Obeyed),
    ("channel_binding", Obeyed),
    ("connect_timeout", Obeyed),
    ("options", Obeyed),
    ("keepalives", Obeyed),
    ("keepalives_idle", Obeyed),
    ("keepalives_interval", Obeyed),
    ("keepalives_count", Obeyed),
    ("tcp_user_timeout", Obeyed),
    ("sslmode", Obeyed),
    ("sslnegotiation", Obeyed),
    ("sslcert", Obeyed),
    ("sslkey", Obeyed),
    ("sslrootcert", Obeyed),
    ("ssl_min_protocol_version", Obeyed),
    ("target_session_attrs", Obeyed),
    ("application_name", Ignored),
    ("fallback_application_name", Ignored),
    ("krbsrvname", Ignored),
    ("gsslib", Ignored),
    ("sslcompression", Ignored), // no TLS library has it any more
    ("client_encoding", Only(&["utf8", "utf-8", "UTF8", "UTF-8", "auto", "unicode"])),
    ("gssencmode", Only(&["disable", "prefer"])),
    ("gssdelegation", Only(&["0"])),
    ("load_balance_hosts", Only(&["disable"])),
    ("replication", Only(&["false", "off", "no", "0"])),
    ("requiressl", Only(&["0"])),
    ("sslcertmode", Only(&["allow"])),
    ("sslsni", Only(&["1"])),
    ("ssl_max_protocol_version", Only(&["", "TLSv1.3"])),
    ("sslpassword", Refused("give it a key that is not encrypted")),
    ("hostaddr", Refused("write the address as host")),
    ("passfile", Refused("the password belongs into the connection")),
    ("service", Refused("host, schema and login belong into the connection")),
    ("servicefile", Refused("host, schema and login belong into the connection")),
    ("require_auth", Refused("use channel_binding=require")),
    ("requirepeer", Refused("it is not supported")),
    ("sslcrl", Refused("it is not supported")),
    ("sslcrldir", Refused("it is not supported")),
    ("sslkeylogfile", Refused("it would write TLS keys to a file")),
    ("scram_client_key", Refused("it is not supported")),
    ("scram_server_key", Refused("it is not supported")),
    ("min_protocol_version", Only(&["3.0"])),
    ("max_protocol_version", Ignored), // 3.0 is spoken, which every bound allows
    ("oauth_issuer", Refused("it is not supported")),
    ("oauth_client_id", Refused("it is not supported")),
    ("oauth_client_secret", Refused("it is not supported")),
    ("oauth_scope", Refused("it is not supported")),
];

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

type Checked<T> = Result<T, Failure>;

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
    let wanted = |key, field: &Option<String>, name| match extra
        .text(key)?
        .or(field.clone())
        .filter(|text| !text.is_empty())
    {
        Some(text) => Ok(text),
        None => Err(Failure::config(format!("it names no {name}"))),
    };
    Ok(ConnectParams {
        id: connection.id.clone(),
        endpoints: endpoints(
            &wanted("host", &connection.host, "host")?,
            &extra.text("port")?,
            connection.port,
        )?,
        database: wanted("dbname", &connection.schema, "database (its schema)")?,
        user: wanted("user", &connection.login, "user (its login)")?,
        password: extra.text("password")?.map(SecretString::from).or_else(|| connection.password().cloned()),
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

fn check_extra(connection: &Connection) -> Checked<()> {
    match &connection.unusable_extra {
        Some(UnusableExtra::NotJson) => return Err(Failure::config("its extra is not JSON")),
        Some(UnusableExtra::NotAnObject(_)) => {
            return Err(Failure::config("its extra is JSON, but no object"));
        }
        None => {}
    }
    for (nth, (key, value)) in connection.extra.iter().enumerate() {
        if AIRFLOW_ONLY.contains(&key.as_str()) {
            continue;
        }
        let Some((name, treatment)) = OPTIONS.iter().find(|(name, _)| name == key) else {
            return Err(unknown_option(nth + 1, key));
        };
        match treatment {
            Obeyed | Ignored => {}
            Only(harmless) => match scalar(name, value)? {
                Some(text) if !harmless.contains(&text.as_str()) => {
                    let choice = harmless.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
                    return Err(Failure::config(format!(
                        "its {name} can only be {} here",
                        choice.join(" or ")
                    )));
                }
                _ => {}
            },
            Refused(reason) => return Err(Failure::config(format!("its {name} is refused: {reason}"))),
        }
    }
    Ok(())
}

/// Names the nearest option; the key itself only if it is a plain misspelling of it.
fn unknown_option(nth: usize, key: &str) -> Failure {
    let nearest = OPTIONS
        .iter()
        .map(|(name, _)| (strsim::damerau_levenshtein(name, &key.to_lowercase()), *name))
        .min()
        .filter(|(distance, name)| *distance <= 3 && *distance * 2 < name.len());
    match nearest {
        Some((_, name)) => Failure::config(format!("{key} is no option of libpq"))
            .hint(format!("The nearest option is {name}.")),
        None => Failure::config(format!("number {nth} of its extras is no option of libpq"))
            .hint("A `?` or `/` in its password that is not percent-encoded also makes extras."),
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

const DEFAULT_PORT: u16 = 5432;

/// Hosts by comma, each with its own port, one of as many ports, or the one port of all.
fn endpoints(hosts: &str, ports: &Option<String>, port: Option<u16>) -> Checked<Vec<Endpoint>> {
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let ports: Vec<u16> = match ports.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => vec![one_port(&port.unwrap_or(DEFAULT_PORT).to_string())?],
        Some(list) => list.split(',').map(|text| one_port(text.trim())).collect::<Checked<_>>()?,
    };
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(Failure::config(format!("it has {} ports for {} hosts", ports.len(), hosts.len())));
    }
    let port_of = |nth: usize| ports.get(nth).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
    hosts.iter().enumerate().map(|(nth, host)| endpoint(host, port_of(nth))).collect()
}

fn endpoint(host: &str, port: u16) -> Checked<Endpoint> {
    let (host, port) = match host {
        "" => return Err(Failure::config("one of its hosts is empty")),
        path if path.starts_with('/') => (path, port),
        other => match other.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, "")) => (address, port),
            Some((address, rest)) => (address, one_port(rest.strip_prefix(':').unwrap_or(rest))?),
            None => match other.split_once(':') {
                Some((name, own)) if !own.contains(':') => (name, one_port(own)?),
                _ => (other, port), // an IPv6 address without brackets, or no colon at all
            },
        },
    };
    match host.contains(['@', '\0']) {
        true => Err(Failure::config("one of its hosts is no host name")),
        false => Ok(Endpoint { host: host.into(), port, address: None }),
    }
}

fn one_port(text: &str) -> Checked<u16> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        Err(_) if text.is_empty() => Ok(DEFAULT_PORT),
        _ => Err(Failure::config("one of its ports is no number from 1 to 65535")),
    }
}

/// A scalar by its text: Airflow gives the same extra as text, number or boolean.
fn scalar(key: &str, value: &Value) -> Checked<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(Failure::config(format!("its {key} is neither a text nor a number")))
        }
    }
}

struct Extra<'a>(&'a Map<String, Value>);

impl Extra<'_> {
    fn text(&self, key: &'static str) -> Checked<Option<String>> {
        self.0.get(key).map_or(Ok(None), |value| scalar(key, value))
    }

    fn number(&self, key: &'static str) -> Checked<Option<i64>> {
        match self.text(key)?.filter(|text| !text.trim().is_empty()) {
            None => Ok(None),
            Some(text) => match text.trim().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Failure::config(format!("its {key} is no whole number"))),
            },
        }
    }

    fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Checked<Option<T>> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let choice = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                Err(Failure::config(format!("its {key} is none of {choice}")))
            }
        }
    }
}

#[cfg(test)]
#[path = "params_test.rs"]
mod tests;
