//! Servers: what stands in `host` and `port`, which may be lists.
//!
//! In:    libpq's `host` and `port`.
//! Out:   [`Endpoint`]s, in the order to try them.
//! Holds: pure; no name is looked up, none is quoted in an error.
//! Not here: which of them is chosen (`connect`).

use super::options::Checked;
use crate::error::Failure;
use std::fmt;
use std::net::IpAddr;

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

const DEFAULT_PORT: u16 = 5432;

/// Hosts by comma, each with its own port, one of as many ports, or the one port of all.
pub(super) fn endpoints(hosts: &str, ports: &Option<String>, port: Option<u16>) -> Checked<Vec<Endpoint>> {
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
